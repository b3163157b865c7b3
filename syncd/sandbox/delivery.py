"""One event on its way to a webhook: its payload, its signature, and what the receiver answers.

Source: FluenzR reference, "Webhooks" [D]: `{"id","type","timestamp","data"}`, signed with HMAC-SHA256 over
`<timestamp>.<raw body>`; the answer must come within 30 seconds.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from syncd.errors import NoAnswer
from syncd.http import HttpClient

TIMEOUT_S = 5.0  # the sandbox answers nobody else meanwhile; FluenzR waits 30 s [D]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One delivery. status: of the receiver's answer; None: none came, and `error` says why."""

    id: str
    event: str
    when: str
    status: int | None
    error: str

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300


def signed(secret: str, event: dict[str, Any], *, now_s: float) -> tuple[bytes, dict[str, str]]:
    """The body of an event, and its headers."""
    body, timestamp = orjson.dumps(event), str(int(now_s))
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-FluenzR-Signature": f"sha256={digest}",
        "X-FluenzR-Timestamp": timestamp,
    }
    return body, headers


def deliver(url: str, body: bytes, headers: dict[str, str]) -> tuple[int | None, str]:
    """Send it once: the status of the answer, or why there is none."""
    place = urlsplit(url)
    with HttpClient(f"{place.scheme}://{place.netloc}", timeout_s=TIMEOUT_S) as http:
        try:
            answer = http.send("POST", place.path, query=place.query, body=body, headers=headers)
        except NoAnswer as error:
            return None, error.why
    return answer.status, ""
