"""What `sandbox` and `demo` say."""

from typing import TYPE_CHECKING

from syncd.report.text import say, style

if TYPE_CHECKING:
    from syncd.demo import Chapter, Demo


def sandbox_ready(*, url: str, page_url: str, key: str) -> None:
    """Where the sandbox is, and how to use it."""
    say("A FluenzR-compatible account, empty, in memory only. Ctrl-C ends it.")
    say(f"  API   {url}")
    say(f"  key   {key}   (any key of this shape)")
    say(f"  page  {page_url}   contacts, groups, and the e-mails that would have gone out")
    say("Next, in another terminal:")
    say(f"  FLUENZR_API_KEY={key} SYNCD_FLUENZR__BASE_URL={url} syncd plan")


def chapter(number: int, part: "Chapter") -> None:
    """One part of the story."""
    say(f"{number}. {style(part.title, 'bold')}")
    for fact in part.facts:
        say(f"   {fact}")


def demo_over(demo: "Demo") -> None:
    """Where to look, and what to type next."""
    command = f"syncd --config {demo.config}"
    say()
    say(f"Everything is kept in {demo.folder}: people.csv, config.toml, syncd.db. Look at it:")
    say(f"  {command} history")
    say(f"  {command} why {demo.example()}")
    say("Next, with your own contacts: syncd init")
