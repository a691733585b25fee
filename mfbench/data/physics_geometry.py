"""Whether geometries are those of molecules: bond lengths, overlaps, pieces far apart, bonds that broke for free."""

import numpy as np
from numpy.typing import NDArray

from mfbench.data.bonds import APART
from mfbench.data.candidates import LENGTHS, Declared, fitting, would_fit
from mfbench.data.findings import FAR, Finding, bounded, places
from mfbench.data.shapes import Shape
from mfbench.data.structures import Structures

# Median over the structures of the median distance of an atom to its nearest neighbour, in sums of covalent radii.
# Seen: 0.95 to 1.01 over a set of data, 0.73 (HCN) to 1.15 in one structure; N2 would have 0.77, F2 1.24.
TYPICAL = (0.7, 1.4)

# Smallest distance, in sums of covalent radii. Seen: 0.73 (1000 K, mini-ani1x).
OVERLAP = 0.5

FRAGMENTS = 15.0  # Angstrom, between parts of a structure: two molecules this far apart know nothing of each other

# Sums of covalent radii: an atom nearer to another is squeezed. That takes an electronvolt or more, as does an atom
# that is bonded to none. Seen: 0.73 where one molecule is sampled at up to 1000 K.
SQUEEZED = 0.65

FOR_FREE = 0.5  # eV above the median of the molecule's other structures: less than any bond, more than heat

SAME = 0.8  # share of a molecule's structures with the bonds of most, below which it is several

FEWEST = 5  # other structures that one is compared with


def bond_lengths(typical: NDArray[np.float32], declared: Declared) -> Finding:
    """Whether lengths are in the declared unit.

    Args:
        typical: (S,) of some structures, see ``Shape``; infinite for single atoms.
    """
    typical = typical[np.isfinite(typical)]
    expected = f"nearest neighbours some {TYPICAL[0]:g} to {TYPICAL[1]:g} sums of covalent radii apart (median)"
    if not len(typical):
        return Finding("bond lengths", None, expected, "single atoms alone")
    median = float(np.median(typical))
    ok = TYPICAL[0] <= median <= TYPICAL[1]
    far = ", too far for any bond" if median > TYPICAL[1] else ", nearer than any bond"
    cause = far + would_fit([f"length_unit: {unit}" for unit in fitting(median, declared.length, LENGTHS)])
    return Finding("bond lengths", ok, expected, f"{median:.3g}" + ("" if ok else cause))


def geometries(outline: Structures, shape: Shape) -> list[Finding]:
    """Atoms in each other, and parts far from each other."""
    several = np.isfinite(shape.closest)
    wrong, far = shape.closest < OVERLAP, shape.closest < OVERLAP / 2
    got = f"{shape.closest.min():.3g} sums of covalent radii at least"
    expected = f"distances of at least {OVERLAP:g} sums of covalent radii"
    overlaps = bounded(outline, "overlapping atoms", expected, got, wrong, far, int(several.sum()))
    wrong, far = shape.gap > FRAGMENTS, shape.gap > FAR * FRAGMENTS
    got, expected = f"{shape.gap.max():.3g} Angstrom at most", f"at most {FRAGMENTS:g} Angstrom between parts"
    return [overlaps, bounded(outline, "fragments far apart", expected, got, wrong, far, int(several.sum()))]


def distorted(outline: Structures, shape: Shape) -> Finding:
    """Structures with an atom away from all bonds, or in another one, whose energy is that of all others.

    Where a molecule's other structures have the bonds of each other: an atom that was moved by hand, or by a damaged
    file, leaves the energy as it was; a bond that is pulled apart does not.
    """
    odd = (shape.loneliest > APART) | (shape.closest < SQUEEZED)
    odd &= np.isfinite(shape.closest)
    wrong, compared = np.zeros(len(outline), bool), 0
    for molecule in np.unique(outline.molecule[odd]):
        mine = outline.molecule == molecule
        whole = np.flatnonzero(mine & ~odd)
        kinds, count = np.unique(shape.bonds[whole], return_counts=True)
        if len(whole) < FEWEST or count.max() < SAME * len(whole):
            continue
        whole = whole[shape.bonds[whole] == kinds[count.argmax()]]
        for k in range(len(outline.levels)):
            usual = outline.energies[whole[outline.energy_mask[whole, k]], k]
            rows = np.flatnonzero(mine & odd & outline.energy_mask[:, k])
            if len(usual) >= FEWEST:
                compared += len(rows)
                wrong[rows] |= outline.energies[rows, k] < np.median(usual) + FOR_FREE
    expected = f"energies at least {FOR_FREE:g} eV higher where a bond is broken (an atom moved?)"
    name = "energies of distorted bonds"
    if not compared:
        return Finding(name, None if odd.any() else True, expected, f"{np.count_nonzero(odd):,} such structures")
    got = f"{np.count_nonzero(wrong):,} of {np.count_nonzero(odd):,} structures with a broken bond no higher"
    return Finding(name, not wrong.any(), expected, got, places(outline, wrong))
