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
    """How to log in where the files are; which of the options count depends on the URL."""

    key: Secret | None = None
    """s3: the access key; without it, what the AWS tools find by themselves."""
    secret: Secret | None = None
    """s3: the secret key."""
    token: Secret | None = None
    """s3: of a session. https: a bearer token."""
    profile: str | None = None
    """s3: a profile of the AWS tools."""
    anon: bool = False
    """s3: a public bucket, without login."""
    endpoint_url: str | None = None
    """s3: a server that is not Amazon's."""
    region: str | None = None
    """s3: the bucket's region."""
    username: str | None = None
    """sftp, https: the name to log in with."""
    password: Secret | None = None
    """sftp, https: its password."""
    key_file: str | None = None
    """sftp: a private key; without it and `password`, the agent's keys."""
    passphrase: Secret | None = None
    """sftp: that of `key_file`."""
    known_hosts: str | None = None
    """sftp: a file of host keys, instead of the user's own."""
    headers: dict[str, Secret] = Field(default_factory=dict)
    """https: headers of each request."""


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
