"""Arrows point one way: a folder imports only from the layers below its own (docs/design.md, "Layers")."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mfbench"

# The layers, low to high; ``base`` is what stands in mfbench itself. Modules of one folder may import one another, as
# long as there is no circle.
LAYERS = {
    "base": 0,
    "results": 1,
    "data": 2,
    "models": 3,
    "show": 3,  # beside models: files are the joints between what trains and what shows
    "learning": 4,
    "study": 5,
    "physics": 6,
    "cli": 7,
}
APART = {("show", "study"), ("study", "show"), ("learning", "show"), ("physics", "show")}  # no arrow, either way
DOORS = {"mfbench", "mfbench.__main__", "mfbench.testing"}  # outside the order: they hand on what is below
# Never load torch when they are imported, nor does what they import in turn: files, data, and whatever shows results;
# and the command line, until it knows that it trains.
LIGHT = ("base", "results", "data", "show", "cli")
# What an arm learns from is told, counted and exported without a network.
PLANS = (
    "mfbench.learning.arms",
    "mfbench.models.backbones.kinds",
    "mfbench.study.experiment",
    "mfbench.study.prepare",
    "mfbench.study.export",
)
HEAVY = ("torch", "schnetpack", "hippynn")


@dataclass(frozen=True)
class Import:
    """A module imported by a file: its dotted name, where, and whether importing the file runs it."""

    module: str
    where: str
    at_import: bool


def files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> set[str]:
    return {dotted(path) for path in files()}


def imports(source: str, module: str, known: set[str], *, package: bool = False) -> list[Import]:
    """All imports of a module, those inside functions and ``TYPE_CHECKING`` blocks included."""
    return list(_walk(ast.parse(source), module, known, package, at_import=True))


def _walk(node: ast.AST, module: str, known: set[str], package: bool, at_import: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            for name in _names(child, module, known, package):
                yield Import(name, f"{module}:{child.lineno}", at_import)
        deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield from _walk(child, module, known, package, at_import and not deferred and not typing)


def _names(node: ast.Import | ast.ImportFrom, module: str, known: set[str], package: bool) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parts = module.split(".")
        above = parts[: len(parts) - node.level + package]
        base = ".".join([*above, *([base] if base else [])])
    # ``from mfbench import units`` imports a module, ``from mfbench.units import convert`` a name in one.
    return [f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names]


def all_imports() -> dict[str, list[Import]]:
    known = modules()
    return {
        dotted(path): imports(path.read_text("utf-8"), dotted(path), known, package=path.stem == "__init__")
        for path in files()
    }


def room(module: str) -> str:
    """The folder of mfbench that a dotted name lies in: ``mfbench.data.store`` -> ``data``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "base"


def violations(found: dict[str, list[Import]]) -> list[str]:
    """Imports from a folder that is not below, as lines for people."""
    return [
        f"{one.where}: {here} (layer {LAYERS[here]}) imports {one.module} (layer {LAYERS[there]})"
        for module, made in found.items()
        for one in made
        if module not in DOORS and one.module.split(".")[0] == "mfbench"
        for here, there in [(room(module), room(one.module))]
        if (here != there and (LAYERS[there] >= LAYERS[here] or (here, there) in APART))
        or one.module in DOORS - {"mfbench"}
    ]


def circles(found: dict[str, list[Import]]) -> list[str]:
    """Modules that import themselves through others."""
    done: set[str] = set()
    bad: list[str] = []

    def walk(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            bad.append(" -> ".join([*path[path.index(module) :], module]))
        elif module not in done and module not in DOORS:
            for one in found.get(module, ()):
                walk(one.module, (*path, module))
            done.add(module)

    for module in found:
        walk(module, ())
    return bad


def test_every_folder_has_a_layer() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert len(modules()) > 80
    assert folders == set(LAYERS) - {"base"}, "place it in the table LAYERS"


def test_folders_import_only_from_lower_layers() -> None:
    found = all_imports()
    assert any(one.module == "mfbench.units" for one in found["mfbench.results.schema"])
    assert not violations(found)
    assert not circles(found)


def heavy(start: list[str], found: dict[str, list[Import]]) -> list[str]:
    """Paths of imports that lead from some modules to what takes seconds to load, when they are imported."""
    queue, bad = [*start], []
    paths = {module: module for module in queue}
    while queue:
        module = queue.pop()
        for one in (one for one in found.get(module, ()) if one.at_import):
            path = f"{paths[module]} -> {one.module}"
            bad += [path] if one.module.split(".")[0] in HEAVY else []
            if one.module in found and one.module not in paths:
                paths[one.module] = path
                queue.append(one.module)
    return bad


@pytest.mark.parametrize("name", LIGHT)
def test_no_torch_on_import(name: str) -> None:
    """Follows the imports that importing the modules of a folder runs; the path to torch is in the message."""
    found = all_imports()
    start = [module for module in found if room(module) == name and module not in DOORS]
    assert start
    assert not heavy(start, found)


@pytest.mark.parametrize("name", PLANS)
def test_what_is_learned_from_is_told_without_torch(name: str) -> None:
    assert name in modules()
    assert not heavy([name], all_imports())


def test_functions_and_files_can_be_read_at_a_sitting() -> None:
    long = [f"{path}: {count} lines" for path in files() if (count := len(path.read_text("utf-8").splitlines())) > 500]
    for path in files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno >= 80:
                long.append(f"{path}:{node.lineno}: {node.name}: {node.end_lineno - node.lineno + 1} lines")
    assert not long


def test_the_walk_sees_what_it_should() -> None:
    source = """
import mfbench.cli.main
from mfbench import units, __version__
from . import schema
from .data.readers import npz
def late():
    from mfbench.learning.training import fit
    import torch
"""
    known = {"mfbench.units", "mfbench.results.schema", "mfbench.data.readers.npz"}
    found = imports(source, "mfbench.results.rows", known)
    assert [(one.module, one.at_import) for one in found] == [
        ("mfbench.cli.main", True),
        ("mfbench.units", True),
        ("mfbench", True),
        ("mfbench.results.schema", True),
        ("mfbench.results.data.readers", True),
        ("mfbench.learning.training", False),
        ("torch", False),
    ]
    bad = violations({"mfbench.results.rows": found})
    assert [line.split(" imports ")[1].split()[0] for line in bad] == ["mfbench.cli.main", "mfbench.learning.training"]
    shows = imports("from mfbench.study.run import run", "mfbench.show.page", known)
    assert violations({"mfbench.show.page": shows})
    assert circles({"mfbench.a": [Import("mfbench.b", "", True)], "mfbench.b": [Import("mfbench.a", "", False)]})
    inside = imports("from . import npz\nfrom ..loss import mae", "mfbench.data.readers", known, package=True)
    assert [one.module for one in inside] == ["mfbench.data.readers.npz", "mfbench.data.loss"]
