"""The house: what ships, what start-up costs, how large it may grow; import-linter checks who imports whom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import FOLDERS, PROJECT, ROOT, loaded_after

MODULES = [path for folder in FOLDERS.values() for path in sorted((ROOT / folder).glob("*.py"))]

MAX_MODULE, MAX_FUNCTION = 400, 60  # lines, a function's without its docstring
LARGER: dict[str, str] = {}  # those that are larger, each with its reason


def test_every_folder_with_code_ships() -> None:
    found = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/**/__init__.py")}
    assert set(FOLDERS.values()) == {folder for folder in found if not folder.startswith((".", "build", "tests"))}
    assert set(FOLDERS) == {
        folder.replace("/", ".") if folder.startswith("vae_anomaly") else f"vae_anomaly.{folder.replace('/', '.')}"
        for folder in FOLDERS.values()
    }


HEAVY = ("torch", "sklearn", "pandas", "matplotlib", "numpy", "scipy")


@pytest.mark.parametrize(
    ("code", "names", "loaded"),
    [
        ("import vae_anomaly; vae_anomaly.__version__; dir(vae_anomaly)", HEAVY, []),
        ("import vae_anomaly.cli", HEAVY, []),
        ("import vae_anomaly.parameters", HEAVY, []),
        ("from vae_anomaly import VAEDetector", ("torch", "matplotlib"), ["torch"]),
        ("import vae_anomaly.fitted_model", ("torch", "sklearn", "scipy", "pandas"), ["torch"]),
        ("import vae_anomaly.calibration.methods, vae_anomaly.evaluation.metrics", ("torch", "sklearn", "pandas"), []),
        ("import vae_anomaly.engines.score_dataset, vae_anomaly.engines.worker", ("ray", "matplotlib"), []),
    ],
)
def test_imports_stay_light(code: str, names: tuple[str, ...], loaded: list[str]) -> None:
    assert loaded_after(code, *names) == loaded


def test_unknown_names_are_refused() -> None:
    import vae_anomaly

    with pytest.raises(AttributeError, match="No vae_anomaly attribute Nothing"):
        vae_anomaly.Nothing  # noqa: B018
    assert "VAEDetector" in dir(vae_anomaly)


def test_constraints_pin_every_dependency() -> None:
    def name(requirement: str) -> str:
        return re.split(r"[\[<>=]", requirement)[0].strip().lower().replace("_", "-")

    pinned = {name(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    project = PROJECT["project"]
    wanted = [project["dependencies"], *project["optional-dependencies"].values(), PROJECT["build-system"]["requires"]]
    assert {name(requirement) for part in wanted for requirement in part} <= pinned


def imports(path: Path) -> set[str]:
    """Modules that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_nothing_reads_pickles() -> None:
    for path in MODULES:
        text = path.read_text()
        assert "allow_pickle=True" not in text
        assert not imports(path) & {"pickle", "joblib", "cloudpickle", "dill", "torch.load", "marshal", "shelve"}
        assert "torch.load(" not in text


def too_large(path: Path) -> Iterator[str]:
    """A module of more lines than it should have, and its functions that are too long."""
    name, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    if len(text.splitlines()) > MAX_MODULE:
        yield name
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0] if ast.get_docstring(node) is None else node.body[0:2][-1]
            signature = node.body[0].lineno - node.lineno
            if signature + node.end_lineno - first.lineno + 1 > MAX_FUNCTION:
                yield f"{name}: {node.name}"


def test_modules_and_functions_stay_small() -> None:
    assert {name for path in MODULES for name in too_large(path)} == set(LARGER)


def bound(target: ast.AST) -> set[str]:
    """Names that a statement or a target binds, outside functions and classes of its own."""
    if isinstance(target, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {target.name}
    if isinstance(target, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in target.names}
    if isinstance(target, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return set()
    own = {target.id} if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store) else set()
    return own.union(*(bound(child) for child in ast.iter_child_nodes(target)))


def shadowing(text: str) -> Iterator[tuple[int, str]]:
    """Lines and variables of comprehensions that have the name of something at the top of the module."""
    module = ast.parse(text)
    known = bound(module)
    for node in ast.walk(module):
        if isinstance(node, ast.comprehension):
            yield from ((node.target.lineno, name) for name in sorted(bound(node.target) & known))


def test_comprehensions_hide_no_name_of_their_module() -> None:
    # Python 3.12.0 to 3.12.3 raise UnboundLocalError where two comprehensions of a function use such a name, one as its
    # variable and one as the module's (gh-118513); none of ruff's rules finds them
    found = {
        f"{path.relative_to(ROOT)}:{line}: {name}" for path in MODULES for line, name in shadowing(path.read_text())
    }
    assert not found


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def row(): ...\ndef f(x): return [[row(c) for c in r] for row in x]", ["row"]),
        ("import numpy as row\nf = {a: b for a, (b, *row) in x}", ["row"]),
        ("if True:\n    row: int = 1\nasync def f(): return (row async for row in x)", ["row"]),
        ("from a import b as row\nclass C:\n    def f(self): return {1 for _ in x for row in _}", ["row"]),
        ("a = [row for row in x]\nb = [row for row in x]", []),
        ("def f():\n    row = 1\n    return [row for row in x]", []),
    ],
)
def test_names_that_comprehensions_hide_are_found(text: str, names: list[str]) -> None:
    assert [name for _, name in shadowing(text)] == names
