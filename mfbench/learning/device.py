"""Structures on the device, and the few padded blocks that a batch of them is arranged in.

A batch is a function of (seed, step): it is drawn first and arranged after, so what is trained on never
depends on the arrangement. Everything here but the gathering of arrays happens on the host.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mfbench.data.store import Reader
from mfbench.data.structures import Structures
from mfbench.learning.sources import Source, arrange
from mfbench.models.block import Block

NO_DIFFERENCES: Mapping[tuple[int, int], NDArray[np.bool_]] = {}


class DeviceStructures:
    """The arrays of ``Structures`` as tensors on one device, for gathering blocks.

    On the CPU they share the memory of the structures' own arrays wherever the types agree.
    """

    def __init__(
        self,
        structures: Structures,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        reader: Reader | None = None,
    ) -> None:
        """Move the arrays to the device: positions and forces as ``dtype``, energies always as float64.

        Levels without forces take no memory there.

        Args:
            reader: the file whose ``outline`` the structures are: atoms go from it straight to the device, with
                never more than a piece of them on the host.
        """
        if reader is not None and device.type == "cpu" and dtype == torch.float32:
            structures, reader = reader.read(), None  # the host is the device: nothing is copied at all
        self.levels = structures.levels
        self.n_atoms = structures.n_atoms  # on the host: the arrangement needs it
        self.host_energy_mask, self.host_force_mask = structures.energy_mask, structures.force_mask
        self.device, self.dtype = device, dtype
        self._offsets = torch.as_tensor(structures.offsets[:-1], device=device)
        self._counts = torch.as_tensor(structures.n_atoms, device=device)
        self._energies = torch.as_tensor(structures.energies, device=device)
        with_forces = [int(k) for k in np.flatnonzero(structures.force_mask.any(0))]
        if reader is None:
            self._numbers = torch.as_tensor(structures.numbers, device=device)
            self._positions = torch.as_tensor(structures.positions, device=device, dtype=dtype)
            self._forces = {k: torch.as_tensor(structures.forces[k], device=device, dtype=dtype) for k in with_forces}
        else:
            self._numbers = self._filled(reader.numbers(), (), torch.uint8)
            self._positions = self._filled(reader.positions(), (3,), dtype)
            self._forces = {k: self._filled(reader.forces(self.levels[k]), (3,), dtype) for k in with_forces}

    def _filled(self, pieces: Iterator[NDArray], width: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        whole = torch.empty((int(self.n_atoms.sum()), *width), dtype=dtype, device=self.device)
        begin = 0
        for piece in pieces:
            whole[begin : begin + len(piece)].copy_(torch.from_numpy(piece))
            begin += len(piece)
        return whole

    def block(
        self,
        indices: NDArray[np.int64],
        energy_mask: NDArray[np.bool_],
        force_mask: NDArray[np.bool_],
        difference_masks: Mapping[tuple[int, int], NDArray[np.bool_]] = NO_DIFFERENCES,
    ) -> Block:
        """Gather one block; the masks are (B, L), those of differences (B,), on the host."""
        differences = {pair: mask for pair, mask in difference_masks.items() if mask.any()}
        labelled = np.flatnonzero(energy_mask.any(0) | force_mask.any(0))
        index = torch.as_tensor(indices, device=self.device)
        slots = torch.arange(int(self.n_atoms[indices].max()), device=self.device)
        real = slots < self._counts[index, None]  # (B, N)
        atoms = (self._offsets[index, None] + slots).clamp_(max=len(self._numbers) - 1)
        return Block(
            index=index,
            numbers=self._numbers[atoms].long() * real,
            positions=torch.where(real[:, :, None], self._positions[atoms], 0),
            energies=self._energies[index],
            forces={
                int(k): torch.where(real[:, :, None], self._forces[int(k)][atoms], 0)
                for k in np.flatnonzero(force_mask.any(0))
            },
            energy_mask=torch.as_tensor(energy_mask, device=self.device),
            force_mask=torch.as_tensor(force_mask, device=self.device),
            difference_masks={pair: torch.as_tensor(mask, device=self.device) for pair, mask in differences.items()},
            wanted=frozenset([*labelled.tolist(), *(k for pair in differences for k in pair)]),
        )

    def blocks(
        self, sources: Sequence[Source], max_pairs: int | None = None, max_blocks: int | None = None
    ) -> Iterator[Block]:
        """Arrange the structures of all sources in padded blocks of similar size and gather them.

        Args:
            max_pairs: most padded pairs of atoms in a block (a bound on memory); None for no bound.
            max_blocks: see ``arrange``.
        """
        indices = np.concatenate([source.indices for source in sources])
        energy_mask, force_mask = (np.concatenate(m) for m in zip(*(self._masks(s) for s in sources)))
        differences = self._differences(sources)
        for members in arrange(self.n_atoms[indices], max_pairs, max_blocks):
            theirs = {pair: mask[members] for pair, mask in differences.items()}
            yield self.block(indices[members], energy_mask[members], force_mask[members], theirs)

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
