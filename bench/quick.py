"""Whether the main job has become slower: the ratios of `main_job.py` at 300,000 people against the committed ones.

    python bench/quick.py            fails when a ratio, the best of three, is more than 20 % worse than in figures.json
    python bench/quick.py --save     writes them there

Ratios to reading the file alone, since machines differ; run it on one that does nothing else.
"""

import json
import sys
from pathlib import Path

from main_job import measure

FIGURES = Path(__file__).with_name("figures.json")
PEOPLE, TIMES = 300_000, 3
WORSE_MAX = 1.2
FLOOR = 1.0  # below reading the file once, noise is larger than the work


def main() -> None:
    """Measure and compare; the exit code says how it went."""
    runs = [measure(PEOPLE) for _ in range(TIMES)]
    found = {
        work: round(min(run[work]["ratio"] for run in runs), 2)
        for work in runs[0]
        if "ratio" in runs[0][work]
    }
    found["bytes a contact"] = round(runs[0]["state"]["bytes"])
    if "--save" in sys.argv:
        FIGURES.write_text(json.dumps(found, indent=2) + "\n")
        return
    if not FIGURES.exists():
        sys.exit(
            f"{FIGURES} is not there yet: run `python bench/quick.py --save` on a machine that does nothing else"
        )
    known = json.loads(FIGURES.read_text())
    worse = [
        work
        for work, ratio in found.items()
        if max(ratio, FLOOR) > max(known[work], FLOOR) * WORSE_MAX
    ]
    print()
    for work, ratio in found.items():
        print(f"{work:<26}{ratio:>8} (was {known[work]}){'  slower' if work in worse else ''}")
    sys.exit(1 if worse else 0)


if __name__ == "__main__":
    main()
