"""Files at URLs: the same rows as here, from the server that was meant, or an error in words."""

import gzip
import os
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import trustme
from file_servers import (  # noqa: F401 - fixtures
    CSV,
    LONG_AGO,
    MANY,
    Page,
    authority_fixture,
    csv_at,
    failure,
    https,
    keys,
    sftp,
    spare_room_fixture,
    trusted_fixture,
    web_fixture,
)
from pyarrow import parquet
from pydantic import ValidationError
from sheets import (
    row,
    workbook,
)

from connectors.csv import CsvConnector, CsvOptions
from connectors.jsonl import JsonlConnector, JsonlOptions
from connectors.parquet import ParquetConnector, ParquetOptions
from connectors.xlsx import XlsxConnector, XlsxOptions
from syncd.connector import Context, Request
from syncd.errors import ConfigError, SourceDenied, SourceError
from syncd.remote.intake import Stamp
from syncd.testing.clock import FakeClock
from syncd.testing.conformance import SECRET, SECRET_REFERENCE, ConnectorSuite

# Options


@pytest.mark.parametrize(
    ("path", "storage", "says"),
    [
        ("http://files.example.com/people.csv", {}, "files are read from https, s3, sftp://"),
        ("file:///people.csv", {}, "not from file://"),
        ("ftp://files.example.com/people.csv", {}, "not from ftp://"),
        (f"sftp://ann:{SECRET}@files.example.com/people.csv", {}, "a URL holds no password"),
        (f"https://{SECRET}@files.example.com/people.csv", {}, "a URL holds no password"),
        (f"https://files.example.com/p.csv?X-Amz-Signature={SECRET}", {}, "holds a secret"),
        (f"https://files.example.com/p.csv?sig={SECRET}", {}, "holds a secret"),
        ("https://files.example.com/", {}, "a path to a file"),
        ("s3://people", {}, "a path to a file"),
        ("https://[::1/people.csv", {}, "not a URL"),
        ("s3://people/p.csv", {"username": "ann"}, "'username' is no option of s3://"),
        ("sftp://files.example.com/p.csv", {"key": "env:X"}, "'key' is no option of sftp://"),
        ("people.csv", {"key": "env:X"}, "for URLs only"),
        ("s3://people/p.csv", {"secret": SECRET}, "a secret is written as a reference"),
        ("https://files.example.com/p", {"headers": {"X-Key": SECRET}}, "written as a reference"),
        ("s3://people/p.csv", {"verify": False}, "verify"),
        ("sftp://files.example.com/p.csv", {"host_key_policy": "auto_add"}, "host_key_policy"),
    ],
)
def test_options_that_leak_or_mean_nothing_are_refused(path, storage, says):
    with pytest.raises(ValidationError, match=says) as caught:
        csv_at(path, **storage)
    assert SECRET not in str(caught.value)


def test_a_url_with_a_secret_is_a_reference(web, monkeypatch):
    monkeypatch.setenv("EXPORT_URL", f"{web.url}/people.csv?sig={SECRET}")
    connector = csv_at("env:EXPORT_URL")
    places = [record.place for record in connector.read(Request())]
    assert places == [f"{web.url}/people.csv:2", f"{web.url}/people.csv:3"]
    assert web.seen[-1][1] == f"/people.csv?sig={SECRET}"
    web.pages.clear()
    failure(connector)
    for wrong in ("people.csv", f"http://localhost/{SECRET}", f"https://ann:{SECRET}@localhost/x"):
        monkeypatch.setenv("EXPORT_URL", wrong)
        assert "EXPORT_URL" in str(failure(csv_at("env:EXPORT_URL"), ConfigError))


def test_a_download_is_needed_by_nobody_but_its_owner_and_leaves_nothing(web, spare_room):
    from syncd.remote.options import Storage
    from syncd.remote.remote_file import Remote

    remote = Remote(f"{web.url}/people.csv", Storage(), Path(), FakeClock())
    with remote.files()[0].open() as file:
        status = os.fstat(file.fileno())
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, os.getuid())
        assert list(spare_room.iterdir()) == []  # it has no name at all
        assert file.read() == CSV
    assert file.closed


# https


@pytest.mark.parametrize("packed", [False, True])
def test_https_reads_every_format_as_here(web, packed, tmp_path):
    web.pages["/p.csv"] = Page(gzip.compress(CSV) if packed else CSV)
    assert keys(csv_at(f"{web.url}/p.csv")) == ["1", "2"]
    lines = b'{"id": "1"}\n{"id": "2"}\n'
    web.pages["/p.jsonl"] = Page(gzip.compress(lines) if packed else lines)
    options = JsonlOptions(path=f"{web.url}/p.jsonl", key="id")
    assert keys(JsonlConnector(options, Context())) == ["1", "2"]
    web.pages["/p.xlsx"] = Page(workbook(row("id"), row("1"), row("2")))
    options = XlsxOptions(path=f"{web.url}/p.xlsx", key="id")
    assert keys(XlsxConnector(options, Context())) == ["1", "2"]


