"""Looking how everything stands, after each run and once a minute: the textfile is written, and whoever is to be told is told.

The daemon has a thread for it, which neither a run that lasts nor an address that does not answer keeps waiting; a command looks once,
at its end. Nothing of it ever stops a run.
"""

import threading
from collections.abc import Callable

import structlog

from syncd import alerts
from syncd.clock import Clock
from syncd.config import Settings
from syncd.errors import SyncdError
from syncd.log import told_bug
from syncd.metrics import Numbers

LOOK_S = 60.0
STOP_S_MAX = 2.0  # for a sending that is under way; what is not noted as told is told again
METRICS_POSTPONED = (
    "metrics.postponed"  # the textfile could not be written; tried again at the next look
)

log = structlog.get_logger(__name__)


def look(settings: Settings, *, clock: Clock, numbers: Numbers | None = None) -> None:
    """Once. numbers: kept by whoever looks often. Never raises but for an end of the process."""
    try:
        _write(settings, numbers or Numbers())
        alerts.look(settings, clock=clock)
    except Exception as problem:  # noqa: BLE001 - told, and the rest goes on
        told_bug(log, problem)  # ours, or that of a service's module in Apprise


def _write(settings: Settings, numbers: Numbers) -> None:
    try:
        numbers.write(settings)
    except SyncdError as error:
        log.error(METRICS_POSTPONED, why=str(error))  # noqa: TRY400 - it explains itself


class Lookout:
    """The daemon's thread."""

    def __init__(self, settings: Callable[[], Settings], *, clock: Clock) -> None:
        """settings: asked each time, for a reload may have changed them."""
        self._settings, self._clock, self._numbers = settings, clock, Numbers()
        self._wake, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lookout", daemon=True)

    def start(self) -> None:
        """Look now, and from now on."""
        self._thread.start()

    def wake(self) -> None:
        """Something has happened: look at once."""
        self._wake.set()

    def stop(self) -> bool:
        """Look no more; whether it has ended: a sending that is under way is waited for, not for long."""
        self._over.set()
        self._wake.set()
        self._thread.join(timeout=STOP_S_MAX)
        return not self._thread.is_alive()

    def _watch(self) -> None:
        while not self._over.is_set():
            self._wake.clear()
            look(self._settings(), clock=self._clock, numbers=self._numbers)
            self._wake.wait(LOOK_S)
