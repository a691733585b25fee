"""What a potential predicts: the one loop over blocks without labels."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mfbench.learning.device import DeviceAtoms
from mfbench.learning.sources import MAX_PAIRS, arrange
from mfbench.models.contract import Potential
from mfbench.models.contract import forces as gradient


class Predicted(NamedTuple):
    """Energies and forces of S structures with A atoms in all, at K levels, in the order asked for."""

    energies: NDArray[np.float64]  # (S, K) eV
    forces: NDArray[np.float64] | None  # (A, K, 3) eV/Angstrom; None: not asked for


def predict(
    potential: Potential, atoms: DeviceAtoms, rows: NDArray[np.int64], levels: Sequence[str], forces: bool
) -> Predicted:
    """Predict chosen structures in blocks of bounded memory.

    Args:
        rows: (S,) which structures.
        levels: among the potential's heads.
    """
    columns = [potential.levels.index(name) for name in levels]
    n_atoms = atoms.n_atoms[rows]
    ends = np.cumsum(n_atoms)
    energies = np.zeros((len(rows), len(columns)))
    found = np.zeros((int(n_atoms.sum()), len(columns), 3)) if forces else None
    for members in arrange(n_atoms, MAX_PAIRS) if len(rows) else ():
        block = atoms.block(rows[members], frozenset(columns))
        positions = block.positions.detach().requires_grad_(forces)
        with torch.set_grad_enabled(forces):
            out = potential(replace(block, positions=positions)).energies
        energies[members] = out[:, columns].detach().cpu().numpy()
        if found is None:
            continue
        counts = n_atoms[members]
        inside = np.arange(positions.shape[1]) < counts[:, None]  # (B, N)
        mine = np.repeat(ends[members] - counts, counts) + np.nonzero(inside)[1]
        for place, column in enumerate(columns):
            pushed = gradient(out, positions, column, create_graph=False)
            found[mine, place] = pushed.cpu().numpy()[inside]
    return Predicted(energies, found)
