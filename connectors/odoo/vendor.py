"""Odoo's two web APIs as they are: JSON-2 (from 19), JSON-RPC (until it goes), their errors and their pages.

Only three methods are ever called: search_read, fields_get and context_get. Every listing is paged by id under a fixed
filter: Odoo orders times by microseconds that it does not show, so that a keyset of (write_date, id) loses rows, and a row
that changes while pages are read moves along an order of times, never along the order of ids.

Source: connectors reference, section 6, and connectors-seen, Odoo (Odoo 14 and 19), which wins.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import orjson

from syncd.errors import ConfigError, SourceDenied, SourceError, SourceRefused
from syncd.http import (
    Again,
    Answer,
    Api,
    Denied,
    Pace,
    Refused,
    Vendor,
    Verdict,
    by_status,
    retry_after_s,
)
from syncd.secret import Secret

Protocol = Literal["auto", "json2", "jsonrpc"]
Domain = Sequence[Any]  # Odoo's filter: [field, operator, value] and the prefixes "|" and "&"
Row = dict[str, Any]

JSON2_FROM = 19  # the first version with JSON-2
ERROR_BYTES = (
    400  # JSON-RPC names an error at the beginning of the body, before any result could come
)
KEY_HINT = "Check `token`, `user` and `database`: a key ends with its expiry date, and belongs to one user of one database"
PLACE_HINT = "Check `base_url` and `database`: Odoo answers so where there is no such page or no such database"
# What another try may cure, although it comes from Odoo's own code.
PASSING = frozenset({"MemoryError", "ConnectionError", "TimeoutError", "ConcurrencyError"})
DENIED = frozenset({"AccessDenied", "SessionExpiredException", "Unauthorized"})
FORBIDDEN = frozenset({"AccessError", "Forbidden"})


def _error_of(answer: Answer) -> tuple[str, str] | None:
    """(name of the exception, its words) of an error in either protocol; None where the body is no such thing.

    The number in JSON-RPC's error says nothing: 200 in Odoo 14, 0 in 19.
    """
    head = answer.body[:ERROR_BYTES]
    if answer.status == 200 and (b'"error"' not in head or head.startswith(b"[")):
        return None
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict) or (answer.status == 200 and "jsonrpc" not in found):
        return None
    error = found.get("error") if "jsonrpc" in found else found
    if not isinstance(error, dict):
        return None
    held = error.get("data")
    data = held if isinstance(held, dict) else error
    name, words = data.get("name"), data.get("message") or error.get("message")
    return (str(name or ""), str(words or "")) if name or words else None


def _judge(answer: Answer, now_s: float) -> Verdict:
    error = None if answer.fault else _error_of(answer)
    if error is None:
        wrong_place = 300 <= answer.status < 400 or answer.status in {404, 405, 415}
        return Refused(PLACE_HINT) if wrong_place else by_status(answer, now_s)
    name, words = error
    kind = name.rpartition(".")[2]
    if kind in DENIED or answer.status == 401:
        return Denied(KEY_HINT)
    if kind in FORBIDDEN:
        return Denied()
    if name.startswith("psycopg2.") and "does not exist" in words:
        return Refused("Correct `database`: the server has no database of this name")
    if answer.status != 200 and answer.status < 500:
        return by_status(answer, now_s)
    # A wrong field, filter or date is a 500 in JSON-2 and a 200 in JSON-RPC, and will be the next time too.
    ours = name.startswith(("builtins.", "odoo.exceptions.", "werkzeug.")) and kind not in PASSING
    return Refused("Odoo's log says more") if ours else Again(retry_after_s(answer.headers, now_s))


def _words(answer: Answer) -> str:
    name, words = _error_of(answer) or ("", "")
    return f"{name}: {words}" if name and words else name or words


def vendor_for(base_url: str) -> Vendor:
    """Odoo Online wants about one request a second [M]; a server of one's own has no limit."""
    hosted = re.match(r"https?://[^/:]+\.odoo\.com(?=[:/]|$)", base_url, re.IGNORECASE)
    return Vendor("Odoo", Pace(1, 1.0) if hosted else Pace(10, 1.0), _judge, _words)


class Key:
    """An API key or password: in a header for JSON-2, within the body for JSON-RPC."""

    def __init__(self, secret: Secret) -> None:
        self._secret, self._value = secret, ""
        self.in_header = False

    def value(self) -> str:
        """The key, read at its first use."""
        self._value = self._value or self._secret.reveal()
        return self._value

    def headers(self) -> Mapping[str, str]:
        """JSON-2's one header."""
        if not self.in_header:
            return {}
        value = self.value()
        if not value.isascii() or not value.isprintable():
            raise ConfigError(
                "Odoo's `token` has characters that no header may have",
                hint="Check that it was copied whole, without line breaks",
            )
        return {"Authorization": f"Bearer {value}"}  # Odoo takes any case; a proxy may not

    def renew(self) -> bool:
        """Only its owner can make another one."""
        return False

    def secrets(self) -> tuple[str, ...]:
        """The key."""
        return (self._value,) if self._value else ()


