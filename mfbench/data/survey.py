"""One pass over a dataset, in memory or in a converted file: what its checks look at; memory does not grow."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfbench.data.shapes import Shape, no_shape, shape_of, torque_of
from mfbench.data.store import Reader
from mfbench.data.structures import BoolArray, FloatArray, Structures, join
from mfbench.elements import SYMBOLS

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


def some_of(source: Source, count: int) -> Structures:
    """Some structures: of the first piece of a converted file, which is quickly read, or spread over the source."""
    some = source.beginning() if isinstance(source, Reader) else source
    return some[np.unique(np.linspace(0, len(some) - 1, count).astype(np.int64))]


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


def beyond_composition(counts: NDArray, values: FloatArray, mask: BoolArray) -> NDArray[np.float64]:
    """(S,) values minus what their composition explains (least squares an element); NaN beside the mask."""
    present = counts[mask].any(0)
    a = counts[:, present].astype(np.float64)
    # Normal equations: a few columns, and any number of rows.
    inner = np.linalg.lstsq(a[mask].T @ a[mask], a[mask].T @ values[mask], rcond=1e-12)[0]
    return np.where(mask, values - a @ inner, np.nan)


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
    torque: dict[int, NDArray[np.float32]]  # by level: (S,) net torque over the radius of gyration, eV/Angstrom
    shape: Shape
    apart: dict[tuple[int, int], float]  # by pair of levels: rms difference of their forces; NaN: none have both
    sample: dict[int, NDArray[np.int64]]  # by level: structures with forces that are compared with their neighbours
    kept: NDArray[np.int64]  # (K,) structures whose atoms are kept, ascending
    frames: Structures  # of K structures

    def some(self, rows: NDArray[np.int64]) -> Structures:
        """Structures whose atoms were kept."""
        return self.frames[np.searchsorted(self.kept, rows)]


_MOLECULES, _FRAMES, _WINDOWS = 50, 600, 6  # that are kept to compare neighbours


def spread(outline: Structures, rows: NDArray[np.int64], least: int, most: int = 0) -> NDArray[np.int64]:
    """Structures to look at closely: molecules spread over the data, windows of rows spread over each.

    Rows that follow each other are neighbours in a trajectory; where rows were shuffled, a window is as good as any.

    Args:
        rows: to choose from, ascending.
        least: rows that a molecule needs.
        most: how many of all molecules, where that is more than the usual number of each.
    """
    chosen = np.zeros(len(outline), bool)
    count = np.bincount(outline.molecule[rows], minlength=len(outline.molecules))
    molecules = np.flatnonzero(count >= least)
    molecules = molecules[:: max(1, -(-len(molecules) // _MOLECULES))]
    window = max(_FRAMES, most // max(len(molecules), 1)) // _WINDOWS
    for molecule in molecules:
        mine = rows[outline.molecule[rows] == molecule]
        mine = mine[np.sort(np.unique(outline.geometry[mine], return_index=True)[1])]  # a copy tells nothing new
        chosen[mine[np.arange(len(mine)) % max(window, len(mine) // _WINDOWS) < window]] = True
    return np.flatnonzero(chosen)


def survey(source: Source, outline: Structures, progress: Progress, wanted: Iterable[NDArray[np.int64]] = ()) -> Survey:
    """Look at all atoms once.

    Args:
        progress: is told how many structures are done.
        wanted: structures whose atoms are kept.
    """
    levels, count = with_forces(outline), len(outline)
    near = {k: np.flatnonzero(outline.energy_mask[:, k] & outline.force_mask[:, k]) for k in levels}
    sample = {k: spread(outline, rows, 3) for k, rows in near.items()}
    kept = np.unique(np.concatenate([np.zeros(0, np.int64), *sample.values(), *wanted]))
    seen = Survey(
        squares=dict.fromkeys(levels, 0.0),
        absolute={k: np.zeros(count) for k in levels},
        largest={k: np.zeros(count, np.float32) for k in levels},
        net={k: np.zeros(count, np.float32) for k in levels},
        torque={k: np.zeros(count, np.float32) for k in levels},
        shape=no_shape(count),
        apart={},
        sample=sample,
        kept=kept,
        frames=outline,
    )
    pieces: list[Structures] = []
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
            seen.torque[k][rows] = torque_of(batch, k)
        for name, values in vars(shape_of(batch)).items():
            getattr(seen.shape, name)[rows] = values
        for low, high in pairs:
            both = np.repeat(batch.force_mask[:, low] & batch.force_mask[:, high], batch.n_atoms)
            difference = batch.forces[high, both] - batch.forces[low, both]
            squares[low, high] += float(np.sum(np.square(difference), dtype=np.float64))
            components[low, high] += difference.size
        pieces.append(batch[kept[np.searchsorted(kept, rows.start) : np.searchsorted(kept, rows.stop)] - rows.start])
        begin = rows.stop
        progress(begin)
    seen.apart.update({one: np.sqrt(squares[one] / n) if n else np.nan for one, n in components.items()})
    seen.frames = pieces[0] if len(pieces) == 1 else join(pieces)
    return seen
