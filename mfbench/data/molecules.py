"""What makes a molecule: its name, and the charge and multiplicity that a file states of a structure.

A molecule in another state is another molecule: its name says so, ``H2O, charge 1, multiplicity 4``.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mfbench.errors import DataCorrupt

# Keys that files of the field use, in lower case. ``spin`` is the multiplicity for some programs and the number of
# unpaired electrons for others: how many electrons there are tells which.
CHARGE_KEYS = ("charge", "total_charge")
SPIN_KEYS = ("spin_multiplicity", "multiplicity", "spin")

_STATED = re.compile(r"(, charge (?P<charge>-?\d+))?(, multiplicity (?P<multiplicity>\d+))?$")

WHOLE = 0.01  # elementary charges, electrons: sums over atoms of what was rounded


class State(NamedTuple):
    """Charge and multiplicity of a molecule; None where it is as usual: no charge, the lowest one of its electrons."""

    charge: int | None = None
    multiplicity: int | None = None

    def whole(self, numbers: NDArray[np.integer]) -> tuple[int, int]:
        """Charge and multiplicity of a molecule of these atoms, (N,), also where they are as usual."""
        charge = self.charge or 0
        return charge, self.multiplicity or (int(np.sum(numbers, dtype=np.int64)) - charge) % 2 + 1

    def keyed(self) -> dict[str, int]:
        """What is not as usual, by keys that ``state_of`` reads."""
        found = {CHARGE_KEYS[0]: self.charge, SPIN_KEYS[0]: self.multiplicity}
        return {key: value for key, value in found.items() if value is not None}

    def __str__(self) -> str:
        texts = [f"charge {self.charge}" if self.charge is not None else ""]
        texts += [f"multiplicity {self.multiplicity}" if self.multiplicity is not None else ""]
        return ", ".join(filter(None, texts))


def state_of(
    values: Mapping[str, Any],
    numbers: NDArray[np.integer],
    keys: Iterable[str | None] = (),
    where: str = "a structure",
) -> State:
    """The state of a structure; what is not stated is taken to be as usual.

    Args:
        values: what is stated of it, by key; None: nothing.
        numbers: atomic numbers, (N,).
        keys: further keys of the charge, and of the multiplicity; None: none.
        where: for errors.

    Raises:
        DataCorrupt: a charge or spin that is no whole number, two that differ, or a multiplicity that so many electrons
            cannot have.
    """
    lower = {key.lower(): (key, value) for key, value in values.items() if value is not None}
    charge_key, spin_key = ((key or "").lower() for key in (*keys, None, None)[:2])
    charge, _ = _stated(lower, (charge_key, *CHARGE_KEYS), where)
    multiplicity, key = _stated(lower, (spin_key, *SPIN_KEYS[:2]), where)
    electrons = int(np.sum(numbers, dtype=np.int64)) - (charge or 0)
    odd = electrons % 2
    if multiplicity is None:
        spin, key = _stated(lower, SPIN_KEYS[2:], where)
        multiplicity = spin if spin is None or spin % 2 != odd else spin + 1
        possible = (
            f"an {'even' if odd else 'odd'} multiplicity or an {'odd' if odd else 'even'} number of unpaired ones"
        )
    else:
        possible = f"an {'even' if odd else 'odd'} multiplicity"
    if multiplicity is not None and (multiplicity % 2 == odd or not 0 < multiplicity <= electrons + 1):
        raise DataCorrupt(
            f"{where}: key {key!r}: expected {possible} of {electrons} electrons, got {lower[key.lower()][1]!r:.40}; "
            f"if the key is of something else, say `ignored_keys: [{key}]`"
        )
    return State(charge or None, None if multiplicity == odd + 1 else multiplicity)


def state_of_atoms(atoms: Atoms, where: str = "a structure") -> State:
    """See ``state_of`` and ``stated_by``."""
    return state_of(stated_by(atoms, atoms.info), atoms.numbers, where=where)


def stated_by(atoms: Atoms, values: Mapping[str, Any]) -> dict[str, Any]:
    """What ``values`` state of ASE's atoms, and what only their initial charges and magnetic moments do."""
    sums = {"charge": atoms.get_initial_charges().sum(), "spin": abs(atoms.get_initial_magnetic_moments().sum())}
    stated = {key.lower() for key in values}
    of_atoms = {
        key: str(round(value))
        for key, value in sums.items()
        if round(value)
        and abs(value - round(value)) < WHOLE
        and not stated.intersection(CHARGE_KEYS if key == "charge" else SPIN_KEYS)
    }
    return {**of_atoms, **values}


def _stated(values: Mapping[str, tuple[str, Any]], keys: Iterable[str], where: str) -> tuple[int | None, str]:
    """A whole number that is stated under one of some keys or more, and the key."""
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
        found[name] = whole
    if len(set(found.values())) > 1:
        raise DataCorrupt(f"{where}: expected one charge and one spin, got {found}")
    return next(((whole, name) for name, whole in found.items()), (None, ""))


def named(name: str, state: State) -> str:
    """The name of a molecule in a state; one that tells it already stays."""
    if stated_in(name) == state:
        return name
    return ", ".join(filter(None, (name, str(state))))


def stated_in(name: str) -> State:
    """The state that a molecule's name tells."""
    found = _STATED.search(name)
    assert found is not None
    return State(*(None if text is None else int(text) for text in found.group("charge", "multiplicity")))
