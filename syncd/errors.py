"""Every error that we raise on purpose: its three texts, its effect, its exit code.

SyncdError                      what happened, why, what to do next; exit code 1
|-- UsageError                  the command line is wrong; 2
|-- ConfigError                 the configuration is wrong, at `place`; 2
|-- StateError                  the state cannot be used; nothing was done; 1
|   |-- StateBusy               another process holds it; 5
|   |-- CopyRefused             a file that is no sound copy of this state; nothing was done; 2
|   |-- StateLost               it was here before and is gone; only `reconcile` and `check` run; 1
|   `-- StateRestored           it is older than what was sent from here; only `reconcile` and what only looks run; 1
|-- SourceError                 a read did not complete: it counts as no read; tried again next run; 1
|   |-- SourceDenied            401, 403: the login is not taken, or may not read this
|   |-- SourceRefused           another 4xx: the request is wrong for this vendor
|   |-- SourceTooLarge          an answer is larger than we take: a connector may ask for less at a time
|   `-- SourceExhausted         the vendor's requests of the day are used up
|-- Interrupted                 SIGINT or SIGTERM; the run stops between two steps; 130
|-- NotDelivered                an alert was not taken; it is told again at the next look
|-- NoAnswer                    an HTTP request without a response; users of `syncd.http` make it theirs
`-- FluenzrError                FluenzR did not do what was asked
    |-- Unanswered              5xx, time-out, reset, garbage: it may or may not have been applied
    |-- Refused                 400, 413, 422: definitely not applied
    |   |-- NotFound            404
    |   |-- NotSupported        405 (and 404 on an endpoint that some accounts lack)
    |   `-- Conflict            409: the address is taken
    |-- Throttled               429 until our patience ended: definitely not applied; ends the run
    `-- AccessDenied            401, 403: definitely not applied; ends the run
        |-- KeyNotAccepted      401: not a key of this account
        |-- ReadOnlyKey         403 on a change: the key may only read
        `-- PlanWithoutApi      403: the account's plan has no API
"""

from typing import ClassVar


class SyncdError(Exception):
    """An error with three texts; `str(error)` holds them all.

    what: what happened, where. why: the cause, in the words of whoever refused. hint: what to do next.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        self.what, self.why, self.hint = what, why, hint
        super().__init__(" ".join(_sentence(part) for part in (what, why, hint) if part))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


class UsageError(SyncdError):
    """The command line asks for something that cannot be."""

    exit_code: ClassVar[int] = 2


class ConfigError(SyncdError):
    """The configuration is wrong; `place` is the dotted path of the key, such as `sync.customers.fields.phone`."""

    exit_code: ClassVar[int] = 2

    def __init__(self, what: str, *, place: str = "", why: str = "", hint: str = "") -> None:
        self.place = place
        super().__init__(f"{place}: {what}" if place else what, why=why, hint=hint)


class StateError(SyncdError):
    """The state file cannot be used; nothing was sent."""


class StateBusy(StateError):
    """Another process holds the state's lock."""

    exit_code: ClassVar[int] = 5


class CopyRefused(StateError):
    """A file that is not a copy of this state, or not a sound one. damaged: it is one, and cannot be used."""

    exit_code: ClassVar[int] = 2

    def __init__(self, what: str, *, why: str = "", hint: str = "", damaged: bool = False) -> None:
        self.damaged = damaged
        super().__init__(what, why=why, hint=hint)


class StateLost(StateError):
    """The marker says that a state was here; it is gone."""


class StateRestored(StateError):
    """A backup stands in the state's place: it does not know who was mailed since, so nothing is sent from it."""


class SourceError(SyncdError):
    """A read that did not complete. It is no read: nothing of it is promoted, nobody is removed by it."""


class SourceDenied(SourceError):
    """The source does not take the login, or it may not read this."""


class SourceRefused(SourceError):
    """The source understood the request and refuses it. status: of HTTP."""

    def __init__(self, what: str, *, status: int, why: str = "", hint: str = "") -> None:
        self.status = status
        super().__init__(what, why=why, hint=hint)


class SourceTooLarge(SourceError):
    """An answer of the source is larger than is taken at once."""


class SourceExhausted(SourceError):
    """The source allows no more requests today."""


class Interrupted(SyncdError):
    """Asked to stop; everything that was sent is recorded as in flight."""

    exit_code: ClassVar[int] = 130


class NotDelivered(SyncdError):
    """An alert was not taken; it is told again at the next look."""


class NoAnswer(SyncdError):
    """An HTTP request to which no response came. sent: False when certainly nothing of it left this machine."""

    def __init__(self, what: str, *, why: str = "", hint: str = "", sent: bool) -> None:
        self.sent = sent
        super().__init__(what, why=why, hint=hint)


class FluenzrError(SyncdError):
    """FluenzR did not do what was asked. status: the HTTP status, 0 without an answer."""

    def __init__(
        self, what: str, *, status: int = 0, code: str = "", why: str = "", hint: str = ""
    ) -> None:
        self.status, self.code = status, code
        super().__init__(what, why=why, hint=hint)


class Unanswered(FluenzrError):
    """No answer that can be trusted: the request may have been applied, or may be applied yet.

    answered: nothing of it can still be on its way, so that it may be read at once: a response arrived (HTML, garbage,
    counts that do not fit, FluenzR's own 500), or the request was never sent (no connection). False after a time-out,
    a reset, or a gateway's 502, 503, 504: whatever stands behind may still be at work on it.
    """

    def __init__(
        self,
        what: str,
        *,
        status: int = 0,
        code: str = "",
        why: str = "",
        hint: str = "",
        answered: bool = False,
    ) -> None:
        self.answered = answered
        super().__init__(what, status=status, code=code, why=why, hint=hint)


class Refused(FluenzrError):
    """A definite refusal in FluenzR's own words: nothing was applied."""


class NotFound(Refused):
    """404: no such contact, group or campaign."""


class NotSupported(Refused):
    """405, or 404 on an endpoint: this account does not have it."""


class Conflict(Refused):
    """409: the e-mail address belongs to another contact."""


class Throttled(FluenzrError):
    """429 again and again, or a wait longer than our patience: nothing was applied. The run ends."""


class AccessDenied(FluenzrError):
    """401 or 403: a wrong key, a read-only key, or a plan without API. The run ends."""


class KeyNotAccepted(AccessDenied):
    """401: FluenzR does not know the key."""


class ReadOnlyKey(AccessDenied):
    """403 for a change: the key may only read."""


class PlanWithoutApi(AccessDenied):
    """403: the API belongs to the Pro plan."""
