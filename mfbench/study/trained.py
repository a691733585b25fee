"""Use what was trained: ``mfbench.load`` rebuilds the potential of a finished run, with no data at hand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mfbench.data.geometries import Slab
from mfbench.data.molecules import State, state_of_atoms, stated_in
from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.learning.device import DeviceAtoms
from mfbench.learning.predict import predict
from mfbench.models.contract import Potential
from mfbench.models.determined import Known
from mfbench.study.calculator import Prediction, Predictor
from mfbench.study.experiment import Experiment
from mfbench.study.outside import of_free_atoms, outside

DType = Literal["float32", "float64"]


@final
class Model(Predictor):
    """What one run trained."""

    committee = False

    def __init__(
        self,
        run: str,
        settings: Experiment,
        potential: Potential,
        elements: tuple[int, ...],
        trained_on: str,
        known: Known | None = None,
    ) -> None:
        """Make it of what a run left.

        Args:
            potential: trained, on its device; no gradient of its weights is ever taken here.
            known: what was trained on, where the run recorded it.
        """
        self.runs, self.settings, self.arm = (run,), settings, settings.arm
        self.potential, self.levels = potential, potential.heads
        self.elements, self.trained_on, self.known = elements, trained_on, known

    def predict(
        self, structures: Structures | Iterable[Atoms], level: str | None = None, forces: bool = True
    ) -> Prediction:
        """See ``Predictor.predict``."""
        level = self.resolve(level)
        return self._predict(_flat(structures, self.elements), level, forces)

    def _predict(self, flat: "_Flat", level: str, forces: bool) -> Prediction:
        parameter = next(self.potential.parameters())
        counts = np.diff(flat.offsets)
        molecules, alone = np.flatnonzero(counts > 1), np.flatnonzero(counts == 1)
        energies, pushed = np.zeros(len(counts)), np.zeros((len(flat.numbers), 3)) if forces else None
        energies[alone] = of_free_atoms(self.known, level, flat.numbers[flat.offsets[alone]])
        atoms = DeviceAtoms(flat.numbers, flat.positions, flat.offsets, parameter.device, parameter.dtype)
        found = predict(self.potential, atoms, molecules, (level,), forces)
        energies[molecules] = found.energies[:, 0]
        if pushed is not None and found.forces is not None:
            pushed[np.repeat(counts > 1, counts)] = found.forces[:, 0]
        bad = ~np.isfinite(energies)
        if pushed is not None and len(energies):
            bad |= ~np.isfinite(np.add.reduceat(pushed.sum(1), flat.offsets[:-1]))
        if bad.any():
            raise UserError(
                f"structure {np.flatnonzero(bad)[0]}: expected a finite energy and forces, got none at {level}: are "
                "atoms in one place, or far too close?"
            )
        told = outside(self.known, level, Slab(flat.numbers, flat.positions, flat.offsets), flat.states)
        return Prediction(level, flat.offsets, energies, pushed, outside=told)


@final
class Committee(Predictor):
    """Several runs as one: the mean of their predictions, and its spread (sample standard deviation).

    It has the levels and the elements that all of its members have.
    """

    committee = True

    def __init__(self, members: Sequence[Model]) -> None:
        """``members``: two or more; raises UserError where they have no level in common."""
        self.members = tuple(members)
        first = self.members[0]
        self.levels = tuple(name for name in first.levels if all(name in one.levels for one in self.members))
        self.elements = tuple(z for z in first.elements if all(z in one.elements for one in self.members))
        if not self.levels or not self.elements:
            known = "; ".join(f"{one.runs[0]}: {', '.join(one.levels)}" for one in self.members)
            raise UserError(f"a committee: expected runs with a level and elements in common, got {known}")
        self.runs = tuple(one.runs[0] for one in self.members)
        self.settings = tuple(one.settings for one in self.members)
        self.arm = ", ".join(dict.fromkeys(one.arm for one in self.members))
        self.trained_on = "; or ".join(dict.fromkeys(one.trained_on for one in self.members))

    def predict(
        self, structures: Structures | Iterable[Atoms], level: str | None = None, forces: bool = True
    ) -> Prediction:
        """See ``Predictor.predict``."""
        level = self.resolve(level)
        flat = _flat(structures, self.elements)
        every = [one._predict(flat, level, forces) for one in self.members]
        energies = np.stack([one.energies for one in every])  # (M, S)
        told = tuple("; ".join(dict.fromkeys(filter(None, each))) for each in zip(*(one.outside for one in every)))
        found = Prediction(level, flat.offsets, energies.mean(0), None, energies.std(0, ddof=1), outside=told)
        pushed = [one.forces for one in every if one.forces is not None]  # M times (A, 3)
        if not pushed:
            return found
        return replace(found, forces=np.mean(pushed, 0), forces_std=np.std(pushed, 0, ddof=1))


# Structures


@dataclass(frozen=True)
class _Flat:
    """S structures with A atoms in all, their centres at the origin."""

    numbers: NDArray[np.integer]  # (A,)
    positions: NDArray[np.float64]  # (A, 3) Angstrom
    offsets: NDArray[np.int64]  # (S + 1,)
    states: Sequence[State]  # (S,) charge and multiplicity


def _flat(structures: Structures | Iterable[Atoms], elements: tuple[int, ...]) -> _Flat:
    """The structures' atoms, checked. They are centred: far from the origin, float32 would round positions off."""
    if isinstance(structures, Structures):
        numbers, positions, offsets = structures.numbers, structures.positions, structures.offsets
        of_molecules = [stated_in(name) for name in structures.molecules]
        states = [of_molecules[m] for m in structures.molecule]
    else:
        every = [structures] if isinstance(structures, Atoms) else list(structures)
        for s, atoms in enumerate(every):
            if not isinstance(atoms, Atoms):
                raise UserError(f"structure {s}: expected ase.Atoms, got {type(atoms).__name__}")
            if atoms.pbc.any():
                raise UserError(
                    f"structure {s}: expected an isolated molecule, got a periodic structure; if it is a molecule in a "
                    "box, set atoms.pbc = False"
                )
        states = [state_of_atoms(atoms, f"structure {s}") for s, atoms in enumerate(every)]
        offsets = np.cumsum([0, *(len(atoms) for atoms in every)])
        numbers = np.concatenate([[], *(atoms.numbers for atoms in every)]).astype(np.int64)
        positions = np.concatenate([np.zeros((0, 3)), *(atoms.positions for atoms in every)])
    counts = np.diff(offsets)
    owner = np.repeat(np.arange(len(counts)), counts)
    if not counts.all():
        raise UserError(f"structure {np.flatnonzero(counts == 0)[0]}: expected atoms, got none")
    if (odd := ~np.isfinite(positions).all(1)).any():
        raise UserError(f"structure {owner[odd][0]}: expected finite positions, got {positions[odd][0].tolist()}")
    if (odd := ~np.isin(numbers, elements)).any():
        strange = ", ".join(chemical_symbols[z] for z in np.unique(numbers[odd]))
        raise UserError(
            f"structure {owner[odd][0]}: expected elements that this model was trained on, "
            f"{', '.join(chemical_symbols[z] for z in elements)}; got {strange}"
        )
    if not len(counts):
        return _Flat(numbers, np.zeros((0, 3)), offsets, states)
    centres = np.add.reduceat(positions.astype(np.float64), offsets[:-1]) / counts[:, None]
    return _Flat(numbers, positions - centres[owner], offsets, states)
