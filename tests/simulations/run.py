"""How often what is promised with a level of confidence holds, where the truth is known (``pip install -e ".[test]"``).

python tests/simulations/run.py                    # all claims, minutes on one core; writes docs/promises.md
python tests/simulations/run.py area tail          # some, printed
python tests/simulations/run.py --repeats 2000     # with a smaller Monte-Carlo error
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from claims import CLAIMS, Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "promises.md"
ABOUT = """# Promises, simulated

Every figure with a level of confidence, in worlds whose truth is known. m is the number of anomalies, n of normals. An
interval of 95 % shall hold the truth in at least 93 % of data sets, whatever the world; those that hold for any
distribution hold it more often, and are wider than they would have to be in a tame one. A claim's worst settings are
shown, and the median of all.

```sh
python tests/simulations/run.py
```

The command takes minutes on one core and writes this page. `tests/simulations/test_claims.py` runs a small part of it
with the other tests. Settings are named in `tests/simulations/claims.py`, worlds in `worlds.py` beside it.

| claim | setting | kept | Monte-Carlo error | wanted |
|---|---|---|---|---|
"""
WORST = 3


def main() -> None:
    """Run and write."""
    known = {claim.__name__: claim for claim in CLAIMS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}  [default: all]")
    parser.add_argument("--repeats", type=int, default=200, help="Data sets of each setting.  [default: 200]")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"no claim {', '.join(sorted(unknown))}: there are {', '.join(known)}")
    rows: list[Row] = []
    for name in options.names or known:
        start = time.perf_counter()
        rows += known[name](options.repeats)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    table = "\n".join(lines(rows))
    print(table)
    broken = [row for row in rows if not row.passes]
    print(f"{len(rows)} settings, {len(broken)} broken")
    for row in broken:
        print(f"  {row.claim}, {row.setting}: {row.share:.3f}")
    if not options.names:
        summary = f"{len(rows)} settings, {len(broken)} broken; {options.repeats} data sets in most."
        PAGE.write_text(f"{ABOUT}{table}\n\n{summary}\n", encoding="utf-8")


def lines(rows: Iterable[Row]) -> list[str]:
    """The worst settings of each claim and the median of all as rows of a table."""
    table = []
    ordered = sorted(rows, key=lambda row: (row.claim, row.at_least, row.share))
    for (claim, wanted), group in groupby(ordered, key=lambda row: (row.claim, row.at_least)):
        settings = list(group)
        for row in settings[:WORST]:
            table.append(f"| {claim} | {row.setting} | {row.share:.3f} | {row.error:.3f} | {wanted:.2f} |")
        if len(settings) > WORST:
            middle = settings[len(settings) // 2]
            table.append(f"| | median of {len(settings)} | {middle.share:.3f} | {middle.error:.3f} | {wanted:.2f} |")
    return table


if __name__ == "__main__":
    main()
