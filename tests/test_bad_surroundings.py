"""What surrounds the command goes wrong: FluenzR and what stands before it, databases, the state, the machine.

The promises are those of test_bad_input.py. A real process is started only where nothing else will do.
"""

import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from raw_server import response, serving
from shell import KEY, PATIENCE_S, Said, Shell, shell_fixture  # noqa: F401 - a fixture
from spoil import ANN, BOB, BOTH, PASSWORD, Spoil, edit, harmless, known, refused, synced_fixture  # noqa: F401 - a fixture

from syncd.sandbox import Quirks, Rule, Sandbox
from syncd.sandbox.faults import Drop, Effect, Page, Status, Throttle

HTML = b"<html><body>Please sign in</body></html>"
NO_FILES = {"PYTHONDONTWRITEBYTECODE": "1"}  # a limit or a full disk would cut compiled modules


def process(shell: Shell, script: str, **env: str) -> Said:
    """`syncd` in a shell of its own, for what only a shell can do; $syncd stands for it."""
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=shell.folder,
        env={**shell.environment, **NO_FILES, "syncd": f"{sys.executable} -m syncd", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


# FluenzR, and what stands before it


def at(url: str) -> Spoil:
    """Another base URL."""
    return lambda shell: shell.configure(url=url)


def struck(effect: Effect) -> Spoil:
    """Every request meets this, until the configuration leads to another sandbox."""
    return lambda shell: shell.sandbox.faults.add(Rule(name="trouble", effect=effect))


def closed_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize(
    ("effect", "parts"),
    [
        (Page(applied=False), ["status 200, but no success", "HTML", "a proxy, a firewall"]),
        (Status(status=502, applied=False), ["in trouble, status 502", "HTML", "tried again"]),
        (Status(status=500, applied=False), ["status 500", "Internal server error"]),
        (Drop(applied=False), ["no answer", "closed without an answer", "try again later"]),
        (Throttle(retry_after_s=3000), ["3000 seconds", "try again later"]),
    ],
)
def test_fluenzr_in_trouble(synced: Shell, effect: Effect, parts: list[str]) -> None:
    before, writes = known(synced), synced.sandbox.writes()
    synced.people(ANN, BOB, (3, "cleo@example.com"))
    struck(effect)(synced)
    said = synced.inside("--debug", "sync")
    refused(synced, said, 1, "error: customers: GET /groups at 127.0.0.1:", *parts)
    assert (known(synced), synced.sandbox.writes()) == (before, writes)
    refused(synced, synced.inside("check"), 1)
    synced.sandbox.faults.clear()
    assert synced.inside("sync").code == 0
    assert set(synced.account.contacts_by_email()) == BOTH | {"cleo@example.com"}


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (response(HTML, f"Location: https://x.example/?k={KEY}", status="302 Found"),
         ["redirected with status 302, which is not followed", "Check fluenzr.base_url"]),
        (response(HTML, status="404 Not Found"), ["404, but not in FluenzR's words", "base_url"]),
        (response(HTML, status="403 Forbidden"), ["not FluenzR's words", "proxy or firewall"]),
        (response(HTML, status="407 Proxy"), ["refused with status 407", "proxy"]),
        (response(b""), ["an empty body came", "Check fluenzr.base_url"]),
        (response(b'{"data":[]}'), ["does not say success: true", "Check fluenzr.base_url"]),
        (b"SSH-2.0-OpenSSH_9.6\r\n", ["what came is not HTTP"]),
    ],
    ids=["redirect", "404", "403", "407", "empty", "other JSON", "SSH"],
)  # fmt: skip
def test_something_else_answers(synced: Shell, raw: bytes, parts: list[str]) -> None:
    with serving(raw) as server:
        harmless(synced, at(f"http://127.0.0.1:{server.port}/v1"), 1, *parts, words="--debug sync")


def test_nothing_answers(synced: Shell) -> None:
    port = closed_port()
    harmless(synced, at(f"http://127.0.0.1:{port}/v1"), 1, f"127.0.0.1:{port}: ", "refused")


def test_a_name_that_nobody_knows(synced: Shell) -> None:
    harmless(synced, at("https://fluenzr.invalid/v1"), 1, "fluenzr.invalid: no answer", "the host")


