"""How fast this is, as ratios within one run (``pip install -c constraints.txt -e ".[bench,test]"``).

    python tests/benchmarks/run.py                       # all of them, half an hour on two cores
    python tests/benchmarks/run.py steps start-up        # some
    python tests/benchmarks/run.py --smoke               # seconds: that they still run

Each benchmark's records are in OUTPUT/NAME.json when it is done, all of them in OUTPUT/speed.md.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from timing import environment

ORDER = ("steps", "fits", "quality", "scoring", "out-of-core", "growth", "start-up", "pieces")


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ORDER)}  [default: all]")
    parser.add_argument("--smoke", action="store_true", help="The smallest sizes, once.")
    parser.add_argument("--output", type=Path, default=Path("speed"), help="Folder.  [default: speed]")
    options = parser.parse_args()
    if unknown := set(options.names) - set(ORDER):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: there are {', '.join(ORDER)}")
    from speed import BENCHMARKS

    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names or ORDER:
        start = time.perf_counter()
        report: dict[str, Any] = {"environment": environment(), "smoke": options.smoke, "records": []}
        for record in BENCHMARKS[name](options.smoke):
            report["records"].append(asdict(record))
            print(line(asdict(record)), flush=True)
        report["seconds"] = round(time.perf_counter() - start, 1)
        (options.output / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
        (options.output / "speed.md").write_text(page(options.output))


def page(folder: Path) -> str:
    """A table of all records in the folder."""
    rows = [
        "# Speed\n\nMedians and quartiles; made by `python tests/benchmarks/run.py`, explained in tests/benchmarks.\n",
        "| what | measured | quartiles | target |  | besides |",
        "|---|---|---|---|---|---|",
    ]
    reports = [json.loads(path.read_text()) for name in ORDER if (path := folder / f"{name}.json").exists()]
    for record in (record for report in reports for record in report["records"]):
        rows.append(line(record))
    said = "; ".join(f"{name}: {value}" for name, value in reports[-1]["environment"].items())
    return "\n".join([*rows, "", said, ""])


def line(record: dict[str, Any]) -> str:
    """A record as a row of the table."""
    unit = {"x": " x", "s": " s", "": ""}[record["unit"]]
    value, low, high = (f"{record[name]:.3g}" for name in ("value", "low", "high"))
    target = verdict = ""
    if record["target"] is not None:
        sign, met = (
            ("≥", record["value"] >= record["target"])
            if record["at_least"]
            else ("≤", record["value"] <= record["target"])
        )
        target, verdict = f"{sign} {record['target']:.3g}{unit}", "met" if met else "missed"
    besides = "; ".join(f"{name}: {value}" for name, value in record["details"].items())
    return f"| {record['what']} | {value}{unit} | {low} to {high} | {target} | {verdict} | {besides} |"


if __name__ == "__main__":
    main()
