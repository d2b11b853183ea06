"""Registries: what a user can name, each entry defined once, where it lives.

An entry is a function or a class under a decorator, in any module of the registry's package::

    @SCORES.register("kl")
    def negative_kl(vae, x, noise):
        \"\"\"The KL term alone, with the sign that makes higher more normal.\"\"\"

Its help is the first paragraph of its docstring; what else others need to know of it (whether it is slow, what it
needs) are the decorator's keywords. All of this is read from the source and nothing is imported for it, so that
``--help``, completion and the checks of parameters do not wait for torch; an entry's module is imported when the entry
itself is asked for. Entries may also be registered at run time, such as by a user's own code.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """What is known of an entry without importing it.

    Parameters
    ----------
    name
        What a user calls it.
    help
        What it is, in a sentence or two.
    module
        Where it is defined.
    facts
        The keywords of its decorator.
    """

    name: str
    help: str
    module: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Registry(Mapping[str, Any]):
    """Entries by name: iterating gives names, indexing imports the entry and gives it.

    Parameters
    ----------
    constant
        The name that this object has in this module, which is the one that decorators use.
    package
        Where its entries live: a package, whose modules are all looked at, or a module.
    kind
        What to call an entry in messages.

    Raises
    ------
    KeyError
        By indexing, for an unknown name.
    """

    def __init__(self, constant: str, package: str, kind: str) -> None:
        self.constant, self.package, self.kind = constant, package, kind
        self._added: dict[str, Entry] = {}
        self._objects: dict[str, Any] = {}

    def register(self, name: str, **facts: Any) -> Callable[[T], T]:
        """Enter a function or class under a name.

        Raises
        ------
        ValueError
            If the name is taken by something defined elsewhere.
        """

        def add(entry: T) -> T:
            module = str(entry.__module__)
            known = self._added.get(name) or self._written.get(name)
            if known is not None and known.module != module:
                raise ValueError(f"the {self.kind} {name!r} is defined in {known.module} already")
            self._added[name] = Entry(name, first_paragraph(inspect.getdoc(entry)), module, MappingProxyType(facts))
            self._objects[name] = entry
            return entry

        return add

    def entry(self, name: str) -> Entry:
        """What is known of an entry; it is not imported."""
        return (self._written | self._added)[name]

    def where(self, **facts: Any) -> tuple[str, ...]:
        """Names of the entries that have these facts."""
        return tuple(name for name in self if all(self.entry(name).facts.get(k) == v for k, v in facts.items()))

    def name_of(self, kind: type) -> str:
        """The name of a class that is an entry, and has been imported.

        Raises
        ------
        KeyError
            If it is no entry.
        """
        for name, entry in self._objects.items():
            if entry is kind:
                return name
        raise KeyError(kind)

    def __getitem__(self, name: str) -> Any:
        if name not in self._objects:
            importlib.import_module(self.entry(name).module)
        return self._objects[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._written | self._added)

    def __len__(self) -> int:
        return len(self._written | self._added)

    def __contains__(self, name: object) -> bool:
        return name in self._written or name in self._added

    @cached_property
    def _written(self) -> dict[str, Entry]:
        """Entries in the package's source, in the order of modules by name and of lines."""
        entries: dict[str, Entry] = {}
        for module in modules_of(self.package):
            source = source_of(module)
            if source is None:  # installed without sources: then it has to be imported
                importlib.import_module(module)
            elif f"@{self.constant}.register(" in source:
                entries |= {entry.name: entry for entry in written(source, self.constant, module)}
        return entries


def modules_of(package: str) -> list[str]:
    """Dotted names of a package and all modules in it, or of a module; parents are imported, no module is."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(package)
    inside = pkgutil.iter_modules(spec.submodule_search_locations or ())
    return [package, *sorted(f"{package}.{module.name}" for module in inside if not module.ispkg)]


def source_of(module: str) -> str | None:
    """A module's source, if it is there."""
    spec = importlib.util.find_spec(module)
    get_source = getattr(spec and spec.loader, "get_source", None)
    source: str | None = get_source(module) if get_source is not None else None
    return source


def written(source: str, constant: str, module: str) -> Iterator[Entry]:
    """Entries of one registry in a module's source."""
    for node in ast.parse(source).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == f"{constant}.register":
                facts = {word.arg: ast.literal_eval(word.value) for word in decorator.keywords if word.arg is not None}
                name = ast.literal_eval(decorator.args[0])
                yield Entry(name, first_paragraph(ast.get_docstring(node)), module, MappingProxyType(facts))


def first_paragraph(docstring: str | None) -> str:
    """The text up to the first empty line, on one line."""
    return " ".join((docstring or "").partition("\n\n")[0].split())


ARCHITECTURES = Registry("ARCHITECTURES", "vae_anomaly.model.networks", "architecture")
LIKELIHOODS = Registry("LIKELIHOODS", "vae_anomaly.model.likelihoods", "likelihood")
PRIORS = Registry("PRIORS", "vae_anomaly.model.priors", "prior")
PRIOR_FITS = Registry("PRIOR_FITS", "vae_anomaly.fitting", "way to fit a prior")
PREPROCESSING = Registry("PREPROCESSING", "vae_anomaly.fitting.preprocessing", "preprocessing")
SCORES = Registry("SCORES", "vae_anomaly.scoring", "score")
CALIBRATION_METHODS = Registry("CALIBRATION_METHODS", "vae_anomaly.calibration", "calibration method")
FORMATS = Registry("FORMATS", "vae_anomaly.datasets.formats", "data format")
FIGURES = Registry("FIGURES", "vae_anomaly.reports.page.figures", "figure")
