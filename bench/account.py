"""A FluenzR account for benchmarks: as little work as a server can do, in a process of its own, so that it is never what is measured.

    python bench/account.py [LATENCY_MS] [REQUESTS_PER_MINUTE]

It reads every body whole and remembers who was created when, by a hash of the address; `GET /seen` tells what it got, with a sum
over all addresses that does not depend on their order. It answers what a sync asks; it is no sandbox: it refuses nothing but
requests over the limit, where one is given.
"""

import sys
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from urllib.parse import parse_qs, urlsplit
from zlib import crc32

import orjson

GROUP = {"id": "grp_1", "name": "Customers", "type": "static"}


class Account:
    """What the server remembers; guarded by `lock`."""

    def __init__(self, latency_s: float, limit: int) -> None:
        self.latency_s, self.limit, self.lock = latency_s, limit, Lock()
        self.made_ms: dict[
            int, int
        ] = {}  # crc32 of the address -> epoch ms; collisions do not matter here
        self.seen = {
            "requests": 0,
            "created": 0,
            "updated": 0,
            "ungrouped": 0,
            "refused": 0,
            "flying": 0,
        }
        self.seen |= {"created_sum": 0, "updated_sum": 0, "contacts": 0}
        self.bulk_ms: list[int] = []  # when each bulk request came
        self.window, self.used = 0, 0

    def admit(self) -> tuple[bool, dict[str, str]]:
        """Whether a request is within the limit of its minute, and the headers that say so."""
        with self.lock:
            self.seen["requests"] += 1
            if not self.limit:
                return True, {}
            window = int(time.time()) // 60
            if window != self.window:
                self.window, self.used = window, 0
            self.used += 1
            left = self.limit - self.used
            self.seen["refused"] += left < 0
            headers = {
                "X-RateLimit-Limit": str(self.limit),
                "X-RateLimit-Remaining": str(max(0, left)),
                "X-RateLimit-Reset": str((window + 1) * 60),
            }
            return left >= 0, headers

    def take(self, body: bytes) -> dict[str, object]:
        """A bulk request."""
        asked = orjson.loads(body)
        keys = [crc32(one["email"].encode()) for one in asked["contacts"]]
        kind = "created" if asked["onDuplicate"] == "skip" else "updated"
        now_ms = int(time.time() * 1000)
        with self.lock:
            self.bulk_ms.append(now_ms)
            if kind == "created":
                self.made_ms.update(dict.fromkeys(keys, now_ms))
            self.seen["contacts"] += len(keys)
            self.seen[kind] += len(keys)
            self.seen[f"{kind}_sum"] += sum(keys)
        return {"created": 0, "updated": 0, "skipped": 0, "errors": [], kind: len(keys)}

    def take_one(self, body: bytes) -> int:
        """A new contact, or a change of one: the status of the answer, 409 for an address that is there."""
        key = crc32(orjson.loads(body)["email"].encode())
        with self.lock:
            self.seen["contacts"] += 1
            known = key in self.made_ms
            self.made_ms.setdefault(key, int(time.time() * 1000))
        return 409 if known else 201

    def find(self, email: str) -> list[dict[str, object]]:
        """The contact of an address, as it was created."""
        made_ms = self.made_ms.get(crc32(email.encode()))
        if made_ms is None:
            return []
        at = datetime.fromtimestamp(made_ms / 1000, UTC).isoformat()
        rid = f"con_{email}"
        return [
            {"id": rid, "email": email, "status": "active", "groups": [GROUP], "tags": [], "customFields": {},
             "createdAt": at, "updatedAt": at}
        ]  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """The endpoints that a sync uses."""

    protocol_version, disable_nagle_algorithm, wbufsize = "HTTP/1.1", True, -1
    account: Account

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing is logged."""

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, data: object, meta: object = None, *, status: int = 200) -> None:
        admitted, headers = self.account.admit()
        if self.account.latency_s:
            time.sleep(self.account.latency_s)
        body = orjson.dumps(
            {"success": True, "data": data, "meta": meta}
            if admitted and status < 400
            else {"success": False}
        )
        self.send_response(status if admitted else 429)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def do_GET(self) -> None:
        """Groups, contacts, and what was seen."""
        url = urlsplit(self.path)
        if url.path.endswith("/seen"):
            times = self.account.bulk_ms
            span_ms = times[-1] - times[0] if times else 0
            self._answer({**self.account.seen, "bulks": len(times), "bulk_span_ms": span_ms})
        elif url.path.endswith("/groups"):
            self._answer([GROUP], {"total": 1})
        else:
            asked = parse_qs(url.query)
            found = self.account.find(asked["email"][0]) if "email" in asked else []
            self._answer(found, {"total": len(found)})

    def do_POST(self) -> None:
        """Bulk requests, and new contacts one by one."""
        if self.path.endswith("/bulk"):
            self._answer(self.account.take(self._body()))
        else:
            self._answer({}, status=self.account.take_one(self._body()))

    def do_PUT(self) -> None:
        """A contact is changed."""
        self.account.take_one(self._body())
        self._answer({})

    def do_DELETE(self) -> None:
        """Somebody leaves a group."""
        self._body()
        with self.account.lock:
            self.account.seen["ungrouped"] += 1
        self._answer({})


class Server(ThreadingHTTPServer):
    """One thread a connection."""

    daemon_threads, request_queue_size = True, 128


def main() -> None:
    """Serve until killed; the URL is the first line of the output."""
    latency_s = float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0
    Handler.account = Account(latency_s, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    server = Server(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}/v1", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
