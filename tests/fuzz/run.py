"""Coverage-guided fuzzing of the readers, by atheris (``pip install -c constraints.txt -e ".[fuzz]"``).

    python tests/fuzz/run.py --target npy --runs 100000
    python tests/fuzz/run.py --target all --seconds 3

A finding ends the target with a traceback and leaves its input as ``crash-*`` in the working directory. A target's new
inputs are kept in ``--corpus DIR/TARGET`` if that is given.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    """Run one target in this process, or all, each in its own; the number of those that found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="all", help="A name in targets.py, or all.")
    parser.add_argument("--runs", type=int, default=-1, help="Executions a target; -1: until stopped.")
    parser.add_argument("--seconds", type=int, default=0, help="At most so long a target; 0: no limit.")
    parser.add_argument("--seed", type=int, default=1, help="Of the mutations.")
    parser.add_argument("--corpus", type=Path, help="Folder for the inputs that reach new code.")
    options = parser.parse_args()
    if options.target != "all":
        return fuzz(options)
    from targets import SCRATCH, TARGETS

    shutil.rmtree(SCRATCH)
    failed = [name for name in TARGETS if subprocess.call([*command(options), "--target", name])]
    print(f"{len(TARGETS)} targets, findings in: {', '.join(failed) or 'none'}")
    return len(failed)


def command(options: argparse.Namespace) -> list[str]:
    """How to run one target with the same limits."""
    words = [
        sys.executable,
        __file__,
        f"--runs={options.runs}",
        f"--seconds={options.seconds}",
        f"--seed={options.seed}",
    ]
    return words + ([f"--corpus={options.corpus}"] if options.corpus else [])


def fuzz(options: argparse.Namespace) -> int:
    """One target; does not return, for libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(
        include=["vae_anomaly", "zipfile", "json", "numpy.lib"], enable_loader_override=False
    ):
        import targets

    folder = Path(tempfile.mkdtemp(dir=targets.SCRATCH))
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
