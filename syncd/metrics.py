"""The numbers that Prometheus collects, read from the state: /metrics and the textfile say the same, whatever process writes them.

Labels are names of syncs and fixed words: nobody's address, and as many series as there are syncs. A time is in epoch seconds, 0
where it never was.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder, generate_latest

from syncd import __version__
from syncd.config import Settings
from syncd.core.result import Status
from syncd.errors import StateError
from syncd.state import health, story
from syncd.state.store import Connection

FATES = ("read", "gone", "skipped", "opted_out", "unchanged", "changed")  # of records
CHANGES = (  # of people
    *("created", "updated", "moved", "removed", "grouped", "ungrouped", "enrolled"),
    *("quarantined", "held"),
)
SYNC = "syncd_sync_"
TEXTFILE_MODE = 0o644  # node_exporter reads it as another user; no person is in it

Counts = dict[str, tuple[int, int]]


class Numbers:
    """Reads the state each time it is asked; counting everybody is done once after each run."""

    def __init__(self) -> None:
        self._counted: tuple[Path, int, Counts] | None = None

    def exposition(self, settings: Settings, *, accept: str = "") -> tuple[bytes, str]:
        """What /metrics answers, and its content type. accept: the request's header."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry(settings)), content_type

    def write(self, settings: Settings) -> None:
        """Write the textfile, where there is to be one: at once or not at all. Raises StateError."""
        path = settings.metrics.textfile
        if path is None:
            return
        text = generate_latest(self._registry(settings))
        part = path.with_name(f".{path.name}.{os.getpid()}")  # the collector reads *.prom only
        try:
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, TEXTFILE_MODE)
            with open(handle, "wb") as file:  # noqa: PTH123 - of a handle
                os.fchmod(handle, TEXTFILE_MODE)  # whatever the umask is
                file.write(text)
            part.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise StateError(
                f"The metrics cannot be written to {path}",
                why=error.strerror or "",
                hint="Make the folder, writable for the user that runs syncd; or correct [metrics] textfile",
            ) from None

    def _registry(self, settings: Settings) -> CollectorRegistry:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected([*self._families(settings)]))
        return registry

    def _families(self, settings: Settings) -> Iterator[GaugeMetricFamily]:
        build = GaugeMetricFamily("syncd_build_info", "The version that runs.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        fluenzr = settings.fluenzr
        yield GaugeMetricFamily(
            "syncd_request_limit_per_minute",
            "Requests a minute that are made at most: requests_per_minute times share.",
            value=fluenzr.requests_per_minute * fluenzr.share,
        )
        usable, found = 1, list[GaugeMetricFamily]()
        try:
            found = self._of_state(settings)
        except StateError:
            usable = 0
        yield GaugeMetricFamily(
            "syncd_state_usable", "Whether the state can be read: without it nothing runs.", usable
        )
        yield from found

    def _of_state(self, settings: Settings) -> list[GaugeMetricFamily]:
        with story.reading(settings.state.path) as db:
            if db is None:
                return _named(settings)
            return [*_of_syncs(settings, db, self._counts(settings.state.path, db)), *_of_all(db)]

    def _counts(self, path: Path, db: Connection) -> Counts:
        run = health.last_run(db)
        if self._counted is None or self._counted[:2] != (path, run):
            self._counted = (path, run, health.live_counts(db))
        return self._counted[2]


class _Collected:
    """Families that are there already, as prometheus_client wants them."""

    def __init__(self, families: list[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> list[GaugeMetricFamily]:
        """All of them."""
        return self._families


class _Syncs:
    """The families with a label for the sync."""

    def __init__(self) -> None:
        self.families: dict[str, GaugeMetricFamily] = {}
        for name, words in {
            "last_success_timestamp_seconds": "When the sync last succeeded.",
            "last_run_timestamp_seconds": "When its last run ended, whatever came of it.",
            "last_run_duration_seconds": "How long its last run took.",
            "last_run_requests": "Requests to FluenzR of its last run; what all syncs share counts with the first.",
            "failed_runs": "Runs that failed in a row, up to now.",
            "records": "Records of the source that count now.",
            "people": "People in FluenzR whom the sync looks after.",
            "held_people": "People whose change waits for an approval.",
            "quarantined_people": "People whose change FluenzR refuses, or that was put off.",
            "bounced_people": "People of the sync whose address has bounced.",
            "unsubscribed_people": "People of the sync who have unsubscribed.",
        }.items():
            self._add(name, words)
        self._add("last_run_status", "1 for how its last run ended.", "status")
        self._add("last_run_records", "What became of the records of its last run.", "fate")
        self._add("last_run_people", "What its last run did, in people.", "change")

    def _add(self, name: str, words: str, *labels: str) -> None:
        self.families[name] = GaugeMetricFamily(SYNC + name, words, labels=["sync", *labels])

    def set(self, name: str, value: float, *labels: str) -> None:
        """One value. labels: the sync's name first."""
        self.families[name].add_metric(labels, value)


def _of_syncs(settings: Settings, db: Connection, counts: Counts) -> list[GaugeMetricFamily]:
    out = _Syncs()
    for name in settings.syncs:
        now = story.sync_now(db, name)
        records, people = counts.get(name, (0, 0))
        out.set("last_success_timestamp_seconds", now.completed_s or 0, name)
        out.set("failed_runs", now.failures, name)
        out.set("records", records, name)
        out.set("people", people, name)
        out.set("held_people", now.held - now.approved, name)
        out.set("quarantined_people", now.stuck, name)
        out.set("bounced_people", now.bounced, name)
        out.set("unsubscribed_people", now.unsubscribed, name)
        _last_run(out, name, now.last)
    return list(out.families.values())


def _last_run(out: _Syncs, name: str, last: story.Part | None) -> None:
    told = last.counts if last else {}
    out.set("last_run_timestamp_seconds", (last.ended_s if last else None) or 0, name)
    out.set("last_run_duration_seconds", told.get("seconds", 0), name)
    out.set("last_run_requests", told.get("requests", 0), name)
    for status in Status:
        out.set("last_run_status", bool(last and last.status == status), name, status)
    for fate in FATES:
        out.set("last_run_records", told.get(fate, 0), name, fate)
    for change in CHANGES:
        out.set("last_run_people", told.get(change, 0), name, change)


def _of_all(db: Connection) -> Iterator[GaugeMetricFamily]:
    waiting, since_s = health.opt_outs_waiting(db)
    yield GaugeMetricFamily(
        "syncd_opt_outs_read_timestamp_seconds",
        "When it was last read who has opted out, bounced or been blocked in FluenzR.",
        health.opt_outs_read_s(db) or 0,
    )
    yield GaugeMetricFamily(
        "syncd_opt_outs_waiting_people",
        "People who opted out in a source, and FluenzR was not told yet.",
        waiting,
    )
    yield GaugeMetricFamily(
        "syncd_opt_outs_waiting_since_timestamp_seconds",
        "Since when the first of them waits; no value where nobody does.",
        since_s,
    )
    yield GaugeMetricFamily(
        "syncd_in_flight_people",
        "People of whom something was sent and is not confirmed yet.",
        health.in_flight(db),
    )


def _named(settings: Settings) -> list[GaugeMetricFamily]:
    """Nothing has run yet."""
    out = _Syncs()
    for name in settings.syncs:
        out.set("last_success_timestamp_seconds", 0, name)
    return list(out.families.values())
