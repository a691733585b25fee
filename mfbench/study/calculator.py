"""What predicts energies and forces of structures at a level of theory, and the ASE calculator made of it.

Nothing here imports torch: what a model is, is told by ``Predictor``; those of finished runs are in ``models``.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mfbench.data.molecules import state_of_atoms
from mfbench.data.structures import Structures
from mfbench.errors import UserError, unknown


@dataclass(frozen=True)
class Prediction:
    """Energies and forces of S structures with A atoms in all, at one level."""

    level: str
    offsets: NDArray[np.int64]  # (S + 1,) atoms of structure s: offsets[s]:offsets[s + 1]
    energies: NDArray[np.float64]  # (S,) eV
    forces: NDArray[np.float64] | None  # (A, 3) eV/Angstrom; None: not asked for
    energies_std: NDArray[np.float64] | None = None  # (S,) eV, spread of a committee's members
    forces_std: NDArray[np.float64] | None = None  # (A, 3) eV/Angstrom, of each component
    # (S,) why a structure lies outside what was trained on, in words; empty where it lies inside.
    outside: tuple[str, ...] = ()

    def atoms_of(self, s: int) -> slice:
        """The rows of ``forces`` that are the atoms of structure ``s``."""
        return slice(int(self.offsets[s]), int(self.offsets[s + 1]))


class Predictor(ABC):
    """Energies and forces of structures, at each of some levels of theory."""

    runs: tuple[str, ...]  # names of the runs it is made of
    arm: str
    levels: tuple[str, ...]  # that it predicts, from low to high
    elements: tuple[int, ...]  # atomic numbers that it knows
    trained_on: str  # for people: which labels of which level
    committee: ClassVar[bool]  # whether its predictions have a spread

    @abstractmethod
    def predict(
        self, structures: Structures | Iterable[Atoms], level: str | None = None, forces: bool = True
    ) -> Prediction:
        """Total energies, and forces, of structures in the order given. It works in batches of bounded memory.

        A single atom has the reference energy of its level. ``Prediction.outside`` says where others lie outside what
        was trained on: what is predicted there may be far off.

        Args:
            structures: isolated molecules; labels, calculators and cells are not looked at, charge and multiplicity
                (see ``MFBenchCalculator``) for ``Prediction.outside`` alone.
            level: may be left out where the model has one level only.
            forces: whether forces are wanted; energies alone take less than half of the time.

        Raises:
            UserError: an unknown level or element; a periodic structure, or one without atoms; atoms in impossible
                places; a single atom whose reference energy is not known.
        """

    @final
    def resolve(self, level: str | None) -> str:
        """The level asked for, or the only one there is; raises UserError listing the levels."""
        if level is None:
            if len(self.levels) > 1:
                raise UserError(f"level: expected one of {', '.join(self.levels)}, as the model has several; got none")
            return self.levels[0]
        if level in self.levels:
            return level
        if (found := next((one for one in self.levels if one.casefold() == level.casefold()), None)) is None:
            raise unknown("level of this model", level, self.levels)
        return found

    @final
    def calculator(self, level: str | None = None) -> "MFBenchCalculator":
        """An ASE calculator of this model at a level."""
        return MFBenchCalculator(self, level)

    def __repr__(self) -> str:
        heads = ", ".join(self.levels)
        return f"<{type(self).__name__} {', '.join(self.runs)}: {self.arm} for {heads}; trained on {self.trained_on}>"


def unknown_elements(where: str, numbers: NDArray[np.integer], elements: Iterable[int]) -> UserError:
    """The error for a structure with elements that a model does not know: ``numbers``."""
    known, got = (", ".join(chemical_symbols[z] for z in some) for some in (elements, np.unique(numbers)))
    return UserError(
        f"{where}: expected elements that this model was trained on, {known}; got {got}: leave this structure out, or "
        "take a model that knows them"
    )


@final
class MFBenchCalculator(Calculator):
    """ASE calculator: energy, free_energy (equal to it) and forces of isolated molecules, in ASE's own units.

    The ``results`` of a committee hold the spreads ``energy_std`` (eV) and ``forces_std`` (N, 3) (eV/Angstrom), too.
    ``results["outside"]`` says in words why a structure lies outside what was trained on ("" where it lies inside), and
    a warning says so once for each reason. Charge and multiplicity are looked at for that alone: what ``atoms.info``
    states (``charge``, ``multiplicity``, ``spin``), else initial charges and magnetic moments.
    ``parameters`` say which run, arm and level it is, and what that was trained on.
    """

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012 (ASE's own form)
    ignored_changes = {"cell", "initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(self, model: Predictor, level: str | None = None) -> None:
        """See ``Predictor.resolve`` for the level and the errors."""
        self.model = model
        if model.committee:
            self.implemented_properties = [*self.implemented_properties, "energy_std", "forces_std"]
        Calculator.__init__(self)
        self._told: set[str] = set()
        self.parameters.update(
            run=", ".join(model.runs), arm=model.arm, level=model.resolve(level), trained_on=model.trained_on
        )

    def set(self, **parameters: Any) -> dict[str, Any]:
        """Change the ``level``; all else belongs to the model (UserError)."""
        if foreign := sorted(parameters.keys() - {"level"}):
            raise UserError(f"calculator: expected no other parameter than level, got {', '.join(foreign)}")
        if "level" in parameters:
            parameters["level"] = self.model.resolve(parameters["level"])
        changed = Calculator.set(self, **parameters)
        if changed:
            self.reset()
        return changed

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation: atoms, or charge and multiplicity."""
        changes: list[str] = Calculator.check_state(self, atoms, tol)
        if not changes and self.atoms is not None and state_of_atoms(self.atoms) != state_of_atoms(atoms):
            changes = ["info"]
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill ``results``; forces only where they are asked for."""
        Calculator.calculate(self, atoms, properties, system_changes)
        assert self.atoms is not None
        wanted = any(name.startswith("forces") for name in properties)
        found = self.model.predict([self.atoms], self.parameters["level"], wanted)
        energy = float(found.energies[0])
        self.results.update(energy=energy, free_energy=energy, outside=found.outside[0])
        if found.outside[0] not in ("", *self._told):
            self._told.add(found.outside[0])
            warnings.warn(f"outside what this model was trained on: {found.outside[0]}", stacklevel=2)
        if found.forces is not None:
            self.results["forces"] = found.forces
        if found.energies_std is not None:
            self.results["energy_std"] = float(found.energies_std[0])
        if found.forces_std is not None:
            self.results["forces_std"] = found.forces_std

    def __repr__(self) -> str:
        p: Mapping[str, Any] = self.parameters
        return f"<MFBenchCalculator {p['run']}: {p['arm']} at {p['level']}; trained on {p['trained_on']}>"
