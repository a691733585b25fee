"""Arrows point one way: a module imports only from layers strictly below its own (DESIGN, "Layers")."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mfbench"

# The design's layers, low to high. Where modules of one layer build on each other, a letter orders them
# within it: "0b" is below "0c". A subpackage is one unit; its modules may import one another.
LAYERS = {
    "mfbench": "0a",  # the package itself, mfbench/__init__.py
    "errors": "0a",
    "units": "0b",
    "resources": "0b",
    "machine": "0b",
    "cache": "0b",
    "presets": "0b",
    "extensions": "0b",
    "levels": "0c",
    "results": "0c",
    "manifest": "1",
    "structures": "1",
    "plots": "1",
    "provenance": "1",
    "archives": "2a",
    "download": "2b",
    "cases": "2c",
    "geometries": "2a",
    "store": "2b",
    "predictions": "2a",
    "batch": "2c",
    "splits": "2d",
    "labels": "2e",
    "difference": "3a",
    "potential": "2d",
    "datasets": "3a",
    "backbones": "3a",
    "metrics": "3a",
    "evaluation": "3b",
    "loss": "3b",
    "training": "4",
    "arms": "5",
    "experiment": "6",
    "progress": "7a",
    "physics": "7c",
    "data_commands": "7b",
    "report": "7a",
    "testing": "7a",
    "exchange": "7a",
    "calculator": "7a",
    "models": "7b",
    "demo": "7b",
    "cli": "8a",
    "__main__": "8b",
}
# These may load torch when they are imported. All others may not, nor may what they import in turn: data,
# files, whatever shows results, and the command line until it knows that it trains.
TRAINS = {
    "provenance",
    "batch",
    "potential",
    "backbones",
    "metrics",
    "evaluation",
    "loss",
    "training",
    "arms",
    "experiment",
}
TRAINS |= {"difference", "testing", "demo", "exchange", "models"}
HEAVY = ("torch", "schnetpack", "hippynn")


@dataclass(frozen=True)
class Import:
    """A module imported by a file: its dotted name, where, and whether importing the file runs it."""

    module: str
    where: str
    at_import: bool


def unit(module: str) -> str:
    """The part of mfbench that a dotted name lies in: ``mfbench.datasets.npz`` -> ``datasets``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


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


def violations(found: dict[str, list[Import]], layers: dict[str, str]) -> list[str]:
    """Imports from a layer that is not strictly below, as lines for people."""
    return [
        f"{one.where}: {unit(module)} (layer {layers[unit(module)]}) imports {one.module} "
        f"(layer {layers[unit(one.module)]})"
        for module, made in found.items()
        for one in made
        if unit(module) in layers
        and unit(one.module) in layers
        and one.module.split(".")[0] == "mfbench"
        and unit(one.module) != unit(module)
        and (module != "mfbench" or one.at_import)  # the package hands on what is asked of it, and imports it then
        and layers[unit(one.module)] >= layers[unit(module)]
    ]


def test_every_module_has_a_layer() -> None:
    assert len(modules()) > 5
    unplaced = sorted({unit(module) for module in modules()} - set(LAYERS))
    assert not unplaced, f"place {unplaced} in the table LAYERS"


def test_modules_import_only_from_lower_layers() -> None:
    found = all_imports()
    assert any(one.module == "mfbench.units" for one in found["mfbench.results"])
    assert not violations(found, LAYERS)


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in TRAINS])
def test_no_torch_on_import(name: str) -> None:
    """Follows the imports that importing the module runs; the path to torch is in the message."""
    found = all_imports()
    start = [module for module in found if unit(module) == name]
    assert start, f"no module {name}: remove it from LAYERS"
    paths = {module: module for module in start}
    queue = list(start)
    while queue:
        module = queue.pop()
        for one in (one for one in found.get(module, ()) if one.at_import):
            path = f"{paths[module]} -> {one.module}"
            assert one.module.split(".")[0] not in HEAVY, path
            if one.module in found and one.module not in paths:
                paths[one.module] = path
                queue.append(one.module)


def test_the_walk_sees_what_it_should() -> None:
    source = """
import mfbench.cli
from mfbench import units, __version__
from . import results
from .datasets import npz
def late():
    from mfbench.training import fit
    import torch
"""
    known = {"mfbench.units", "mfbench.results", "mfbench.datasets.npz"}
    found = imports(source, "mfbench.levels", known)
    assert [(one.module, one.at_import) for one in found] == [
        ("mfbench.cli", True),
        ("mfbench.units", True),
        ("mfbench", True),
        ("mfbench.results", True),
        ("mfbench.datasets.npz", True),
        ("mfbench.training", False),
        ("torch", False),
    ]
    bad = violations({"mfbench.levels": found}, LAYERS)
    assert [line.split(" imports ")[1].split()[0] for line in bad] == [
        "mfbench.cli",
        "mfbench.results",
        "mfbench.datasets.npz",
        "mfbench.training",
    ]
    inside = imports("from . import npz\nfrom ..loss import mae", "mfbench.datasets", known, package=True)
    assert [one.module for one in inside] == ["mfbench.datasets.npz", "mfbench.loss"]
