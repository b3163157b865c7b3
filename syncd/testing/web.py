"""The conformance suite for a connector of a web API: its author says only what the vendor answers.

    class TestAcme(WebSuite):
        connector = AcmeConnector

        def row(self, record, changed):
            return {**record, "changed": changed}

        def answer(self, asked):
            return {"people": list(self.rows.values())}

The server, its clock, its changes and its break are given. Secrets that the options need get SECRET_REFERENCE, `base_url` the server's.
"""

# ruff: noqa: ARG002  the methods to be given by a subclass use none of their arguments here

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from syncd.connector import Connector, Context
from syncd.http import parse_time, rfc3339
from syncd.secret import Secret
from syncd.testing.conformance import SECRET_REFERENCE, ConnectorSuite
from syncd.testing.server import Asked, Double, Told


class WebSuite(ConnectorSuite):
    """Inherit as `class TestAcme(WebSuite)`.

    connector: the class under test. good_answers: how many come before a broken source breaks: a login, what stands beside
    the people, and their first page. rows: what the vendor holds, as `row` shows it, by the records' `id`.
    """

    connector: type[Connector]
    good_answers = 2

    def row(self, record: Mapping[str, str], changed: str) -> Mapping[str, Any]:
        """A record as the vendor has it. changed: the time of its last change, RFC 3339 in UTC."""
        pytest.fail("Give the suite a method `row`")

    def answer(self, asked: Asked) -> Any:
        """What the vendor says: JSON, or a `Told` with status, body and headers."""
        pytest.fail("Give the suite a method `answer`")

    def options(self) -> Mapping[str, Any]:
        """The connector's options; more than these only where it needs more."""
        fields = self.connector.OPTIONS.model_fields
        secrets = [name for name, field in fields.items() if field.annotation is Secret]
        return {"base_url": self.server.url} | dict.fromkeys(secrets, SECRET_REFERENCE)

    def source(self, folder: Path, records: Sequence[Mapping[str, str]]) -> Connector:
        """The connector over a vendor that holds just these."""
        self.rows.clear()
        self.server.broken_after = None
        self.change(folder, records)
        options = self.connector.OPTIONS.model_validate(self.options())
        return self.connector(options, Context(folder, self.server.clock))

    def change(self, folder: Path, records: Sequence[Mapping[str, str]]) -> None:
        """A second later, the vendor has these."""
        self.server.clock.advance_s(1)
        moment = parse_time(self.server.clock.now_s())
        assert moment is not None
        for record in records:
            self.rows[record["id"]] = self.row(record, rfc3339(moment))

    def break_source(self, folder: Path) -> None:
        """After the good answers, every other one is a 500."""
        self.server.broken_after = len(self.server.asked) + self.good_answers

    @pytest.fixture(autouse=True)
    def _vendor(self) -> Iterator[None]:
        self.rows: dict[str, Mapping[str, Any]] = {}
        with _Vendor(self) as self.server:
            yield


class _Vendor(Double):
    """The server that says what the suite says."""

    def __init__(self, suite: WebSuite) -> None:
        super().__init__()
        self._suite = suite

    def answer(self, asked: Asked) -> Told:
        said = self._suite.answer(asked)
        return said if isinstance(said, Told) else Told(200, said)
