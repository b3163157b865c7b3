"""Whether the whole budget is used however long FluenzR takes: requests a minute while a first load is sent.

    python bench/latency.py [PEOPLE]        (100,000 when nothing is given)

FluenzR allows 1000 requests a minute; the account here allows any number, so that what is measured is what the threads can carry.
"""

import re
import sys
import tempfile
from pathlib import Path

from main_job import SYNC, Account, people, syncd, write

LATENCIES_MS = (0, 200, 2000)
BUDGET = 1000  # requests a minute


def main() -> None:
    """One first load for each latency; a line each."""
    count = int(re.sub("[_,]", "", sys.argv[1])) if len(sys.argv) > 1 else 100_000
    print(
        f"{'latency ms':<12}{'bulks':>8}{'wall s':>9}{'a minute':>10}{'x budget':>10}{'peak MiB':>10}"
    )
    for latency_ms in LATENCIES_MS:
        with tempfile.TemporaryDirectory() as name, Account(latency_ms=latency_ms) as account:
            folder = Path(name)
            write(folder / "people.csv", people(count))
            spent = syncd(folder, *SYNC, url=account.url)
            seen = account.seen()
        # The server answers late, so the first came one latency before its body was read to the end.
        rate = (seen["bulks"] - 1) * 60_000 / max(seen["bulk_span_ms"], 1)
        print(
            f"{latency_ms:<12}{seen['bulks']:>8}{spent.wall_s:>9.1f}{rate:>10.0f}{rate / BUDGET:>10.1f}{spent.peak_mib:>10.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
