"""Use what was trained: ``mfbench.load`` rebuilds the potential of a finished run, with no data at hand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.learning.sources import arrange
from mfbench.models.block import Block
from mfbench.models.contract import Potential
from mfbench.models.contract import forces as gradient
from mfbench.study.calculator import Prediction, Predictor
from mfbench.study.experiment import Experiment

DType = Literal["float32", "float64"]

_MAX_PAIRS = 1 << 18  # padded pairs of atoms in a block: what bounds the memory


@final
class Model(Predictor):
    """What one run trained."""

    committee = False

    def __init__(
        self, run: str, settings: Experiment, potential: Potential, elements: tuple[int, ...], trained_on: str
    ) -> None:
        """``potential``: trained, on its device; no gradient of its weights is ever taken here."""
        self.runs, self.settings, self.arm = (run,), settings, settings.arm
        self.potential, self.levels = potential, potential.heads
        self.elements, self.trained_on = elements, trained_on

    def predict(
        self, structures: Structures | Iterable[Atoms], level: str | None = None, forces: bool = True
    ) -> Prediction:
        """See ``Predictor.predict``."""
        level = self.resolve(level)
        return self._predict(_flat(structures, self.elements), level, forces)

    def _predict(self, flat: "_Flat", level: str, forces: bool) -> Prediction:
        column, n_atoms = self.potential.levels.index(level), np.diff(flat.offsets)
        energies = np.zeros(len(n_atoms))
        pushed = np.zeros((len(flat.numbers), 3)) if forces else None
        for rows in arrange(n_atoms, _MAX_PAIRS) if len(n_atoms) else ():
            block, atoms, inside = self._block(flat, rows, column)
            positions = block.positions.requires_grad_(forces)
            with torch.set_grad_enabled(forces):
                out = self.potential(block).energies
            energies[rows] = out[:, column].detach().cpu().numpy()
            if pushed is not None:
                pushed[atoms] = gradient(out, positions, column, create_graph=False).cpu().numpy()[inside]
            bad = ~np.isfinite(energies[rows])
            if pushed is not None:
                bad |= ~np.isfinite(np.add.reduceat(pushed[atoms].sum(1), _starts(n_atoms[rows])))
            if bad.any():
                raise UserError(
                    f"structure {rows[bad].min()}: expected a finite energy and forces, got none at {level}: are atoms "
                    "in one place, or far too close?"
                )
        return Prediction(level, flat.offsets, energies, pushed)

    def _block(
        self, flat: "_Flat", rows: NDArray[np.int64], column: int
    ) -> tuple[Block, NDArray[np.int64], NDArray[np.bool_]]:
        """The structures as one block without labels, which atoms they are, and (B, N) where those are in it."""
        counts = np.diff(flat.offsets)[rows]
        atoms = np.repeat(flat.offsets[rows] - _starts(counts), counts) + np.arange(counts.sum())
        inside = np.arange(counts.max()) < counts[:, None]
        numbers = np.zeros(inside.shape, np.int64)
        positions = np.zeros((*inside.shape, 3))
        numbers[inside], positions[inside] = flat.numbers[atoms], flat.positions[atoms]
        parameter = next(self.potential.parameters())
        device, labels = parameter.device, (len(rows), len(self.potential.levels))
        block = Block(
            index=torch.as_tensor(rows, device=device),
            numbers=torch.as_tensor(numbers, device=device),
            positions=torch.as_tensor(positions, dtype=parameter.dtype, device=device),
            energies=torch.zeros(labels, dtype=torch.float64, device=device),
            forces={},
            energy_mask=torch.zeros(labels, dtype=torch.bool, device=device),
            force_mask=torch.zeros(labels, dtype=torch.bool, device=device),
            difference_masks={},
            wanted=frozenset([column]),
        )
        return block, atoms, inside


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
        found = Prediction(level, flat.offsets, energies.mean(0), None, energies.std(0, ddof=1))
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


def _starts(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)


def _flat(structures: Structures | Iterable[Atoms], elements: tuple[int, ...]) -> _Flat:
    """The structures' atoms, checked. They are centred: far from the origin, float32 would round positions off."""
    if isinstance(structures, Structures):
        numbers, positions, offsets = structures.numbers, structures.positions, structures.offsets
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
        return _Flat(numbers, np.zeros((0, 3)), offsets)
    centres = np.add.reduceat(positions.astype(np.float64), offsets[:-1]) / counts[:, None]
    return _Flat(numbers, positions - centres[owner], offsets)
