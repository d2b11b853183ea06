"""Coverage-guided fuzzing of the readers, by atheris (``pip install -c constraints.txt -e ".[fuzz]"``).

    python tests/fuzz/run.py --target npy --runs 100000
    python tests/fuzz/run.py --target all --seconds 3

A finding ends the target with a traceback and leaves its input as ``crash-*`` in the working directory. A target's new
inputs are kept in ``--corpus DIR/TARGET`` if that is given.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def main() -> int:
    """Run targets, each in a process of its own; the number of those that found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="all", help="A name in targets.py, or all.")
    parser.add_argument("--runs", type=int, default=-1, help="Executions a target; -1: until stopped.")
    parser.add_argument("--seconds", type=int, default=0, help="At most so long a target; 0: no limit.")
    parser.add_argument("--seed", type=int, default=1, help="Of the mutations.")
    parser.add_argument("--corpus", type=Path, help="Folder for the inputs that reach new code.")
    parser.add_argument("--jobs", type=int, default=1, help="Targets at a time.")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return fuzz(options)
    from targets import TARGETS

    names = list(TARGETS) if options.target == "all" else [options.target]

    def run(name: str) -> bool:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as scratch:
            words = [sys.executable, __file__, *sys.argv[1:], "--target", name, "--inside"]
            return subprocess.call(words, env=os.environ | {"TMPDIR": scratch}) != 0

    with ThreadPoolExecutor(options.jobs) as pool:
        failed = [name for name, found in zip(names, pool.map(run, names), strict=True) if found]
    print(f"{len(names)} targets, findings in: {', '.join(failed) or 'none'}")
    return len(failed)


def fuzz(options: argparse.Namespace) -> int:
    """One target in this process, which libFuzzer ends."""
    import atheris

    with atheris.instrument_imports(
        include=["vae_anomaly", "zipfile", "json", "numpy.lib"], enable_loader_override=False
    ):
        import targets

    folder = Path(tempfile.mkdtemp())
    for i, seed in enumerate(targets.TARGETS[options.target].seeds()):
        (folder / str(i)).write_bytes(seed)
    kept = folder if options.corpus is None else options.corpus / options.target
    kept.mkdir(parents=True, exist_ok=True)
    limits = [f"-runs={options.runs}", f"-max_total_time={options.seconds}", f"-seed={options.seed}"]
    limits += ["-rss_limit_mb=4096", "-timeout=20", "-max_len=65536", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *limits, str(kept), str(folder)], lambda data: targets.run_one(options.target, data))
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
