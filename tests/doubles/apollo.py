"""A double of Apollo: pages by number over an index that is late, three budgets an endpoint, keys that may read some endpoints.

Source: connectors reference, section 10; docs.apollo.io: search for contacts, rate limits, status codes.
"""

import re
from typing import Any

from doubles.server import Asked, Double, Told
from syncd.http import parse_time, rfc3339

KEY, REFRESH = "key-made-up", "refresh-made-up"
PAGE_ROWS = 100
SORTS = {"contact_created_at": "created_at", "contact_updated_at": "updated_at"}
WINDOWS = {"minute": 60, "hourly": 3_600, "24-hour": 86_400}
PER = {"minute": "minute", "hourly": "hour", "24-hour": "day"}
CUSTOM, CHOICE = f"{0xC0DE:024x}", f"{0xC1DE:024x}"


def cid(number: int) -> str:
    """The id of a contact."""
    return f"{number:024x}"


class Apollo(Double):
    """contacts: id -> row. labels, stages: id -> name. users: rows. written: contact -> how it unsubscribed in an e-mail.

    lag_s: so long after a change the index sorts, counts and shows by what was before; the rows themselves are as they are now. sorts:
    whether the order that is asked for is given. counts_pages: whether messages come with a pagination [?]. named_labels: whether
    labels come as a bare list, or under a name [?]. counted_max: what a total says at most [?]. limits: requests a window for each
    endpoint.
    """

    lag_s = 0.0
    pages_max = 500
    counted_max = 1_000_000
    sorts = True
    counts_pages = True
    named_labels = False

    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        self.contacts: dict[str, dict[str, Any]] = {}
        self.deleted: list[tuple[float, dict[str, Any]]] = []
        self.indexed: dict[str, list[tuple[float, str]]] = {}
        self.labels: dict[str, str] = {}
        self.label_changes: dict[str, int] = {}
        self.stages = {"stage1": "Cold", "stage2": "Do Not Contact"}
        self.users: list[dict[str, Any]] = []
        self.written: dict[str, str] = {}
        self.custom: list[dict[str, Any]] = [
            {"id": CUSTOM, "modality": "contact", "name": "Note", "picklist_values": []},
            {"id": CHOICE, "modality": "contact", "name": "Level", "picklist_values": [{"id": "pick1", "name": "Gold"}]},
            {"id": f"{9:024x}", "modality": "account", "name": "Of accounts"},
        ]  # fmt: skip
        self.keys = {KEY}
        self.tokens: set[str] = set()
        self.denied: set[str] = set()
        self.limits = {"minute": 200, "hourly": 100_000, "24-hour": 100_000}
        self.windows: dict[tuple[str, str], list[float]] = {}
        self.throttled = 0
        self.order: tuple[Any, list[str]] = (None, [])

    # --- what its users do --------------------------------------------------------------------------

    def put(self, number: int, email: str | None = None, **values: Any) -> None:
        """Make a contact, or change it."""
        key, now = cid(number), self.stamp()
        held = self.contacts.setdefault(
            key,
            {
                "id": key, "first_name": None, "last_name": None, "email": None, "email_status": "verified",
                "email_unsubscribed": None, "label_ids": [], "contact_stage_id": "stage1", "owner_id": "user1",
                "contact_emails": [], "phone_numbers": [], "sanitized_phone": None, "typed_custom_fields": {},
                "contact_campaign_statuses": [], "organization_name": None, "created_at": now,
            },
        )  # fmt: skip
        if email is not None:
            held["email"] = email
        held |= {**values, "updated_at": now}
        self.indexed.setdefault(key, []).append((self.clock.now_s(), now))

    def change(self, number: int, **values: Any) -> None:
        """Change a contact in a way that does not move its `updated_at`."""
        self.contacts[cid(number)] |= values

    def delete(self, number: int) -> None:
        self.deleted.append((self.clock.now_s(), self.contacts.pop(cid(number))))

    def join(self, label: str, number: int, *, moves: bool = True) -> None:
        """Put a contact onto a list."""
        key = next(key for key, name in self.labels.items() if name == label)
        ids = [*self.contacts[cid(number)]["label_ids"], key]
        self.label_changes[key] = self.label_changes.get(key, 0) + 1
        if moves:
            self.put(number, label_ids=ids)
        else:
            self.change(number, label_ids=ids)

    def stamp(self) -> str:
        return rfc3339(parse_time(self.clock.now_s()), timespec="milliseconds")

    # --- what it answers ----------------------------------------------------------------------------

    def answer(self, asked: Asked) -> Told:
        if asked.path == "/oauth/token":
            return self._token(asked)
        bearer = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if asked.headers.get("x-api-key") not in self.keys and bearer not in self.tokens:
            return Told(401, b"Invalid access credentials.", {"Content-Type": "text/plain"})
        path = asked.path.removeprefix("/api/v1")
        if path in self.denied or (
            path.startswith("/contacts/") and "/contacts/show" in self.denied
        ):
            error = f"This API key is not authorized to access api/v1{path}."
            return Told(403, {"error": error, "error_code": "API_INACCESSIBLE"})
        headers, over = self._budget(path)
        if over is not None:
            return over
        for method, pattern, handle in (
            ("POST", "/contacts/search", self._search),
            ("GET", "/labels", self._labels),
            ("GET", "/contact_stages", self._stages),
            ("GET", "/users/search", lambda asked: self._paged(asked, "users", self.users)),
            ("GET", "/typed_custom_fields", lambda _: Told(200, {"typed_custom_fields": self.custom})),
            ("GET", "/emailer_messages/search", self._messages),
            ("GET", "/contacts/([^/]+)", self._contact),
        ):  # fmt: skip
            if asked.method == method and re.fullmatch(pattern, path):
                told = handle(asked)
                told.headers |= headers
                return told
        return Told(404, {"error": "no such path"})

    def _token(self, asked: Asked) -> Told:
        if asked.form.get("refresh_token") != REFRESH:
            return Told(401, {"error": "invalid_grant"})
        self.tokens = {"access-made-up"}
        return Told(200, {"access_token": "access-made-up", "expires_in": 3600})

    def _budget(self, path: str) -> tuple[dict[str, str], Told | None]:
        """Fixed windows that open with their first request [S3]."""
        now_s, headers = self.clock.now_s(), {}
        for window, length_s in WINDOWS.items():
            held = self.windows.setdefault((path, window), [now_s, 0.0])
            if now_s - held[0] >= length_s:
                held[:] = [now_s, 0.0]
            limit = self.limits[window]
            if held[1] >= limit:
                self.throttled += 1
                words = f"The maximum number of api calls allowed for api/v1{path} is {limit} times per {PER[window]}."
                wait = {"retry-after": f"{held[0] + length_s - now_s:.0f}"}
                return {}, Told(429, {"message": words}, wait)
            held[1] += 1
            headers |= {
                f"x-rate-limit-{window}": str(limit),
                f"x-{window}-requests-left": str(int(limit - held[1])),
            }
        return headers, None

    def _search(self, asked: Asked) -> Told:
        body = asked.json
        size, number = body.get("per_page", 25), body.get("page", 1)
        if size > PAGE_ROWS or number > self.pages_max:
            return Told(422, {"error": "beyond the display limit of 50,000 records"})
        wanted = set(body.get("contact_label_ids") or ())
        ids = self._sorted(
            body.get("sort_by_field", ""), ascending=body.get("sort_ascending", False)
        )
        if wanted:
            ids = [key for key in ids if wanted & set(self._row(key).get("label_ids") or ())]
        # What was deleted is still in the index, and can be shown no more.
        page = ids[size * (number - 1) : size * number]
        rows = [self.contacts[key] for key in page if key in self.contacts]
        pagination = {
            "page": number, "per_page": size, "total_entries": min(len(ids), self.counted_max),
            "total_pages": -(-len(ids) // size),
        }  # fmt: skip
        return Told(
            200,
            {
                "contacts": rows, "breadcrumbs": [], "partial_results_only": False,
                "partial_results_limit": 10_000, "pagination": pagination,
            },
        )  # fmt: skip

    def _row(self, key: str) -> dict[str, Any]:
        gone = (row for _, row in self.deleted if row["id"] == key)
        return self.contacts.get(key) or next(gone)

    def _sorted(self, sort: str, *, ascending: bool) -> list[str]:
        seen_s = self.clock.now_s() - self.lag_s
        gone = [row["id"] for at_s, row in self.deleted if at_s > seen_s]
        versions = sum(map(len, self.indexed.values()))
        state = (sort, ascending, versions, len(self.contacts), tuple(gone), self.lag_s and seen_s)
        if self.order[0] != state:
            by = {}
            for key in [*self.contacts, *gone]:
                times = [text for at_s, text in self.indexed[key] if at_s <= seen_s]
                if times:
                    by[key] = self._row(key)["created_at"] if "created" in sort else times[-1]
            ids = sorted(by, key=lambda key: (by[key], key), reverse=not ascending)
            self.order = (state, ids if self.sorts else sorted(by, key=lambda key: key[::-1]))
        return self.order[1]

    def _contact(self, asked: Asked) -> Told:
        row = self.contacts.get(asked.path.rpartition("/")[2])
        return Told(200, {"contact": row}) if row else Told(404, {"error": "Contact not found"})

    def _labels(self, _: Asked) -> Told:
        rows: list[dict[str, Any]] = [
            {
                "id": key, "_id": key, "name": name, "modality": "contacts",
                "cached_count": sum(key in row.get("label_ids", ()) for row in self.contacts.values()),
                "updated_at": f"change {self.label_changes.get(key, 0)}",
            }
            for key, name in self.labels.items()
        ]  # fmt: skip
        rows.append({"id": "label99", "name": "Accounts", "modality": "accounts"})
        return Told(200, {"labels": rows} if self.named_labels else rows)

    def _stages(self, _: Asked) -> Told:
        rows = [
            {"id": key, "name": name, "display_name": name} for key, name in self.stages.items()
        ]
        return Told(200, {"contact_stages": rows})

    def _messages(self, asked: Asked) -> Told:
        how = {
            "emailer_message_stats[]": {"unsubscribed": "link"},
            "emailer_message_reply_classes[]": {"unsubscribe": "answer"},
        }
        name = next(name for name in how if name in asked.query)
        wanted = how[name][asked.query[name]]
        rows = [
            {"id": key, "contact_id": key} for key, one in self.written.items() if one == wanted
        ]
        rows.append({"id": "lost", "contact_id": None})  # of a contact that was deleted
        told = self._paged(asked, "emailer_messages", rows)
        if not self.counts_pages:
            del told.body["pagination"]
        return told

    def _paged(self, asked: Asked, name: str, rows: list[dict[str, Any]]) -> Told:
        size, number = int(asked.query["per_page"]), int(asked.query["page"])
        pagination = {"page": number, "per_page": size, "total_pages": -(-len(rows) // size)}
        return Told(
            200, {name: rows[size * (number - 1) : size * number], "pagination": pagination}
        )
