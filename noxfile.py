"""Every check of the project by its name: ``nox -s lint``; ``nox -l`` lists them, and ``.ci/run`` runs the same.

Sessions run in the environment that nox itself is installed in, which CONTRIBUTING.md sets up: torch alone is hundreds
of megabytes, and an environment for each session would hold it ten times.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nox
from nox.command import CommandFailed

ROOT = Path(__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NOT_IN_THE_WHEEL = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "__pycache__")

nox.options.default_venv_backend = "none"
nox.options.sessions = ["tests", "lint", "format", "types", "imports"]


@nox.session
def tests(session: nox.Session) -> None:
    """Unit tests, side by side on all cores; or those named: ``nox -s tests -- tests/model -k normal``."""
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Tests that train on the real MNIST, or kill real clusters."""
    session.run("pytest", "-n", "auto", "-m", "slow", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """What is promised of fits and scores on a GPU; without one every test is skipped."""
    session.run("pytest", "-m", "gpu", *session.posargs)


@nox.session
def pythons(session: nox.Session) -> None:
    """What needs no torch, on each other Python that is here; ``nox -s pythons -- WHEEL`` tests that wheel."""
    found = other_pythons()
    session.log(f"other Pythons found: {', '.join(found) or 'none'}")
    needed = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["test"]]
    quick = ("install", "--quiet", "--no-compile", "--only-binary", ":all:", "-c", str(ROOT / "constraints.txt"))
    for version, python in found.items():
        with tempfile.TemporaryDirectory() as folder:
            session.run(python, "-m", "venv", folder, external=True)
            try:
                session.run(f"{folder}/bin/pip", *quick, *(name for name in needed if not name.startswith("torch")))
            except CommandFailed:
                session.warn(f"Python {version} is not tested: its packages could not be installed")
                continue
            session.run(f"{folder}/bin/pip", "install", "--quiet", "--no-deps", *(session.posargs or [str(ROOT)]))
            session.log(f"tests that need no torch, on Python {version}")
            plugin = {"PYTHONPATH": str(ROOT / "tests" / "support")}
            session.run(
                *(f"{folder}/bin/pytest", "-p", "without_torch", "-p", "no:cacheprovider"),
                *("-n", "auto", "-q", "-rfE", "--config-file", f"{ROOT}/pyproject.toml", str(ROOT / "tests")),
                env=plugin,
            )


def other_pythons() -> dict[str, str]:
    """An interpreter of each other version that the project names, on the path or of pyenv: full version and path."""
    minors = re.findall(r"Python :: 3\.(\d+)", " ".join(PROJECT["project"]["classifiers"]))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    folders = [*map(Path, os.get_exec_path()), *sorted(pyenv.glob("*/bin"))]
    ask = "import ensurepip, sys; print(*sys.version_info[:3], sep='.')"
    found = {}
    for minor in sorted(set(map(int, minors)) - {sys.version_info[1]}):
        for path in (folder / f"python3.{minor}" for folder in folders):
            if not path.is_file():
                continue
            answer = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
            if answer.returncode == 0:  # a shim of pyenv fails for versions that are not chosen
                found[answer.stdout.strip()] = str(path)
                break
    return found


@nox.session
def docs(session: nox.Session) -> None:
    """Examples in README, docs and docstrings, which ``tests`` runs too."""
    session.run("pytest", "tests/test_docs.py", "tests/test_doctests.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules; ``nox -s lint -- --fix`` repairs what it can."""
    session.run("ruff", "check", *session.posargs, ".")


@nox.session(name="format")
def formatted(session: nox.Session) -> None:
    """Whether the code is formatted; ``ruff format .`` formats it."""
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict type checks by mypy."""
    with laid_out(session):
        cache = ROOT / ".mypy_cache"
        session.run("mypy", "--config-file", f"{ROOT}/pyproject.toml", f"--cache-dir={cache}", "-p", "vae_anomaly")


@nox.session
def imports(session: nox.Session) -> None:
    """Who may import whom: the contracts in pyproject.toml."""
    with laid_out(session):
        session.run("lint-imports", "--no-cache", "--no-logo", f"{ROOT}/pyproject.toml")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """The benchmarks of speed at their smallest sizes: that they run. CONTRIBUTING.md has the command that measures."""
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "tests/benchmarks/run.py", "--smoke", "--output", folder, silent=True)
    session.run("python", "tests/benchmarks/gpu.py", "--device", "cpu", "--smoke", silent=True)


@nox.session
def fuzz(session: nox.Session) -> None:
    """A second of broken input for every reader."""
    with tempfile.TemporaryDirectory() as folder, session.chdir(folder):  # findings would be left in the checkout
        limits = ("--runs", "3000", "--seconds", "1", "--jobs", "2")
        session.run("python", f"{ROOT}/tests/fuzz/run.py", *limits, silent=True)


@nox.session
def build(session: nox.Session) -> None:
    """The wheel of the last commit, which installs nothing but ``vae_anomaly``; ``nox -s build -- DIR`` keeps it."""
    with tempfile.TemporaryDirectory() as folder:
        clone, bare = Path(folder, "clone"), Path(folder, "bare")
        out = Path(*session.posargs[:1] or (folder,)).absolute()
        session.run("git", "clone", "--quiet", str(ROOT), str(clone), external=True)
        session.run("python", "-m", "build", "--no-isolation", "--outdir", str(out), str(clone), silent=True)
        (wheel,) = out.glob("*.whl")
        session.run("python", "-m", "venv", str(bare))
        session.run(f"{bare}/bin/pip", "install", "--quiet", "--no-deps", str(wheel))
        folders = {path.name for path in bare.glob("lib/python3*/site-packages/*/") if path.suffix != ".dist-info"}
        if (new := folders - set(NOT_IN_THE_WHEEL)) != {"vae_anomaly"}:
            session.error(f"the wheel puts more than vae_anomaly into site-packages: {', '.join(sorted(new))}")


@contextmanager
def laid_out(session: nox.Session) -> Iterator[None]:
    """Work in a folder with the packages as a wheel has them.

    ``cli``, ``datasets`` and ``reports`` are mapped into ``vae_anomaly``, which tools that only read sources do not see
    in an editable install.
    """
    mapped = PROJECT["tool"]["setuptools"]["package-dir"]
    with tempfile.TemporaryDirectory() as folder:
        for package in PROJECT["tool"]["setuptools"]["packages"]:
            source, target = ROOT / mapped.get(package, package.replace(".", "/")), Path(folder, *package.split("."))
            target.mkdir(parents=True, exist_ok=True)
            for path in source.glob("*.py*"):
                shutil.copy2(path, target)
        with session.chdir(folder):
            yield
