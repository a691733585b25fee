"""Energies of free atoms at the levels of the catalogue, computed for mfbench (``benchmarks/free_atoms.py``)."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mfbench.elements import SYMBOLS
from mfbench.units import HARTREE

FILE = Path(__file__).resolve().parent / "data" / "free_atoms.json"

_NUMBERS = {symbol: number for number, symbol in SYMBOLS.items()}


class FreeAtoms(NamedTuple):
    """Energies of free atoms, in their ground states."""

    energies: Mapping[int, float]  # eV, by atomic number
    exact: bool  # computed at this very level; else borrowed from one close by, good enough for a check of units


@cache
def _table() -> dict[str, Any]:
    return json.loads(FILE.read_text("utf-8"))


@cache
def free_atoms_of(level: str) -> FreeAtoms | None:
    """Free atoms of a level; None for one of one's own, of which nothing is known."""
    table = _table()
    found = table["levels"].get(table["like"].get(level, level))
    if found is None:
        return None
    energies = {_NUMBERS[symbol]: energy * HARTREE for symbol, energy in found.items()}
    return FreeAtoms(energies, level in table["levels"])


def energies_at(level: str, own: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """Reference energies in eV by atomic number: the data's ``own`` by level, else the exact ones of ours."""
    found = free_atoms_of(level)
    return {**(found.energies if found is not None and found.exact else {}), **own.get(level, {})}


def agreeing(held: float, given: float) -> bool:
    """Whether two energies (eV) of one free atom at one level are the same."""
    return abs(held - given) <= 1e-3
