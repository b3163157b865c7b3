"""The page as its users have it: `syncd run` serves it, `syncd check` looks at its token, and neither is written anywhere."""

import re
import signal
from pathlib import Path

import httpx
import pytest
from shell import PATIENCE_S, Shell, shell_fixture  # noqa: F401 - a fixture
from test_cli_webhooks import listening

TOKEN = "a-token-of-the-page-0123456789"


def served(shell: Shell, token: str = TOKEN) -> None:
    """The page is configured, with its token in a file."""
    shell.configure(max_enrolments=0)
    text = (shell.folder / "config.toml").read_text()
    shell.write(
        "config.toml", text + '\n[http]\nlisten = "127.0.0.1:0"\ntoken = "file:page.token"\n'
    )
    shell.write("page.token", token + "\n")


def test_the_daemon_serves_the_page_and_carries_out_what_is_approved_there(
    shell: Shell, tmp_path: Path
) -> None:
    shell.account.add_group("Drip", dynamic=True)
    shell.people((1, "ann@example.com", "Ann", 95))
    served(shell)
    assert shell.inside("sync").code == 4
    process, port = listening(shell, "run")
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE_S
    ) as http:
        login = hidden(http.get("/login").text)
        assert http.post("/login", data={**login, "token": TOKEN}).status_code == 303
        for _ in range(20):  # the daemon's own first run holds it anew, and may be at work
            form = hidden(http.get("/held/customers").text.split('class="approve"')[-1])
            answer = http.post("/held/customers", data={**form, "sure": "on"})
            if answer.status_code == 303:
                break
        assert answer.status_code == 303
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert shell.inside("sync").code == 0
    assert shell.account.mailed() == ["ann@example.com"]
    kept = b"".join(p.read_bytes() for p in tmp_path.iterdir() if p.name != "page.token")
    assert TOKEN.encode() not in out.encode() + err.encode() + kept
    assert "ann@example.com" not in out + err
    assert "approved by somebody on the page" in shell.inside("why", "ann@example.com").out


def hidden(text: str) -> dict[str, str]:
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', text))


@pytest.mark.parametrize(
    ("token", "code", "words"),
    [(TOKEN, 0, "is there"), ("short", 2, "shorter than 16 characters"), ("", 2, "page.token")],
)
def test_check_looks_at_the_token(shell: Shell, token: str, code: int, words: str) -> None:
    shell.people((1, "ann@example.com", "Ann", 5))
    served(shell, token)
    said = shell.inside("check")
    assert said.code == code, said
    assert re.search(rf"http\.token.*{words}", said.out)
    assert TOKEN not in said.out
