"""Files of the repository that are pages of the site too, though they stand where their readers look first."""

import re
from pathlib import Path, PurePosixPath

from handbook.markdown import code

ROOT = Path(__file__).parents[1]

_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)]+)\)")


def text(name: str, page: str) -> str:
    """The file as part of the site's page `page` (below docs/): its links lead to the site's pages, or are none."""
    path = ROOT / name
    if path.suffix != ".md":
        return code(path.read_text("utf-8"), path.suffix.removeprefix("."))
    return _LINK.sub(lambda link: _led(link[1], link[2], path, page), path.read_text("utf-8"))


def _led(words: str, target: str, file: Path, page: str) -> str:
    there = (file.parent / target.partition("#")[0]).resolve()
    docs = ROOT / "docs"
    if not there.is_relative_to(docs) or there.suffix != ".md":
        return words if words.startswith("`") else f"{words} (`{there.relative_to(ROOT)}`)"
    up = "../" * len(PurePosixPath(page).parent.parts)
    return f"[{words}]({up}{there.relative_to(docs)})"