class Server:
    """One database of one Odoo. `title` says which version and protocol, once something was asked."""

    def __init__(self, api: Api, key: Key, *, protocol: Protocol, database: str, user: str) -> None:
        self._api, self._key, self._protocol = api, key, protocol
        self._database, self._user = database, user
        self._uid = 0
        self.api, self.title = api, "Odoo"

    def call(self, model: str, method: str, needs: str = "", **arguments: Any) -> Any:
        """The bare value that a method gives. needs: the right, for the error that says so. Raises SourceError."""
        if self._protocol == "auto":
            self._protocol = self._spoken()
        if self._protocol == "json2":
            self._key.in_header = True
            return self._api.post(f"/json/2/{model}/{method}", arguments, needs=needs)
        self._uid = self._uid or self._logged_in()
        args = [self._database, self._uid, self._key.value(), model, method, [], arguments]
        return self._rpc("object", "execute_kw", args, needs)

    def uid(self) -> int:
        """The number of the user that the key belongs to; 0 where this Odoo does not say."""
        context = self.call("res.users", "context_get")
        found = context.get("uid") if isinstance(context, dict) else None
        return found if isinstance(found, int) else self._uid

    def _spoken(self) -> Protocol:
        """JSON-2 from 19 on, or where /jsonrpc is gone. Older ones answer 404 to JSON-2, which also means an unknown database."""
        try:
            found = self._rpc("common", "version", [], "")
        except (SourceRefused, SourceDenied):
            self.title = "Odoo by JSON-2"
            return "json2"
        text = str(found.get("server_version", "")) if isinstance(found, dict) else ""
        number = re.search(r"\d+", text)  # "19.0", "saas~18.4+e"
        if number is None:
            raise SourceError(
                "Odoo does not say which version it is",
                hint='Set `protocol` to "json2" (Odoo 19 or later) or "jsonrpc"',
            )
        newer = int(number[0]) >= JSON2_FROM
        self.title = f"Odoo {text} by {'JSON-2' if newer else 'JSON-RPC'}"
        if not newer and not (self._database and self._user):
            raise SourceError(
                f"Odoo {text} needs `database` and `user` beside `token`",
                hint="Set both: the name of the database, and the login that the key belongs to",
            )
        return "json2" if newer else "jsonrpc"

    def _logged_in(self) -> int:
        """A wrong key or user is the result false, and no error."""
        found = self._rpc(
            "common", "authenticate", [self._database, self._user, self._key.value(), {}], ""
        )
        if not isinstance(found, int) or not found:
            raise SourceDenied("Odoo refuses the login", hint=KEY_HINT)
        return found

    def _rpc(self, service: str, method: str, args: list[Any], needs: str) -> Any:
        params = {"service": service, "method": method, "args": args}
        body = {"jsonrpc": "2.0", "method": "call", "params": params, "id": 1}
        found = self._api.post("/jsonrpc", body, needs=needs)
        if not isinstance(found, dict) or "jsonrpc" not in found or found.get("error"):
            raise SourceError("Odoo: /jsonrpc did not answer in JSON-RPC", hint=PLACE_HINT)
        return found.get("result")


def search(
    server: Server,
    model: str,
    domain: Domain,
    fields: Sequence[str],
    *,
    rows_max: int,
    archived: bool = False,
    needs: str = "",
) -> list[Row]:
    """At most `rows_max` rows in the order of their ids. archived: also those that are. Raises SourceError.

    `fields` are never left out: without them Odoo asks itself for all, and then refuses those that this user may not read.
    """
    found = server.call(
        model,
        "search_read",
        needs,
        domain=list(domain),
        fields=list(fields),
        order="id",
        limit=rows_max,
        context={"active_test": not archived},
    )
    if not isinstance(found, list) or not all(
        isinstance(row, dict) and type(row.get("id")) is int for row in found
    ):
        raise SourceError(
            f"Odoo: {model} answered with something else than its rows", hint=PLACE_HINT
        )
    return found


def pages(
    server: Server,
    model: str,
    domain: Domain,
    fields: Sequence[str],
    *,
    rows_max: int,
    archived: bool = False,
    needs: str = "",
) -> Iterator[list[Row]]:
    """All rows of a listing by id; the end is an empty page, for a page may be shorter than was asked for."""
    last = 0
    while True:
        after = [*domain, ["id", ">", last]]
        rows = search(
            server, model, after, fields, rows_max=rows_max, archived=archived, needs=needs
        )
        if not rows:
            return
        ids = [row["id"] for row in rows]
        if ids[0] <= last or ids != sorted(set(ids)):
            raise SourceError(
                f"Odoo: the rows of {model} do not come in the order of their ids",
                why="A page that comes again, or in another order, would lose people",
                hint="The next run reads it anew; a module of this Odoo may change the order",
            )
        last = ids[-1]
        yield rows


def fields_of(server: Server, model: str, needs: str = "") -> dict[str, dict[str, Any]]:
    """The fields of a model by name, with type, label, relation and whether they are stored; only those that this user may read.

    Odoo's versions differ (`mobile` and `title` are gone in 19), and a field that is missing is an error: so this is asked first.
    """
    wanted = ["string", "type", "relation", "store"]
    found = server.call(model, "fields_get", needs, attributes=wanted)
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise SourceError(
            f"Odoo: {model} answered with something else than its fields", hint=PLACE_HINT
        )
    return found
