"""What a potential predicts for structures on the device."""

import numpy as np
import torch
from numpy.typing import NDArray

from mfbench.learning.device import DeviceStructures
from mfbench.learning.sources import Source, Term
from mfbench.models.contract import Potential


def energies_of(
    potential: Potential, data: DeviceStructures, indices: NDArray[np.int64], level: str
) -> NDArray[np.float64]:
    """Energies (S,) eV that a potential predicts for structures at one level."""
    energies = np.zeros(len(data.n_atoms))
    with torch.no_grad():
        for block in data.blocks([Source(indices, (Term(level),))], max_pairs=1 << 18):
            energies[block.index.cpu().numpy()] = potential(block).energies[:, potential.levels.index(level)].cpu()
    return energies[indices]
