"""What a training step draws: structures with the labels that they contribute, arranged in few padded blocks.

A batch is a function of (seed, step): it is drawn first and arranged after, so what is trained on never
depends on the arrangement. All of this happens on the host, with numpy alone.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Term:
    """Labels of one level that count: its energies, its forces or both.

    With ``minus``, the energies that count are differences to that level's, of structures that have both.
    """

    level: str
    energy: bool = True
    forces: bool = False
    minus: str | None = None


@dataclass(frozen=True)
class Source:
    """Structures with the labels they contribute; whatever else they are labelled with is not looked at."""

    indices: NDArray[np.int64]
    terms: tuple[Term, ...]


# Most padded pairs of atoms in a block that is only predicted: what bounds the memory.
MAX_PAIRS = 1 << 18

# Starting one more block costs about as much as computing this many pairs (CPU and GPU alike, to a factor).
_BLOCK_OVERHEAD = 4096


def arrange(
    n_atoms: NDArray[np.integer], max_pairs: int | None = None, max_blocks: int | None = None
) -> list[NDArray[np.int64]]:
    """Partition structures into blocks of similar size, least in padded pairs plus overhead per block.

    Args:
        n_atoms: (B,) sizes.
        max_pairs: most padded pairs in a block; larger blocks are cut.
        max_blocks: 1 puts all in one block; None lets the sizes decide.

    Returns:
        Positions in ``n_atoms``, one array a block; each block ordered by size, ties by position.
    """
    order = np.argsort(n_atoms, kind="stable")
    sizes, first = np.unique(n_atoms[order], return_index=True)
    ends = np.append(first[1:], len(order))
    if max_blocks == 1:
        cuts = [0, len(order)]
    else:
        # Dynamic programming over the distinct sizes: best[k] = least cost of the k smallest sizes.
        best, previous = [0.0], [0]
        for k in range(len(sizes)):
            costs = [best[j] + _BLOCK_OVERHEAD + (ends[k] - first[j]) * float(sizes[k]) ** 2 for j in range(k + 1)]
            best.append(min(costs))
            previous.append(int(np.argmin(costs)))
        cuts, k = [len(order)], len(sizes)
        while k > 0:
            k = previous[k]
            cuts.append(int(first[k]) if k < len(sizes) else len(order))
        cuts.reverse()
    blocks = []
    for begin, end in pairwise(cuts):
        step = end - begin
        if max_pairs is not None:
            step = max(1, max_pairs // int(n_atoms[order[end - 1]]) ** 2)
        blocks += [order[at : min(at + step, end)] for at in range(begin, end, step)]
    return blocks


@lru_cache(maxsize=8)
def _epoch_order(seed: int, stream: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, stream, epoch]).permutation(count)


def draw(source: Source, batch_size: int, seed: int, stream: int, step: int) -> Source:
    """The structures of a source that a step trains on: a function of (seed, stream, step) alone.

    Structures are visited in one random order per epoch, so that all are drawn equally often.
    """
    count = len(source.indices)
    size = min(batch_size, count)
    chosen: list[NDArray[np.int64]] = []
    at, need = step * size, size
    while need:
        epoch, offset = divmod(at, count)
        order = _epoch_order(seed, stream, epoch, count)[offset : offset + need]
        chosen.append(source.indices[order])
        at, need = at + len(order), need - len(order)
    return Source(np.concatenate(chosen), source.terms)
