"""EspoCRM's API as it is: three logins, errors with their reason in a header, pages by key.

Source: connectors reference, section 7 (EspoCRM), and what a server of version 10 answered ("seen", 1 to 21).
"""

import hmac
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import orjson

from syncd.errors import SourceError
from syncd.http import Answer, Api, Denied, Pace, Trail, Vendor, Verdict, by_status
from syncd.secret import Secret

PAGE_ROWS = 200  # a larger maxSize is answered with 403 (seen, 10)
BATCH_IDS, BATCH_CHARS = 50, 3_000  # in one condition: a URL must stay below 8,000 characters
SOME_MORE = -1  # `total` where counting is off: there are more rows; -2: there are none (seen, 10)
REASON = "x-status-reason"
PLAIN_ID = re.compile(r"[0-9a-z]+")  # sorted by every database in the same way
WhereName = Literal["where", "whereGroup"]
Item = Mapping[str, Any]  # of a condition: type, attribute, value


class Hmac:
    """An API user with HMAC: each request carries the key and a digest over its method and path; the query is not signed (seen, 4).

    digest: "hex" since EspoCRM 8.4.1; "raw" bytes for servers before.
    """

    def __init__(self, key: Secret, secret: Secret, digest: Literal["hex", "raw"]) -> None:
        self._key, self._secret, self._digest = key, secret, digest
        self._shown: tuple[str, ...] = ()

    def headers(self) -> Mapping[str, str]:
        """None: see `sign`."""
        return {}

    def sign(self, method: str, path: str) -> Mapping[str, str]:
        """The header for one request. path: from its slash on, without /api/v1."""
        key, secret = self._key.reveal(), self._secret.reveal()
        made = hmac.new(secret.encode(), f"{method} {path}".encode(), "sha256")
        digest = made.hexdigest().encode() if self._digest == "hex" else made.digest()
        signed = b64encode(key.encode() + b":" + digest).decode()
        self._shown = (key, secret, signed)
        return {"X-Hmac-Authorization": signed}

    def renew(self) -> bool:
        """There is nothing to renew."""
        return False

    def secrets(self) -> tuple[str, ...]:
        """The key, its secret, and what was made of them last."""
        return self._shown


def _judge(answer: Answer, now_s: float) -> Verdict:
    if answer.status == 401:  # neither body nor reason (seen, 9)
        return Denied(
            "Check the user: active, of the kind that is configured (API key, HMAC, or a user with a password)? "
            "HMAC signs the path: base_url is the address of the CRM, and nothing on the way may change the path"
        )
    if answer.status == 403 and REASON not in answer.headers:
        return Denied(
            "Give the user's role read access to this; if it has that, a firewall before EspoCRM may "
            'dislike conditions in a URL: set where_name = "whereGroup" (EspoCRM 9 or later)'
        )
    return by_status(answer, now_s)


def _words(answer: Answer) -> str:
    reason = answer.headers.get(REASON)
    if reason:
        return reason
    found = orjson.loads(answer.body)
    told = found.get("messageTranslation") or {}
    return str(told.get("label") or found.get("message") or "")


# It has no limit of its own [M]: ours is kind to a server that people work with.
ESPOCRM = Vendor("EspoCRM", Pace(20, 1.0), _judge, _words)


class Espo:
    """EspoCRM's listings and records, for one read."""

    def __init__(self, api: Api, hmac_login: Hmac | None, where_name: WhereName) -> None:
        self.api = api
        self._hmac, self._where_name = hmac_login, where_name

    def get(self, path: str, query: Mapping[str, str | int] | None = None, needs: str = "") -> Any:
        """The JSON of one GET; without counting what there is."""
        headers = {"X-No-Total": "true"}
        if self._hmac is not None:
            headers |= self._hmac.sign("GET", path)
        return self.api.get(path, query or {}, headers=headers, needs=needs)

    def rows(
        self, path: str, *, where: Sequence[Item] = (), select: str = "", count: int = PAGE_ROWS,
        by: str = "id",
    ) -> tuple[list[dict[str, Any]], int | None]:  # fmt: skip
        """(the first rows in the order of `by`, `total` if it was told)."""
        query: dict[str, str | int] = {"maxSize": count, "orderBy": by, "order": "asc"}
        if select:
            query["select"] = select
        query |= dict(_flat(self._where_name, list(where)))
        found = self.get(path, query, needs=f"read access to {path.split('/')[1]}")
        rows = found.get("list") if isinstance(found, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise SourceError(
                f"EspoCRM: {path} answered without `list`",
                hint="Check base_url: is this the address of an EspoCRM?",
            )
        total = found.get("total")
        return rows, total if isinstance(total, int) else None

    def pages(
        self, path: str, *, where: Sequence[Item] = (), select: str = "", by: str = "id"
    ) -> Iterator[list[dict[str, Any]]]:
        """All rows, page by page in the order of a key that never changes: nothing moves from one page to another (seen, 12)."""
        trail, after = Trail(f"EspoCRM: {path}"), list[Item]()
        while True:
            rows, total = self.rows(path, where=[*where, *after], select=select, by=by)
            if not rows:
                if total == SOME_MORE:
                    raise _broken(path, "it says that there is more, and gives nothing")
                return
            keys = [row.get(by) for row in rows]
            if any(key in (None, "") for key in keys) or (by == "id" and _unsorted(keys)):
                raise _broken(path, f"its rows are not in the order of `{by}`")
            trail.step(keys[-1])
            yield rows
            # A server that counts all the same tells how many are left, these included; one that tells nothing is asked on.
            if total is not None and total != SOME_MORE and total <= len(rows):
                return
            after = [greater(by, keys[-1])]


def equal(attribute: str, value: Any) -> Item:
    return {"type": "equals", "attribute": attribute, "value": value}


def greater(attribute: str, value: Any) -> Item:
    return {"type": "greaterThan", "attribute": attribute, "value": value}


def one_of(attribute: str, values: Sequence[str]) -> Item:
    return {"type": "in", "attribute": attribute, "value": list(values)}


def is_true(attribute: str) -> Item:
    return {"type": "isTrue", "attribute": attribute}


def _flat(name: str, value: Any) -> Iterator[tuple[str, str | int]]:
    """A nested value as PHP reads it from a query: where[0][type]=..."""
    if isinstance(value, Mapping):
        for inner, each in value.items():
            yield from _flat(f"{name}[{inner}]", each)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from _flat(f"{name}[{place}]", each)
    else:
        yield name, value


def _unsorted(keys: Sequence[Any]) -> bool:
    """Whether the order was ignored, so that rows would be lost. Ids of other letters are sorted by the database's own rules."""
    plain = [str(key) for key in keys if PLAIN_ID.fullmatch(str(key))]
    return any(one >= other for one, other in pairwise(plain))


def _broken(path: str, why: str) -> SourceError:
    return SourceError(
        f"EspoCRM: {path} cannot be read page by page",
        why=f"In this answer {why}",
        hint="Nothing is lost: the next run reads it anew. If it stays so, show this to who runs the CRM",
    )
