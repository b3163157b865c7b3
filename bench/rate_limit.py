"""How much of the API's limit singles use, and that they make no 429: 1,500 creates without the bulk endpoint.

    python bench/rate_limit.py

The whole product against the sandbox, both on one clock of their own, so that the minutes cost nothing. `of what is allowed` compares
with the fewest seconds in which `share` of the limit allows so many requests.
"""

import math
import os
import tempfile
import threading
from pathlib import Path

from syncd import config, run
from syncd.sandbox import Quirks, Sandbox
from syncd.testing.clock import FakeClock
from syncd.watch import Nobody

PEOPLE, LIMIT = 1_500, 1_000
CONFIG = """
[fluenzr]
api_key = "env:BENCH_KEY"
base_url = "{url}"
share = {share}
bulk = "off"

[source.file]
connector = "csv"
path = "people.csv"
key = "id"

[sync.people]
source = "file"

[sync.people.fields]
email = "email"
"""


def measure(window: str, share: float, *, other_user: bool) -> None:
    """One run; one line."""
    clock = FakeClock()
    sandbox = Sandbox(clock=clock, limit=LIMIT, window=window, quirks=Quirks())  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as name, sandbox.serve() as server:
        folder = Path(name)
        lines = [f"{i},p{i}@example.com" for i in range(PEOPLE)]
        (folder / "people.csv").write_text("id,email\n" + "\n".join(lines) + "\n")
        (folder / "config.toml").write_text(CONFIG.format(url=server.url, share=share))
        settings = config.load(folder / "config.toml")
        if other_user:
            threading.Timer(0.3, lambda: sandbox.consume(LIMIT // 2)).start()
        start_s = clock.monotonic_s()
        result = run.sync(settings, run.Order(), clock=clock, watch=Nobody())[0]
        seconds = max(1.0, clock.monotonic_s() - start_s)
        assert result.created == PEOPLE, result
        cap = math.floor(LIMIT * share)
        fewest_s = max(1.0, 60.0 * (math.ceil(result.requests / cap) - 1))
        used = f"{fewest_s / seconds:.0%}" if not other_user else "-"
        who = "half by another user" if other_user else "alone"
        print(
            f"{window:<9}{share:>6}{who:>22}{result.requests:>10}{seconds:>10.1f}{used:>20}{sandbox.throttled:>6}"
        )


def main() -> None:
    """Both windows, alone and with another user of the account."""
    os.environ["BENCH_KEY"] = "flz_sk_" + "0" * 32
    print(
        f"{'window':<9}{'share':>6}{'account':>22}{'requests':>10}{'seconds':>10}{'of what is allowed':>20}{'429':>6}"
    )
    for window in ("fixed", "sliding"):
        for share in (0.9, 1.0):
            measure(window, share, other_user=False)
        measure(window, 0.9, other_user=True)


if __name__ == "__main__":
    main()
