"""Structures on the device, gathered into padded blocks with what they are to be compared with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfbench.data.structures import Structures
from mfbench.learning.sources import Source, arrange
from mfbench.models.block import Block, sent


@dataclass(frozen=True)
class Targets:
    """Labels of B structures of N padded atoms at L levels, and which of them count.

    A value below a False mask means nothing.
    """

    energies: Tensor  # (B, L) eV, float64
    forces: Mapping[int, Tensor]  # (B, N, 3) eV/Angstrom, of the levels with a True in force_mask
    energy_mask: Tensor  # (B, L)
    force_mask: Tensor  # (B, L)
    difference_masks: Mapping[tuple[int, int], Tensor]  # (B,) where energies of the first minus the second level count


class Labelled(NamedTuple):
    """A block, the structures it is made of, and their labels."""

    rows: NDArray[np.int64]  # (B,) which structures these are, on the host
    block: Block
    targets: Targets


class DeviceAtoms:
    """Atoms of many structures as flat tensors on one device, for gathering blocks."""

    def __init__(
        self,
        numbers: NDArray[np.integer],
        positions: NDArray[np.floating],
        offsets: NDArray[np.int64],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Move S structures of A atoms to the device.

        Args:
            numbers: (A,); positions: (A, 3) Angstrom; offsets: (S + 1,).
        """
        self.n_atoms = np.diff(offsets)  # on the host: the arrangement needs it
        self.device = device
        self._offsets = torch.as_tensor(offsets[:-1], device=device)
        self._counts = torch.as_tensor(self.n_atoms, device=device)
        self._numbers = torch.as_tensor(numbers, device=device)
        self._positions = torch.as_tensor(positions, device=device, dtype=dtype)

    def block(self, rows: NDArray[np.int64], wanted: frozenset[int] = frozenset()) -> Block:
        """Gather chosen structures."""
        return self.gathered(rows, wanted)[0]

    def gathered(self, rows: NDArray[np.int64], wanted: frozenset[int]) -> tuple[Block, Tensor, Tensor, Tensor]:
        """The block, its structures (B,), which of the flat atoms stand in it (B, N), and where these are atoms."""
        index = sent(rows, self.device)
        slots = torch.arange(int(self.n_atoms[rows].max()), device=self.device)
        real = slots < self._counts[index, None]  # (B, N)
        atoms = (self._offsets[index, None] + slots).clamp_(max=len(self._numbers) - 1)
        block = Block(
            numbers=self._numbers[atoms].long() * real,
            positions=torch.where(real[:, :, None], self._positions[atoms], 0),
            sizes=tuple(self.n_atoms[rows].tolist()),
            wanted=wanted,
        )
        return block, index, atoms, real


class DeviceStructures:
    """The arrays of ``Structures`` as tensors on one device, for gathering blocks with their targets.

    On the CPU they share the memory of the structures' own arrays wherever the types agree.
    """

    def __init__(self, structures: Structures, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        """Move the arrays to the device: positions and forces as ``dtype``, energies always as float64.

        Levels without forces take no memory there.
        """
        self.atoms = DeviceAtoms(structures.numbers, structures.positions, structures.offsets, device, dtype)
        self.levels, self.device = structures.levels, device
        self.host_energy_mask, self.host_force_mask = structures.energy_mask, structures.force_mask
        self._energies = torch.as_tensor(structures.energies, device=device)
        self._forces = {
            int(k): torch.as_tensor(structures.forces[k], device=device, dtype=dtype)
            for k in np.flatnonzero(structures.force_mask.any(0))
        }

    def blocks(
        self, sources: Sequence[Source], max_pairs: int | None = None, max_blocks: int | None = None
    ) -> Iterator[Labelled]:
        """Arrange the structures of all sources in padded blocks of similar size and gather them.

        Args:
            max_pairs: most padded pairs of atoms in a block (a bound on memory); None for no bound.
            max_blocks: see ``arrange``.
        """
        rows = np.concatenate([source.indices for source in sources])
        energy_mask, force_mask = (np.concatenate(m) for m in zip(*(self._masks(s) for s in sources)))
        differences = self._differences(sources)
        for members in arrange(self.atoms.n_atoms[rows], max_pairs, max_blocks):
            theirs = {pair: mask[members] for pair, mask in differences.items() if mask[members].any()}
            yield self._labelled(rows[members], energy_mask[members], force_mask[members], theirs)

    def _labelled(
        self,
        rows: NDArray[np.int64],
        energy_mask: NDArray[np.bool_],
        force_mask: NDArray[np.bool_],
        differences: Mapping[tuple[int, int], NDArray[np.bool_]],
    ) -> Labelled:
        """Gather one block; the masks are (B, L), those of differences (B,), on the host."""
        at = np.flatnonzero(energy_mask.any(0) | force_mask.any(0)).tolist()
        wanted = frozenset([*at, *(k for pair in differences for k in pair)])
        block, index, atoms, real = self.atoms.gathered(rows, wanted)
        targets = Targets(
            energies=self._energies[index],
            forces={
                k: torch.where(real[:, :, None], self._forces[k][atoms], 0)
                for k in np.flatnonzero(force_mask.any(0)).tolist()
            },
            energy_mask=sent(energy_mask, self.device),
            force_mask=sent(force_mask, self.device),
            difference_masks={pair: sent(mask, self.device) for pair, mask in differences.items()},
        )
        return Labelled(rows, block, targets)

    def _masks(self, source: Source) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        shape = (len(source.indices), len(self.levels))
        energy, force = np.zeros(shape, bool), np.zeros(shape, bool)
        for term in source.terms:
            column = self.levels.index(term.level)
            if term.energy and term.minus is None:
                energy[:, column] = self.host_energy_mask[source.indices, column]
            if term.forces:
                force[:, column] = self.host_force_mask[source.indices, column]
        return energy, force

    def _differences(self, sources: Sequence[Source]) -> dict[tuple[int, int], NDArray[np.bool_]]:
        """By pair of levels, where in the joined sources the difference of their energies counts."""
        starts = np.cumsum([0, *(len(source.indices) for source in sources)])
        masks: dict[tuple[int, int], NDArray[np.bool_]] = {}
        for source, (begin, end) in zip(sources, pairwise(starts)):
            for term in source.terms:
                if term.energy and term.minus is not None:
                    pair = (self.levels.index(term.level), self.levels.index(term.minus))
                    mask = masks.setdefault(pair, np.zeros(starts[-1], bool))
                    mask[begin:end] = self.host_energy_mask[source.indices][:, pair].all(1)
        return masks
