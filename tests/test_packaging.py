"""The house: what ships, who imports whom, and what start-up costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ("cli", "datasets", "reports", "reports/page", "reports/plots")
MAPPED = {f"vae_anomaly.{name.replace('/', '.')}": name for name in SHIPPED}
ROOMS = ("benchmark", "calibration", "engines", "evaluation", "fitting", "model", "scoring", "storage")
PARTS = ("model/likelihoods", "model/networks", "model/priors")
OWN = {f"vae_anomaly.{folder.replace('/', '.')}": f"vae_anomaly/{folder}" for folder in ROOMS + PARTS}
FOLDERS = {"vae_anomaly": "vae_anomaly"} | OWN | MAPPED


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_with_code_ships(project: dict) -> None:
    found = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/**/__init__.py")}
    found -= {folder for folder in found if folder.startswith((".", "build", "tests"))}
    setuptools = project["tool"]["setuptools"]
    assert found == set(FOLDERS.values())
    assert set(setuptools["packages"]) == set(FOLDERS)
    assert setuptools["package-dir"] == MAPPED


def imports(path: Path) -> set[str]:
    """Modules of this project that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("room", ["calibration", "evaluation"])
def test_calibration_and_evaluation_know_arrays_only(room: str) -> None:
    for path in (ROOT / "vae_anomaly" / room).glob("*.py"):
        assert loaded_after(f"import vae_anomaly.{room}.{path.stem}", "torch", "sklearn", "pandas") == []
        assert not any(name.split(".")[0] in ("torch", "sklearn") for name in imports(path))


def test_nothing_imports_the_command_line() -> None:
    for folder in ("vae_anomaly", "datasets", "reports"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not any(name.startswith("vae_anomaly.cli") for name in imports(path)), path


def test_one_module_knows_ray() -> None:
    users = [path.stem for path in (ROOT / "vae_anomaly").rglob("*.py") if "ray" in imports(path)]
    assert users == ["on_ray"]
    assert (
        loaded_after("import vae_anomaly.engines.score_dataset, vae_anomaly.engines.worker", "ray", "matplotlib") == []
    )


def loaded_after(code: str, *names: str) -> list[str]:
    script = f"import sys\n{code}\nprint([name for name in {names!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    return ast.literal_eval(run.stdout.splitlines()[-1])


def test_importing_the_package_stays_light() -> None:
    heavy = ("torch", "sklearn", "pandas", "matplotlib", "numpy", "scipy")
    assert loaded_after("import vae_anomaly; vae_anomaly.__version__; dir(vae_anomaly)", *heavy) == []
    assert loaded_after("import vae_anomaly.cli", *heavy) == []
    assert loaded_after("from vae_anomaly import VAEDetector", "torch", "matplotlib") == ["torch"]
    assert loaded_after("import vae_anomaly.fitted_model", "torch", "sklearn", "scipy", "pandas") == ["torch"]


def test_unknown_names_are_refused() -> None:
    import vae_anomaly

    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        vae_anomaly.Nothing  # noqa: B018
    assert "VAEDetector" in dir(vae_anomaly)


def test_constraints_pin_every_dependency(project: dict) -> None:
    pinned = {
        line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    wanted = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    names = {re.split(r"[\[<>]", requirement)[0].strip().lower() for part in wanted for requirement in part}
    assert names <= pinned


def test_nothing_reads_pickles() -> None:
    for folder in FOLDERS.values():
        for path in (ROOT / folder).glob("*.py"):
            text = path.read_text()
            assert "allow_pickle=True" not in text
            assert not imports(path) & {"pickle", "joblib", "cloudpickle", "dill", "torch.load", "marshal", "shelve"}
            assert "torch.load(" not in text