def test_https_reads_parquet(web, tmp_path):
    parquet.write_table(pa.table({"id": ["1", "2"]}), tmp_path / "p.parquet")
    web.pages["/p.parquet"] = Page((tmp_path / "p.parquet").read_bytes())
    options = ParquetOptions(path=f"{web.url}/p.parquet", key="id")
    assert keys(ParquetConnector(options, Context(tmp_path))) == ["1", "2"]


def test_a_certificate_that_nobody_vouches_for_is_refused(web, monkeypatch):
    other = Path(os.environ["SSL_CERT_FILE"]).with_name("other.pem")
    trustme.CA().cert_pem.write_to_path(other)
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    assert "certificate is refused" in str(failure(csv_at(f"{web.url}/people.csv")))
    assert web.seen == []


def test_a_certificate_for_another_name_is_refused(web):
    url = f"https://127.0.0.1:{web.port}/people.csv"
    assert "certificate is refused" in str(failure(csv_at(url)))


@pytest.mark.parametrize(
    ("storage", "login"),
    [
        ({"token": SECRET_REFERENCE}, f"Bearer {SECRET}"),
        ({"headers": {"Authorization": SECRET_REFERENCE}}, SECRET),
        (
            {"username": "ann", "password": SECRET_REFERENCE},
            "Basic YW5uOnBsYW50ZWQtN2MxZjBlM2M=",
        ),
    ],
)
def test_logins_are_sent_with_every_request(web, storage, login):
    web.pages["/people.csv"].login = login
    connector = csv_at(f"{web.url}/people.csv", **storage)
    assert keys(connector) == ["1", "2"]
    assert {request[2] for request in web.seen} == {login}
    assert isinstance(failure(csv_at(f"{web.url}/people.csv")), SourceDenied)


def test_a_login_goes_to_no_other_host(web, authority):
    with https(authority) as other:
        other.pages["/real.csv"] = Page(CSV)
        web.pages["/people.csv"] = Page(status=302, location=f"{other.url}/real.csv")
        assert keys(csv_at(f"{web.url}/people.csv", token=SECRET_REFERENCE)) == ["1", "2"]
        assert {request[2] for request in web.seen} == {f"Bearer {SECRET}"}
        assert {request[2] for request in other.seen} == {""}


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("http://localhost/people.csv", "no plain https"),
        ("file:///etc/passwd", "no plain https"),
        ("https://ann:pw@localhost/x", "no plain https"),
        ("", "more than 5 redirects"),
        ("/people.csv", "more than 5 redirects"),
    ],
)
def test_redirects_lead_nowhere_unsafe_and_end(web, location, says):
    web.pages["/people.csv"] = Page(status=307, location=location, heads=False)
    assert says in str(failure(csv_at(f"{web.url}/people.csv")))


@pytest.mark.parametrize(
    ("page", "kind", "says"),
    [
        (Page(status=404), SourceError, "there is no such file"),
        (Page(status=403), SourceDenied, "may not be read"),
        (Page(status=503), SourceError, "answered 503"),
        (Page(b"<html>Log in", kind="text/html; charset=utf-8"), SourceError, "a web page"),
        (Page(MANY, cut=1), SourceError, "could not be downloaded after"),
        (Page(MANY, cut=len(MANY)), SourceError, "could not be downloaded"),
    ],
)
def test_https_failures_are_said_in_words_and_leave_nothing(web, page, kind, says):
    web.pages["/people.csv"] = page
    error = failure(csv_at(f"{web.url}/people.csv?part=1"))
    assert type(error) is kind
    assert says in str(error)
    assert "part=1" not in str(error)


def test_a_server_that_is_not_there_is_said_in_words():
    assert "no connection" in str(failure(csv_at("https://localhost:1/people.csv")))


@pytest.mark.parametrize("told", [True, False], ids=["told beforehand", "found out"])
def test_a_file_that_is_too_large_is_refused(web, told, monkeypatch):
    monkeypatch.setattr("syncd.remote.intake.BYTES_MAX", 1000)
    web.pages["/people.csv"] = Page(MANY, heads=told)
    assert "is larger than" in str(failure(csv_at(f"{web.url}/people.csv")))
    assert web.count("GET") == (0 if told else 1)


def test_a_full_disk_is_said_in_words(web, monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: Path("/dev/full").open("wb"))  # noqa: SIM115
    web.pages["/people.csv"] = Page(MANY)
    assert "TMPDIR" in str(failure(csv_at(f"{web.url}/people.csv")))


