"""Files in S3 and on SFTP servers: the same rows as here, from the server that was meant, or an error in words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from file_servers import (  # noqa: F401 - fixtures
    CSV,
    LONG_AGO,
    MANY,
    authority_fixture,
    bucket_fixture,
    csv_at,
    csv_by,
    csv_in,
    failure,
    keys,
    sftp,
    shell_fixture,
    spare_room_fixture,
    trusted_fixture,
    web_fixture,
)

from connectors.csv import CsvOptions
from syncd.connector import Request
from syncd.errors import ConfigError, SourceDenied, SourceError, SyncdError
from syncd.testing.conformance import SECRET_REFERENCE

# S3


def test_s3_reads_a_file_or_a_pattern(bucket):
    assert keys(csv_in(bucket)) == ["1", "2"]
    bucket.objects |= {
        "in/q.csv": b"id,email\n3,c@example.com\n",
        "in/.hidden.csv": b"x",
        "in/deeper/r.csv": b"x",
        "in/": b"",
    }
    connector = csv_in(bucket, "people/in/*.csv")
    places = [record.place for record in connector.read(Request())]
    assert places == [
        "s3://people/in/people.csv:2",
        "s3://people/in/people.csv:3",
        "s3://people/in/q.csv:2",
    ]
    assert "No file matches s3://people/out/*.csv" in str(
        failure(csv_in(bucket, "people/out/*.csv"))
    )


def test_s3_tells_an_unchanged_file_by_its_checksum(bucket):
    connector = csv_in(bucket)
    token = connector.token()
    assert not [request for request in bucket.seen if request[0] == "GET"]
    bucket.objects["in/people.csv"] = CSV.replace(b"ann", b"eve")
    assert connector.token() != token


def test_s3_reads_what_is_larger_than_a_block(bucket, monkeypatch):
    monkeypatch.setattr("syncd.remote.bucket.BLOCK_BYTES", 100_000)
    bucket.objects["in/people.csv"] = MANY
    assert len(keys(csv_in(bucket))) == 50_000


@pytest.mark.parametrize(
    ("key", "kind", "says"),
    [
        ("people/in/gone.csv", SourceError, "There is no file s3://people/in/gone.csv"),
        ("other/people.csv", SourceError, "There is no bucket 'other'"),
        ("other/*.csv", SourceError, "No file matches s3://other/*.csv"),
    ],
)
def test_s3_failures_are_said_in_words(bucket, key, kind, says):
    assert says in str(failure(csv_in(bucket, key), kind))


def test_s3_refusals_are_denials(bucket, monkeypatch):
    assert type(failure(csv_at("s3://people/p.csv", endpoint_url=bucket.url))) is SourceDenied
    monkeypatch.setenv("S3_KEY", "OTHER")
    assert type(failure(csv_in(bucket))) is SourceDenied


def test_s3_that_breaks_off_or_is_not_there_raises(bucket, monkeypatch):
    monkeypatch.setattr("syncd.remote.bucket.ATTEMPTS_MAX", 1)
    bucket.cut = 5
    assert "broke off" in str(failure(csv_in(bucket)))
    assert "no connection" in str(failure(csv_in(bucket, endpoint_url="http://127.0.0.1:1")))


# SFTP


def test_sftp_reads_a_file_or_a_pattern(shell, tmp_path):
    assert keys(csv_by(shell, tmp_path)) == ["1", "2"]
    (shell.folder / "q.csv").write_bytes(MANY)
    (shell.folder / ".hidden.csv").write_bytes(b"x")
    (shell.folder / "folder.csv").mkdir()
    assert len(keys(csv_by(shell, tmp_path, "/*.csv"))) == 50_002
    (shell.folder / "p[1].csv").write_bytes(CSV)
    assert len(keys(csv_by(shell, tmp_path, "/p[1].csv"))) == 2
    assert "No file matches" in str(failure(csv_by(shell, tmp_path, "/x*.csv")))


def test_sftp_asks_only_a_server_that_is_known(shell, tmp_path):
    (tmp_path / "known").write_text("")
    assert "is not known" in str(failure(csv_by(shell, tmp_path)))
    with sftp(tmp_path, "x") as other:
        line = other.known().replace(str(other.port), str(shell.port))
        (tmp_path / "known").write_text(line)
        assert "another key" in str(failure(csv_by(shell, tmp_path)))
    assert shell.logins == []


def test_sftp_knows_the_hosts_of_the_user(shell, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    connector = csv_at(f"{shell.url}/people.csv", password=SECRET_REFERENCE)
    assert "is not known" in str(failure(connector))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(shell.known())
    assert keys(connector) == ["1", "2"]


def test_sftp_failures_are_said_in_words(shell, tmp_path, monkeypatch):
    assert "There is no file" in str(failure(csv_by(shell, tmp_path, "/gone.csv")))
    (shell.folder / "denied.csv").write_bytes(CSV)
    assert type(failure(csv_by(shell, tmp_path, "/denied.csv"))) is SourceDenied
    (shell.folder / "folder").mkdir()
    assert "a folder" in str(failure(csv_by(shell, tmp_path, "/folder")))
    error = failure(csv_by(shell, tmp_path, key_file="nowhere"), SyncdError)
    assert "there is no file nowhere" in str(error)
    error = failure(csv_by(shell, tmp_path, known_hosts="nowhere"), ConfigError)
    assert "known_hosts" in str(error)
    (tmp_path / "broken").write_text("127.0.0.1 ssh-ed25519 AAAAB\n")
    error = failure(csv_by(shell, tmp_path, known_hosts="broken"), ConfigError)
    assert "no host's key" in str(error)
    monkeypatch.setenv("SYNCD_SUITE_SECRET", "wrong")
    assert type(failure(csv_by(shell, tmp_path))) is SourceDenied


@pytest.mark.parametrize(
    ("key", "passphrase", "says"),
    [
        ("locked", "another one", "The passphrase is another one"),
        ("locked", "", "It is encrypted, and there is no `storage.passphrase`"),
        ("no-key", "", "It is no private key in a known form"),
    ],
)
def test_a_key_that_cannot_be_read_is_no_broken_line(
    shell, tmp_path, monkeypatch, key, passphrase, says
):
    locked = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"made up")
    )
    (tmp_path / "locked").write_bytes(locked)
    (tmp_path / "no-key").write_text("no key\n")
    storage = {"key_file": key, "password": None}
    if passphrase:
        monkeypatch.setenv("KEY_PHRASE", passphrase)
        storage["passphrase"] = "env:KEY_PHRASE"
    error = failure(csv_by(shell, tmp_path, **storage), ConfigError)
    assert says in str(error)
    assert key in str(error)


@pytest.mark.parametrize("how", ["cut", "hang_up"])
def test_sftp_that_breaks_off_raises(shell, tmp_path, how):
    (shell.folder / "people.csv").write_bytes(MANY)
    setattr(shell, how, 100)
    failure(csv_by(shell, tmp_path))


def test_sftp_needs_no_thread_that_outlives_the_connection(shell, tmp_path, monkeypatch):
    (shell.folder / "people.csv").write_bytes(MANY)
    monkeypatch.setattr("paramiko.sftp_file.SFTPFile._start_prefetch", None)
    assert len(keys(csv_by(shell, tmp_path))) == 50_000


def test_sftp_tells_an_unchanged_file_by_size_and_time(shell, tmp_path):
    connector = csv_by(shell, tmp_path)
    token = connector.token()
    assert connector.token() == token
    (shell.folder / "people.csv").write_bytes(CSV.replace(b"ann", b"eve"))
    assert connector.token() != token


def test_whether_many_files_are_the_same_is_asked_over_one_connection(shell, tmp_path):
    for number in range(5):
        (shell.folder / f"q{number}.csv").write_bytes(CSV)
        os.utime(shell.folder / f"q{number}.csv", (LONG_AGO.timestamp(),) * 2)
    connector = csv_by(shell, tmp_path, "/q*.csv")
    token = connector.token()
    assert len(shell.logins) == 1
    (shell.folder / "q3.csv").write_bytes(CSV.replace(b"ann", b"anna"))
    assert connector.token() != token
    assert len(shell.logins) == 2


def test_a_file_that_is_written_meanwhile_is_no_read(shell, tmp_path, monkeypatch):
    from syncd.remote.shelf import Shelf

    fetch = Shelf.fetch

    def fetch_and_write(self, name, into):
        fetch(self, name, into)
        (shell.folder / "people.csv").write_bytes(CSV + b"3,c@example.com\n")

    monkeypatch.setattr(Shelf, "fetch", fetch_and_write)
    assert "changed while it was read" in str(failure(csv_by(shell, tmp_path)))


@pytest.mark.parametrize("url", ["s3://people/p.csv", "sftp://files.example.com/p.csv"])
def test_a_missing_package_is_named_with_what_installs_it(url):
    code = (
        "import sys; sys.modules['paramiko'] = sys.modules['s3fs'] = None\n"
        "from pathlib import Path\n"
        "from connectors.csv import CsvConnector, CsvOptions\n"
        "from syncd.connector import Context, Request\n"
        "from syncd.errors import ConfigError\n"
        "try:\n"
        f"    list(CsvConnector(CsvOptions(path={url!r}), Context()).read(Request()))\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert "pip install 'fluenzr-syncd[remote]'" in done.stdout


def test_reading_here_imports_nothing_of_elsewhere():
    code = (
        "import sys, connectors.csv\n"
        "print(*(set(sys.modules) & {'fsspec', 's3fs', 'paramiko', 'httpx', 'syncd.remote.web'}))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == ""


def test_options_show_references_only():
    options = CsvOptions.model_validate({"path": "env:URL", "storage": {"token": "env:TOKEN"}})
    assert "env:TOKEN" in options.model_dump_json()