@contextmanager
def self_signed(folder: Path) -> Iterator[int]:
    """The port of an HTTPS server whose certificate nobody has signed but itself."""
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(
        ["openssl", "req", "-x509", *curve, *names, *files],
        cwd=folder, capture_output=True, check=True, timeout=PATIENCE_S,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    context.wrap_socket(connection, server_side=True).close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_of_nobody(synced: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    with self_signed(tmp_path_factory.mktemp("tls")) as port:
        spoil = at(f"https://127.0.0.1:{port}/v1")
        harmless(synced, spoil, 1, "its certificate is refused: self-signed", "SSL_CERT_FILE")


def test_a_server_without_tls(synced: Shell) -> None:
    with serving(response(HTML)) as server:
        harmless(
            synced, at(f"https://127.0.0.1:{server.port}/v1"), 1, "TLS failed", "Check the host"
        )


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("SSL_CERT_FILE", "/proc/none.pem", "/proc/none.pem: No such file"),
        ("SSL_CERT_FILE", "/proc/version", "SSL_CERT_FILE, /proc/version: "),
        ("HTTPS_PROXY", f"http://bob:{PASSWORD}@127.0.0.1:port", "http://host:port"),
        ("HTTPS_PROXY", f"ftp://bob:{PASSWORD}@127.0.0.1", "http://host:port"),
        ("ALL_PROXY", f"socks5://bob:{PASSWORD}@127.0.0.1:1", "httpx[socks]"),
    ],
)
def test_an_environment_that_cannot_be_used(
    synced: Shell, monkeypatch: pytest.MonkeyPatch, name: str, value: str, part: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(name, value)
        said = synced.inside("--debug", "sync")
    refused(synced, said, 2, "proxies or certificates cannot be used", part, "Check SSL_CERT_FILE")
    assert synced.inside("sync").code == 0


def test_a_wrong_key(synced: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = "flz_sk_" + "w" * 32
    with monkeypatch.context() as patch:
        patch.setenv("FLUENZR_API_KEY", wrong)
        said = synced.inside("--debug", "sync")
    refused(synced, said, 1, "FluenzR does not accept the API key", "Check fluenzr.api_key")
    assert wrong not in said.out + said.err
    assert synced.inside("sync").code == 0


def test_a_key_that_is_none(synced: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUENZR_API_KEY", f"{PASSWORD} ä")
    refused(synced, synced.inside("sync"), 2, "characters that no key has", "begins with flz_sk_")


@pytest.mark.parametrize(
    ("quirks", "writes", "parts"),
    [
        (Quirks(read_only_key=True), 1, ["this API key may not write", "make one that may write"]),
        (Quirks(plan_without_api=True), 0, ["this FluenzR plan has no API", "Pro plan"]),
    ],
)
def test_an_account_that_refuses(
    shell: Shell, quirks: Quirks, writes: int, parts: list[str]
) -> None:
    shell.people(ANN, BOB)
    with Sandbox(quirks=quirks, api_key=KEY).serve() as sandbox:
        shell.configure(url=sandbox.url)
        refused(shell, shell.inside("--debug", "sync"), 1, "error: customers: ", *parts)
        assert sandbox.writes() == writes  # refused, so nothing came of it
        assert not sandbox.account.contacts_by_email()
    shell.configure()
    assert shell.inside("sync").code == 0
    assert set(shell.account.contacts_by_email()) == BOTH


# Databases


def sql(url: str, query: str = "SELECT * FROM people", *, password: bool = False) -> Spoil:
    """The source is a database."""

    def spoil(shell: Shell) -> None:
        with closing(sqlite3.connect(shell.folder / "crm.db")) as db:
            db.execute("CREATE TABLE people(id, email, first, score, out)")
        options = f'connector = "sql"\nurl = "{url}"\nquery = "{query}"\nkey = "id"'
        options += '\npassword = "env:DB_PASSWORD"' if password else ""
        edit('connector = "csv"\npath = "people.csv"\nkey = "id"', options)(shell)

    return spoil


def listening(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


@pytest.mark.parametrize(
    ("spoil", "code", "parts"),
    [
        (sql("sqlite:///crm.db", "SELECT * FROM peeple"), 1, ["no such table: peeple", "`query`"]),
        (sql("sqlite:///crm.db", "SELEC 1"), 1, ['near \\"SELEC\\"'.replace("\\", ""), "`query`"]),
        (sql("sqlite:///crm.db", "DELETE FROM people"), 1, ["readonly", "Check `query`"]),
        (sql("sqlite:///nope.db"), 1, ["nope.db cannot be reached", "unable to open", "`url`"]),
        (sql("sqlite:///people.csv"), 1, ["file is not a database"]),
        (sql("sqlite:///crm.db", "SELECT 1 AS no"), 2, ["`key`: the query has no column 'id'"]),
        (sql("oracle://bob@127.0.0.1/x"), 2, ["driver of oracle is not", "pip install oracledb"]),
        (sql("postgre://bob@127.0.0.1/x"), 2, ["postgre is not a database", "postgresql"]),
        (sql("just text"), 2, ["source.crm.url: a URL is expected, such as postgresql://"]),
        (sql(f"mysql://bob:{PASSWORD}@db/x"), 2, ["source.crm.url: ", 'password = "env:NAME"']),
        (sql("env:DB_URL"), 2, ["env:DB_URL does not hold the URL of a database", "%40"]),
        (sql("env:DB_DOWN"), 1, ["The postgresql database x cannot be reached", "refused"]),
        (sql("mysql://bob@127.0.0.1:1/x", password=True), 1, ["mysql database x", "that it runs"]),
        (sql("mysql://bob@db.invalid/x", password=True), 1, ["db.invalid", "`password`"]),
    ],
)
def test_a_database_that_gives_nothing(
    synced: Shell, monkeypatch: pytest.MonkeyPatch, spoil: Spoil, code: int, parts: list[str]
) -> None:
    monkeypatch.setenv("DB_URL", f"postgresql://bob:{PASSWORD}@x@127.0.0.1/x")
    monkeypatch.setenv("DB_DOWN", f"postgresql://bob:{PASSWORD}@127.0.0.1:1/x")
    harmless(synced, spoil, code, *parts, words="--debug sync")


@pytest.mark.skipif(not listening(3306), reason="MariaDB does not run here")
def test_a_wrong_database_password(synced: Shell) -> None:
    spoil = sql("mysql://root@127.0.0.1:3306/test", password=True)
    harmless(synced, spoil, 1, "Access denied for user 'root'", "`password`", words="--debug sync")


@pytest.mark.skipif(not listening(5432), reason="PostgreSQL does not run here")
def test_an_unknown_table_of_a_server(synced: Shell) -> None:
    spoil = sql("postgresql://postgres@127.0.0.1:5432/test", "SELECT * FROM peeple", password=True)
    harmless(synced, spoil, 1, 'relation "peeple" does not exist', "`query`")


# The state

ASKING = (["sync"], ["plan"], ["status"], ["history"], ["why", "ann@example.com"], ["approve", "1"])


def _another_database(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute("DROP TABLE IF EXISTS meta")
        db.execute("PRAGMA application_id=7")


def _newer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute(
            "INSERT INTO _sqlite_migrations(migration_set,name) VALUES('fluenzr-syncd','m999_new')"
        )
        db.commit()


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (_another_database, ["is a database of something else", "Set [state] path to a file"]),
        (lambda file: file.write_text("hello " * 999), ["file is not a database"]),
        (_newer, ["a newer version", "m999_new", "Install the newer version"]),
        (lambda file: file.write_bytes(file.read_bytes()[:9000]), ["malformed", "from a backup"]),
        (Path.unlink, ["was here and is gone", "syncd reconcile"]),
    ],
    ids=["another database", "text", "newer", "cut off", "gone"],
)
def test_a_state_that_cannot_be_used(synced: Shell, spoil: Spoil, parts: list[str]) -> None:
    file, writes = synced.folder / "syncd.db", synced.sandbox.writes()
    good = file.read_bytes()
    spoil(file)  # type: ignore[arg-type]
    for words in ASKING:
        refused(synced, synced.inside(*words), 1, *parts, "next: ")
    checked = synced.inside("check")
    assert checked.code == 1
    assert parts[0] in checked.out
    assert synced.sandbox.writes() == writes
    file.write_bytes(good)
    assert synced.inside("sync").code == 0
    assert synced.sandbox.writes() == writes


def test_a_state_that_was_cut_to_nothing_is_no_first_start(synced: Shell) -> None:
    writes = synced.sandbox.writes()
    for suffix in ("-wal", "-shm"):
        (synced.folder / f"syncd.db{suffix}").unlink(missing_ok=True)
    (synced.folder / "syncd.db").write_bytes(b"")
    for words in ("status", "plan", "sync", "sync", "status"):
        said = synced.inside(words)
        refused(synced, said, said.code, "The state" if said.code else "", "syncd reconcile")
        assert said.code == 1 or words == "status"
    assert synced.sandbox.writes() == writes


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/proc/none/syncd.db", ["/proc/none", "No such file", "[state] path"]),
        ("people.csv/syncd.db", ["people.csv is not a folder", "[state] path"]),
    ],
)
def test_a_folder_that_takes_no_state(shell: Shell, path: str, parts: list[str]) -> None:
    shell.people(ANN)
    edit('"syncd.db"', f'"{path}"')(shell)
    refused(shell, shell.inside("sync"), 1, *parts, "next: ")
    assert not shell.sandbox.writes()


def test_a_file_where_syncd_puts_a_file_of_its_own(shell: Shell) -> None:
    shell.people(ANN)
    for name in ("syncd.db.lock", "syncd.db.scratch"):
        (shell.folder / name).mkdir()
        refused(shell, shell.inside("sync"), 1, f"{name} cannot be written", "Is a directory")
        (shell.folder / name).rmdir()
    assert not shell.sandbox.writes()
    assert shell.inside("sync").code == 0


@pytest.mark.parametrize("begin", ["", "PRAGMA journal_mode=WAL"])
def test_a_first_start_that_was_cut_off_is_made_good(shell: Shell, begin: str) -> None:
    """The disk was full, or the machine died, before the first table was there."""
    shell.people(ANN, BOB)
    with closing(sqlite3.connect(shell.write("syncd.db", ""))) as db:
        db.execute(begin)
    assert "has never run" in shell.inside("status").out
    assert shell.inside("plan").code == 0
    for _ in range(2):
        assert shell.inside("sync").code == 0
    assert (shell.folder / "syncd.db.installed").exists()
    assert set(shell.account.contacts_by_email()) == BOTH


# The machine


@pytest.mark.parametrize("words", ["sync", "plan --json"])
@pytest.mark.parametrize("size", [4_096, 102_400])
def test_a_limit_on_the_size_of_files(shell: Shell, words: str, size: int) -> None:
    """Of the state, or of a plan's temporary file."""
    shell.people(*((n, f"p{n}@example.com", "P" * 50) for n in range(2000)))
    said = process(shell, f"ulimit -f {size // 1024}; $syncd {words}")
    refused(shell, said, 1, "error: ", "next: ")
    assert not shell.account.contacts_by_email()
    assert [shell.inside("sync").code for _ in range(2)] == [0, 0]
    assert len(shell.account.contacts_by_email()) == 2000


FULL_DISK = """
mount -t tmpfs -o size=$size tmpfs data || exit 77
$syncd sync && exit 78
echo "code $?" >&2
$syncd status >&2
mount -o remount,size=50m data && $syncd sync && $syncd sync
"""


@pytest.mark.parametrize("size", ["40k", "400k"], ids=["at the first start", "while it reads"])
def test_a_full_disk(shell: Shell, size: str) -> None:
    (shell.folder / "data").mkdir()
    edit('"syncd.db"', '"data/syncd.db"')(shell)
    shell.people(*((n, f"p{n}@example.com", "P" * 50) for n in range(2000)))
    own = ["unshare", "--map-root-user", "--mount", "true"]  # a mount that is this process's alone
    if shutil.which("unshare") is None or subprocess.run(own, check=False).returncode:
        pytest.skip("no mount of one's own is permitted here")
    script = f"unshare --map-root-user --mount bash -c '{FULL_DISK}'"
    said = process(shell, script, size=size)
    if said.code == 77:
        pytest.skip("no tmpfs may be mounted here")
    refused(shell, said, 0, "disk is full", "next: The disk is full: make room", "code 1")
    assert "created 2,000" in said.out
    assert "nothing to send" in said.out
    assert len(shell.account.contacts_by_email()) == 2000


def test_two_at_once(shell: Shell) -> None:
    shell.people(ANN, BOB)
    both = [shell.start("sync", "--wait", "50") for _ in range(2)]
    ends = [(one.communicate(timeout=PATIENCE_S), one.returncode) for one in both]
    assert [code for _, code in ends] == [0, 0], ends
    assert sorted("created 2" in out for (out, _), _ in ends) == [False, True]


@pytest.mark.parametrize(
    ("script", "code", "out", "err"),
    [
        ("$syncd sync <&- >&- 2>&-", 0, "", ""),
        ("$syncd sync > /dev/full", 1, "", "error: The answer cannot be written"),
        ("$syncd --version > /dev/full", 1, "", "error: The answer cannot be written"),
        ("$syncd sync nobody 2> /dev/full", 2, "", ""),
        ("$syncd --help > /dev/full", 1, "", "No space left on device"),
    ],
)
def test_streams_that_take_nothing(
    shell: Shell, script: str, code: int, out: str, err: str
) -> None:
    shell.people(ANN, BOB)
    said = process(shell, script)
    refused(shell, said, code, err)
    assert said.out == out
    assert shell.inside("sync").code == 0
    assert set(shell.account.contacts_by_email()) == BOTH


def test_a_locale_that_knows_ascii_only(shell: Shell) -> None:
    shell.people((1, "ann@example.com", "Änne", 10))
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    said = process(shell, "$syncd plan", **ascii_only)
    refused(shell, said, 0)
    assert "firstName: \\xc4nne" in said.out
    assert shell.inside("sync").code == 0
    (contact,) = shell.account.contacts_by_email().values()
    assert "Änne" in str(contact)
