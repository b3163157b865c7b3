"""The site's hook: where a page says `<!-- handbook: NAME -->`, what the code says stands in the built page.

MkDocs calls `on_page_markdown` for each page. A name that nobody knows fails the build.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from handbook import commands, configuration, connectors, events, exit_codes, outside

PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "commands": commands.markdown,
    "configuration": configuration.markdown,
    "connectors": connectors.markdown,
    "connectors in a line each": connectors.summaries,
    "events": events.markdown,
    "exit codes": exit_codes.markdown,
    "guards": configuration.guards,
    "writers": connectors.writers,
}
FILE: Final = "file "  # and its path in the repository

_MARK = re.compile(r"^<!-- handbook: (.+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page's text with its parts from the code."""
    return filled(markdown, page.file.src_uri)


def filled(text: str, page: str) -> str:
    """The same. page: its path below docs/. Raises KeyError."""
    return _MARK.sub(lambda mark: _part(mark[1], page), text)


def _part(name: str, page: str) -> str:
    if name.startswith(FILE):
        return outside.text(name.removeprefix(FILE), page)
    return PARTS[name]()