# Stamps


def test_an_unchanged_file_is_not_downloaded(web):
    connector = csv_at(f"{web.url}/people.csv")
    token = connector.token()
    assert (web.count("HEAD"), web.count("GET")) == (1, 0)
    assert csv_at(f"{web.url}/people.csv").token() == token
    web.pages["/people.csv"].etag = '"2"'
    assert connector.token() != token


@pytest.mark.parametrize(
    "page",
    [Page(CSV), Page(CSV, heads=False, etag='"1"'), Page(CSV, modified=LONG_AGO, heads=False)],
    ids=["nothing told", "no HEAD", "no HEAD, a time"],
)
def test_where_nothing_is_told_the_bytes_are_the_stamp(web, page):
    web.pages["/people.csv"] = page
    connector = csv_at(f"{web.url}/people.csv")
    token = connector.token()
    assert connector.token() == token
    page.body = CSV.replace(b"ann", b"eve")
    assert connector.token() != token


def test_a_time_of_this_minute_is_no_stamp(web):
    """Written twice in a second, a file has one time: the second writing would never be read."""
    clock = FakeClock()
    now = datetime.fromtimestamp(clock.now_s(), UTC).replace(microsecond=0)
    page = web.pages["/people.csv"] = Page(CSV, modified=now, etag='"time-size"')
    connector = csv_at(f"{web.url}/people.csv", clock=clock)
    token = connector.token()
    page.body = CSV.replace(b"ann", b"eve")
    assert connector.token() != token
    clock.advance_s(300)
    token = connector.token()
    downloads = web.count("GET")
    assert connector.token() == token
    assert web.count("GET") == downloads


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (Stamp("t", 1, 1000.0), "t"),
        (Stamp("t", 1, 1900.0), ""),
        (Stamp("t", 1, 5000.0), ""),
        (Stamp("t", 1, 1990.0, by_content=True), "t"),
        (Stamp("t", 1, None), "t"),
        (Stamp("", None, None), ""),
    ],
)
def test_a_stamp_lasts_when_nothing_can_have_changed_behind_it(stamp, expected):
    assert stamp.lasting(2000.0) == expected


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "xlsx", "parquet"])
def test_the_header_and_the_rows_are_one_download(web, kind, tmp_path):
    parquet.write_table(pa.table({"id": ["1", "2"]}), tmp_path / "p.parquet")
    bodies = {
        "csv": CSV,
        "csv.gz": gzip.compress(CSV),
        "jsonl": b'{"id": "1"}\n{"id": "2"}\n',
        "xlsx": workbook(row("id"), row("1"), row("2")),
        "parquet": (tmp_path / "p.parquet").read_bytes(),
    }
    web.pages["/p"] = Page(bodies[kind], etag='"1"')
    connectors = {
        "jsonl": (JsonlConnector, JsonlOptions),
        "xlsx": (XlsxConnector, XlsxOptions),
        "parquet": (ParquetConnector, ParquetOptions),
    }
    connector, options = connectors.get(kind, (CsvConnector, CsvOptions))
    reader = connector(options(path=f"{web.url}/p", key="id"), Context())
    assert reader.fields()[0].name == "id"
    reader.fields()
    assert keys(reader) == ["1", "2"]
    assert web.count("GET") == 1
    assert keys(reader) == ["1", "2"]
    assert web.count("GET") == 2


def test_what_was_kept_is_not_taken_for_what_came_later(web):
    connector = csv_at(f"{web.url}/people.csv")
    connector.fields()
    web.pages["/people.csv"] = Page(b"id\n7\n", etag='"2"')
    assert keys(connector) == ["7"]


def test_what_was_kept_goes_with_the_connector(web):
    def open_files():
        links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.exists()]
        return sum("(deleted)" in str(link) for link in links)

    before = open_files()
    connector = csv_at(f"{web.url}/people.csv")
    connector.fields()
    assert open_files() == before + 1
    del connector
    assert open_files() == before


class TestCsvOverHttpsKeepsThePromises(ConnectorSuite):
    @pytest.fixture(autouse=True)
    def _server(self, web):
        self.web = web

    def source(self, folder, records):
        lines = [f"{record['id']},{record['email']},{record['name']}" for record in records]
        body = "\n".join(["id,email,name", *lines, ""]).encode()
        self.web.pages["/people.csv"] = Page(body)
        options = {"path": f"{self.web.url}/people.csv", "key": "id"}
        options["storage"] = {"token": SECRET_REFERENCE}
        return CsvConnector(CsvOptions.model_validate(options), Context(folder))

    def break_source(self, folder):
        self.web.pages["/people.csv"].body += b"half a ro"
