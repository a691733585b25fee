"""Chemical elements: symbols, radii, formulas and atomic numbers."""

import re

import numpy as np
from numpy.typing import NDArray

from mfbench.errors import DataCorrupt, UserError

SYMBOLS = {0: "X", 1: "H", 6: "C", 7: "N", 8: "O", 9: "F", 14: "Si", 15: "P", 16: "S", 17: "Cl", 35: "Br"}

_RADII = {1: 0.31, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57, 14: 1.11, 15: 1.07, 16: 1.05, 17: 1.02, 35: 1.20}

# (256,) by atomic number, Angstrom (Cordero et al., 10.1039/b801115j); 1 for elements that are not in ``SYMBOLS``.
COVALENT_RADII = np.array([_RADII.get(number, 1.0) for number in range(256)])


def formula(numbers: NDArray[np.integer]) -> str:
    """Hill formula, e.g. ``C2H6O``."""
    if unknown := set(numbers.tolist()) - SYMBOLS.keys():
        raise DataCorrupt(f"unknown atomic numbers {sorted(unknown)}")
    symbols = [SYMBOLS[int(z)] for z in numbers]
    ordered = sorted(set(symbols), key=lambda s: (s != "C", s != "H" or "C" not in symbols, s))
    return "".join(s + (str(n) if (n := symbols.count(s)) > 1 else "") for s in ordered)


def numbers_of(text: str) -> NDArray[np.uint8]:
    """Atomic numbers of a formula, in any order of its elements; raises UserError where it is none."""
    pieces = re.findall(r"([A-Z][a-z]?)(\d*)", text)
    by_symbol = {symbol: number for number, symbol in SYMBOLS.items() if number}
    if not pieces or "".join(symbol + count for symbol, count in pieces) != text:
        raise UserError(f"expected a formula such as C2H6O, got {text!r}")
    if unknown_symbols := [symbol for symbol, _ in pieces if symbol not in by_symbol]:
        raise UserError(f"formula {text!r}: unknown elements {unknown_symbols}; expected some of {sorted(by_symbol)}")
    return np.repeat([by_symbol[s] for s, _ in pieces], [int(c or 1) for _, c in pieces]).astype(np.uint8)
