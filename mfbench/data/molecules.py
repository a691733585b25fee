"""What makes a molecule: its name, and the charge and multiplicity that a file states of a structure.

A molecule in another state is another molecule: its name says so, ``H2O, charge 1, multiplicity 2``.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbench.errors import DataCorrupt

# Keys that files of the field use, in lower case. ``spin`` is the multiplicity for some programs and the number of
# unpaired electrons for others.
CHARGE_KEYS = ("charge", "total_charge")
SPIN_KEYS = ("spin_multiplicity", "multiplicity", "spin")

_STATED = re.compile(r"(, charge (?P<charge>-?\d+))?(, (?P<word>multiplicity|spin) (?P<spin>\d+))?$")


class State(NamedTuple):
    """Charge and spin of a structure. None: not stated, which is taken for a neutral molecule in its ground state."""

    charge: int | None = None
    spin: int | None = None
    word: str = "multiplicity"  # what ``spin`` is: multiplicity; or spin, where the file does not tell which

    def usual(self, numbers: NDArray[np.integer]) -> "State":
        """With None for what is as usual: no charge, and the lowest multiplicity that the electrons allow."""
        charge = self.charge or None
        odd = (int(np.sum(numbers, dtype=np.int64)) - (self.charge or 0)) % 2
        lowest = (odd + 1,) if self.word == "multiplicity" else (odd, odd + 1)
        return State(charge, None if self.spin in (None, *lowest) else self.spin, self.word)

    def __str__(self) -> str:
        texts = [f"charge {self.charge}" if self.charge is not None else ""]
        texts += [f"{self.word} {self.spin}" if self.spin is not None else ""]
        return ", ".join(filter(None, texts))


def state_of(values: Mapping[str, Any], keys: Iterable[str | None] = (), where: str = "a structure") -> State:
    """What is stated of a structure.

    Args:
        keys: further keys of the charge, and of the multiplicity; None: none.
        where: for errors.

    Raises:
        DataCorrupt: a charge or spin that is no whole number, or two that differ.
    """
    lower = {key.lower(): (key, value) for key, value in values.items()}
    charge_key, spin_key = (*keys, None, None)[:2]
    charge, _ = _stated(lower, ((charge_key or "").lower(), *CHARGE_KEYS), where)
    spin, word = _stated(lower, ((spin_key or "").lower(), *SPIN_KEYS[:2]), where)
    if spin is None:
        spin, word = _stated(lower, SPIN_KEYS[2:], where)
    return State(charge, spin, "spin" if word in SPIN_KEYS[2:] and word != (spin_key or "").lower() else "multiplicity")


def _stated(values: Mapping[str, tuple[str, Any]], keys: Iterable[str], where: str) -> tuple[int | None, str]:
    found: dict[str, int] = {}
    for key in keys:
        if key not in values:
            continue
        name, raw = values[key]
        try:
            number = float(np.asarray(raw, np.float64).reshape(()))
            whole = int(number)
        except (TypeError, ValueError, OverflowError):
            number, whole = 0.5, 0
        if whole != number:
            raise DataCorrupt(f"{where}: key {name!r}: expected a whole number, got {raw!r:.40}")
        found[key] = whole
    if len(set(found.values())) > 1:
        raise DataCorrupt(f"{where}: expected one charge and one spin, got {found}")
    return next(((number, key) for key, number in found.items()), (None, ""))


def named(name: str, state: State) -> str:
    """The name of a molecule in a state (as ``usual`` gives it)."""
    return ", ".join(filter(None, (name, str(state))))


def stated_in(name: str) -> State:
    """The state that a molecule's name tells."""
    found = _STATED.search(name)
    assert found is not None
    charge, word, spin = found["charge"], found["word"], found["spin"]
    return State(None if charge is None else int(charge), None if spin is None else int(spin), word or "multiplicity")
