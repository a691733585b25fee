"""One pass over a dataset, in memory or in a converted file: what its checks look at; memory does not grow."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfbench.data.store import Reader
from mfbench.data.structures import BoolArray, Structures
from mfbench.elements import COVALENT_RADII, SYMBOLS

Source = Structures | Reader

Progress = Callable[[int], None]

ELEMENTS = tuple(sorted(number for number in SYMBOLS if number))


def outline_of(source: Source) -> Structures:
    return source.outline if isinstance(source, Reader) else source


def batches_of(source: Source) -> Iterator[Structures]:
    if isinstance(source, Reader):
        yield from source.batches()
    else:
        yield source


def element_counts(source: Source) -> NDArray[np.int16]:
    """(S, len(ELEMENTS)) atoms of each element."""
    numbers = np.concatenate(list(source.numbers())) if isinstance(source, Reader) else source.numbers
    starts = source.offsets[:-1]
    counts = np.zeros((len(starts), len(ELEMENTS)), np.int16)
    for k in np.flatnonzero(np.bincount(numbers, minlength=256)[list(ELEMENTS)]):
        counts[:, k] = np.add.reduceat(numbers == ELEMENTS[k], starts, dtype=np.int16)
    return counts


def with_forces(outline: Structures) -> list[int]:
    return [int(k) for k in np.flatnonzero(outline.force_mask.any(0))]


def one_by_one(source: Source) -> Iterator[Structures]:
    """The outline of a file with one level at a time: those of millions of structures at many levels are large."""
    if isinstance(source, Reader):
        yield from (source.of_levels((name,)) for name in source.levels)
    else:
        yield source


def sum_of_squares(source: Source, name: str) -> float:
    """Of all force components at a level; unlabelled ones are zero."""
    pieces = source.forces(name) if isinstance(source, Reader) else [source.forces[source.levels.index(name)]]
    return sum(float(np.sum(np.square(piece), dtype=np.float64)) for piece in pieces)


def level_pairs(outline: Structures) -> list[tuple[int, int]]:
    """Each level with the lower one that it shares most structures with, the nearest of equals."""
    mask = outline.energy_mask
    found = []
    for high in range(1, len(outline.levels)):
        shared = [int(np.count_nonzero(mask[:, low] & mask[:, high])) for low in range(high)]
        found.append((max(range(high), key=lambda low: (shared[low], low)), high))
    return found


@dataclass
class Survey:
    """What one pass over the atoms leaves: numbers a structure, and some structures of each of some molecules."""

    squares: dict[int, float]  # by level: sum over all force components
    absolute: dict[int, NDArray[np.float64]]  # by level: (S,) mean absolute component
    largest: dict[int, NDArray[np.float32]]  # by level: (S,) largest component
    net: dict[int, NDArray[np.float32]]  # by level: (S,) length of the net force
    closest: NDArray[np.float32]  # (S,) smallest distance in sums of covalent radii
    apart: dict[tuple[int, int], float]  # by pair of levels: rms difference of their forces; NaN: none have both
    sample: dict[int, dict[int, list[Structures]]]  # by level and molecule


_MOLECULES, _FRAMES, _WINDOWS = 50, 600, 6  # that are kept to compare neighbours


def _sampled(outline: Structures, k: int) -> BoolArray:
    """(S,) structures to compare: molecules spread over the data, windows of rows spread over each.

    Rows that follow each other are neighbours in a trajectory; where rows were shuffled, a window is as good as any.
    """
    chosen = np.zeros(len(outline), bool)
    rows = np.flatnonzero(outline.energy_mask[:, k] & outline.force_mask[:, k])
    count = np.bincount(outline.molecule[rows], minlength=len(outline.molecules))
    molecules = np.flatnonzero(count > 2)
    for molecule in molecules[:: max(1, -(-len(molecules) // _MOLECULES))]:
        mine = rows[outline.molecule[rows] == molecule]
        mine = mine[np.sort(np.unique(outline.geometry[mine], return_index=True)[1])]  # a copy tells nothing new
        window = _FRAMES // _WINDOWS
        chosen[mine[np.arange(len(mine)) % max(window, len(mine) // _WINDOWS) < window]] = True
    return chosen


def survey(source: Source, outline: Structures, progress: Progress) -> Survey:
    """Look at all atoms once; ``progress`` is told how many structures are done."""
    levels, count = with_forces(outline), len(outline)
    seen = Survey(
        squares=dict.fromkeys(levels, 0.0),
        absolute={k: np.zeros(count) for k in levels},
        largest={k: np.zeros(count, np.float32) for k in levels},
        net={k: np.zeros(count, np.float32) for k in levels},
        closest=np.full(count, np.inf, np.float32),
        apart={},
        sample={k: {} for k in levels},
    )
    sampled = {k: _sampled(outline, k) for k in levels}
    pairs = [(low, high) for low, high in level_pairs(outline) if low in levels and high in levels]
    squares, components = dict.fromkeys(pairs, 0.0), dict.fromkeys(pairs, 0)
    begin = 0
    for batch in batches_of(source):
        rows, starts = slice(begin, begin + len(batch)), batch.offsets[:-1]
        for k in levels:
            size = np.abs(batch.forces[k])
            seen.squares[k] += float(np.sum(np.square(size), dtype=np.float64))
            seen.absolute[k][rows] = np.add.reduceat(size.mean(1, dtype=np.float64), starts) / batch.n_atoms
            seen.largest[k][rows] = np.maximum.reduceat(size.max(1), starts)
            net = np.add.reduceat(batch.forces[k], starts, dtype=np.float64)
            seen.net[k][rows] = np.linalg.norm(net, axis=1)
        seen.closest[rows] = _closest(batch)
        for low, high in pairs:
            both = np.repeat(batch.force_mask[:, low] & batch.force_mask[:, high], batch.n_atoms)
            difference = batch.forces[high, both] - batch.forces[low, both]
            squares[low, high] += float(np.sum(np.square(difference), dtype=np.float64))
            components[low, high] += difference.size
        for k in levels:
            mine = np.flatnonzero(sampled[k][rows])
            for molecule in np.unique(batch.molecule[mine]):
                piece = batch[mine[batch.molecule[mine] == molecule]]
                seen.sample[k].setdefault(int(molecule), []).append(piece)
        begin = rows.stop
        progress(begin)
    seen.apart.update({one: np.sqrt(squares[one] / n) if n else np.nan for one, n in components.items()})
    return seen


def _closest(batch: Structures) -> NDArray[np.float32]:
    """(S,) smallest interatomic distance in sums of covalent radii; infinite for a single atom."""
    radius = COVALENT_RADII.astype(np.float32)
    closest = np.full(len(batch), np.inf, np.float32)
    for size in np.unique(batch.n_atoms[batch.n_atoms > 1]):
        first, second = np.triu_indices(int(size), 1)
        members = np.flatnonzero(batch.n_atoms == size)
        for chosen in np.array_split(members, max(1, len(members) * len(first) >> 20)):
            places = batch.offsets[chosen, None] + np.arange(size)
            x = batch.positions[places]
            x = (x - x[:, :1]).astype(np.float32)
            r = radius[batch.numbers[places]]
            ratio = np.square(x[:, first] - x[:, second]).sum(-1) / np.square(r[:, first] + r[:, second])
            closest[chosen] = np.sqrt(ratio.min(1))
    return closest
