"""What `syncd backup` and `syncd restore` say: which copy it is, how old, what it means to put it back."""

from pathlib import Path

from syncd.backup import Made
from syncd.report.text import ago, clean, count, duration, iso, moment, say, say_json, talk
from syncd.restore import Offer
from syncd.state.copy import Copy
from syncd.state.marker import Standing

STANDINGS = {
    Standing.ABSENT: "where no state is yet",
    Standing.LOST: "in the place of the state that is gone",
    Standing.RESTORED: "in the place of a state that is not the newest one",
    Standing.GOOD: "in the place of a state that can be used as it is",
    None: "in the place of a state that cannot be read",
}


def made_json(made: Made) -> None:
    """One object; `kept` is null for a copy of one's own."""
    say_json(
        {
            "file": str(made.copy.path),
            "made_at": iso(made.copy.made_s),
            "contacts": made.copy.contact_count,
            "bytes": made.copy.size,
            "dropped": made.dropped,
            "kept": made.kept,
            "seconds": made.seconds,
        }
    )


def made_words(made: Made) -> None:
    """A line for the copy, one for those that were there before."""
    say(
        f"Copied the state to {clean(str(made.copy.path))}: it is sound"
        f"  ({_holds(made.copy)}, {duration(made.seconds)})"
    )
    if made.kept is not None:
        dropped = f", {count(made.dropped, 'older one')} deleted" if made.dropped else ""
        say(f"  {count(made.kept, 'copy', 'copies')} there now{dropped}")


def offer_words(offer: Offer, path: Path, *, now_s: float) -> None:
    """Before the question, beside the answer: what would be put where, and what that means."""
    made_s = offer.copy.made_s
    made = "" if made_s is None else f", made {moment(made_s)} ({ago(made_s, now_s=now_s)})"
    talk(f"A sound copy{made}: {_holds(offer.copy)}")
    talk(f"It is to stand at {clean(str(path))}, {STANDINGS[offer.was]}.")
    talk(
        "It does not know who was mailed since. So everybody is read from FluenzR and the sources:"
    )
    talk(
        "  nobody is mailed, and nobody who is known today joins a dynamic group or a campaign again;"
    )
    talk("  whoever is not in FluenzR is not created until `syncd release`.")


def not_restored(was: Standing | None) -> None:
    """After an error: what stands there now."""
    if was is Standing.RESTORED:
        talk(
            "A state that is not the newest one stands there; nothing is sent from it before `syncd reconcile`"
        )
    else:
        talk("The state is what it was before")


def _holds(copy: Copy) -> str:
    return f"{count(copy.contact_count, 'contact')}, {_size(copy.size)}"


def _size(size: int) -> str:
    mib = size / (1024 * 1024)
    return f"{mib:.1f} MiB" if mib < 100 else f"{mib:,.0f} MiB"
