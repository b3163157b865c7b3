"""What may stand in the configuration for files elsewhere: a URL, and how to log in there.

Secrets are references, in the URL too; certificates and host keys are verified, and no option turns that off.
"""

import re
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from syncd.connector import Options
from syncd.secret import Secret

LEAKY = re.compile(r"sig|token|secret|passw|credential|(^|[_-])key$|auth", re.IGNORECASE)

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


class Storage(Options):
    """How to log in where the files are; which of the options count depends on the URL.

    s3: key, secret, token (of a session), or profile, or anon; else what the AWS tools find by themselves. endpoint_url, region.
    sftp: username, password, or key_file and its passphrase, or the agent's keys. known_hosts: a file, instead of the user's own.
    https: username and password, or token (a bearer's), or headers.
    """

    key: Secret | None = None
    secret: Secret | None = None
    token: Secret | None = None
    profile: str | None = None
    anon: bool = False
    endpoint_url: str | None = None
    region: str | None = None
    username: str | None = None
    password: Secret | None = None
    key_file: str | None = None
    passphrase: Secret | None = None
    known_hosts: str | None = None
    headers: dict[str, Secret] = Field(default_factory=dict)


OPTIONS_OF = {
    "s3": {"key", "secret", "token", "profile", "anon", "endpoint_url", "region"},
    "sftp": {"username", "password", "key_file", "passphrase", "known_hosts"},
    "https": {"username", "password", "token", "headers"},
}


def is_url(path: str) -> bool:
    """Whether `path` names a file elsewhere, not one of this machine."""
    return _URL.match(path) is not None


def url_fault(url: str, storage: Storage, *, written: bool) -> str:
    """What is wrong with this URL or with the options for it; "" if nothing is. It repeats no secret.

    written: it stands in the configuration itself, so that it must hold no secret.
    """
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return "this is not a URL"
    if parts.scheme not in OPTIONS_OF:
        return f"files are read from {', '.join(sorted(OPTIONS_OF))}://, not from {parts.scheme}://"
    if not host or parts.path in ("", "/"):
        return "the URL needs a host or bucket, and a path to a file"
    if parts.password is not None or (parts.scheme != "sftp" and parts.username is not None):
        return (
            'a URL holds no password; write storage = { username = "...", password = "env:NAME" }'
        )
    if written and any(LEAKY.search(name) for name, _ in parse_qsl(parts.query)):
        return 'the URL holds a secret; write the whole of it as a reference: path = "env:NAME"'
    foreign = storage.model_fields_set - OPTIONS_OF[parts.scheme]
    if foreign:
        known = ", ".join(sorted(OPTIONS_OF[parts.scheme]))
        return f"{sorted(foreign)[0]!r} is no option of {parts.scheme}://; those are {known}"
    return ""
