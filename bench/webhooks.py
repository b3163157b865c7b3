"""A flood of events: what `syncd webhooks serve` does with a thousand a second for a minute, half of them replays.

    python bench/webhooks.py [EVENTS_A_SECOND [SECONDS]]

The receiver is a process of its own, and applies what it receives meanwhile. Printed: how many were answered how, how long an
answer took, the receiver's CPU and its memory before and by quarters, and whether each event was applied exactly once.
"""

import asyncio
import hashlib
import hmac
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECRET = "b" * 64
CONNECTIONS = 128
PEOPLE = 2_000
CONFIG = """
[fluenzr]
api_key = "env:BENCH_KEY"

[http]
listen = "127.0.0.1:0"
[webhooks]
secret = "env:BENCH_SECRET"

[source.file]
connector = "csv"
path = "people.csv"
key = "id"
[sync.people]
source = "file"
[sync.people.fields]
email = "email"
"""


def request(number: int) -> bytes:
    """One signed event, ready to be sent. Every second one comes again at once."""
    body = json.dumps(
        {
            "id": f"evt_{number // 2:024d}",
            "type": "email.unsubscribed" if number % 20 == 0 else "email.replied",
            "timestamp": "2026-01-01T10:00:00.000Z",
            "data": {
                "campaignId": "cmp_1",
                "contactId": f"con_{number % PEOPLE:024d}",
                "contactEmail": f"person{number % PEOPLE:06d}@example.com",
                "replySubject": "Re: a few words about what you wrote to us last week",
            },
        }
    ).encode()
    timestamp = str(int(time.time()))
    digest = hmac.new(SECRET.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    head = (
        f"POST /webhooks/fluenzr HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n"
        f"X-FluenzR-Signature: sha256={digest}\r\nX-FluenzR-Timestamp: {timestamp}\r\n\r\n"
    )
    return head.encode() + body


async def send(port: int, *, rate: int, seconds: int) -> tuple[Counter[str], list[float]]:
    """Send at a steady rate over a few connections; statuses, and how long each answer took."""
    due: asyncio.Queue[int] = asyncio.Queue()
    statuses, took_s = Counter[str](), list[float]()
    ready = [
        request(number) for number in range(rate * seconds)
    ]  # within the tolerance of the clock

    async def sender() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (number := await due.get()) >= 0:
            start_s = time.perf_counter()
            writer.write(ready[number])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
            await reader.readexactly(length)
            took_s.append(time.perf_counter() - start_s)
            statuses[head.split(b" ", 2)[1].decode()] += 1
        writer.close()

    senders = [asyncio.create_task(sender()) for _ in range(CONNECTIONS)]
    start_s, sent, count = time.perf_counter(), 0, rate * seconds
    while sent < count:
        until = min(count, int((time.perf_counter() - start_s) * rate) + 1)
        for number in range(sent, until):
            due.put_nowait(number)
        sent = until
        await asyncio.sleep(0.005)
    for _ in senders:
        due.put_nowait(-1)
    await asyncio.gather(*senders)
    return statuses, took_s


def usage(process: int) -> tuple[float, float]:
    """CPU seconds so far, and MiB now."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    ticks = os.sysconf("SC_CLK_TCK")
    return (int(fields[11]) + int(fields[12])) / ticks, pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def sampled(process: int) -> Iterator[list[float]]:
    """MiB, ten times a second."""
    found, over = list[float](), threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            found.append(usage(process)[1])

    thread = threading.Thread(target=look)
    thread.start()
    yield found
    over.set()
    thread.join()


def main() -> None:
    """Start the receiver, flood it, and look at what is in its inbox."""
    rate = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.toml").write_text(CONFIG)
        environment = {**os.environ, "BENCH_KEY": "flz_sk_" + "0" * 32, "BENCH_SECRET": SECRET}
        receiver = subprocess.Popen(
            [sys.executable, "-m", "syncd", "webhooks", "serve"],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert receiver.stdout is not None
        try:
            port = int(re.search(r":(\d+)\.", receiver.stdout.readline())[1])  # type: ignore[index]
            asyncio.run(send(port, rate=50, seconds=1))  # warm
            cpu_s, first_mib = usage(receiver.pid)
            start_s = time.perf_counter()
            with sampled(receiver.pid) as memory_mib:
                statuses, took_s = asyncio.run(send(port, rate=rate, seconds=seconds))
            elapsed_s = time.perf_counter() - start_s
            last_cpu_s, _ = usage(receiver.pid)
            with sqlite3.connect(folder / "syncd.db.inbox") as box:
                while box.execute("SELECT 1 FROM event WHERE applied_at IS NULL").fetchone():
                    time.sleep(0.1)
                kept, applied = box.execute(
                    "SELECT count(*),count(applied_at) FROM event"
                ).fetchone()
            behind_s = time.perf_counter() - start_s - elapsed_s
        finally:
            receiver.terminate()
            receiver.wait()
    took_s.sort()
    print(
        f"{sum(statuses.values()):,} requests in {elapsed_s:.1f} s, half of them replays: {dict(statuses)}"
    )
    print(
        f"{kept:,} different events kept, {applied:,} applied, the last {behind_s:.1f} s after it was sent"
    )
    print(
        f"answered in {took_s[len(took_s) // 2] * 1e3:.1f} ms (half), {took_s[len(took_s) * 99 // 100] * 1e3:.1f} ms (99 of 100)"
    )
    parts = [memory_mib[len(memory_mib) * part // 4 - 1] for part in (1, 2, 3, 4)]
    print(
        f"CPU {(last_cpu_s - cpu_s) / sum(statuses.values()) * 1e6:.0f} us a request; memory {first_mib:.0f} MiB before, then by quarters"
        f" {', '.join(f'{mib:.0f}' for mib in parts)}"
    )


if __name__ == "__main__":
    main()
