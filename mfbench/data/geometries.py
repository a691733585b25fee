"""Which structures are one geometry: of one charge and multiplicity, and equal up to rotation, reflection, translation
and order of equal atoms.

Three sieves, each far cheaper than the next: two moments of the atoms' distances from their centre, which take one
look at each atom; the interatomic distances sorted within each pair of elements; and a search for the order of the
atoms in which the two matrices of distances agree. What the first gives is small enough to be kept for millions of
structures; the others look only at pairs that passed it.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbench.data.molecules import stated_in
from mfbench.data.structures import FloatArray, IntArray, Structures

TOLERANCE = 1e-5  # Angstrom, on every distance


class Slab(NamedTuple):
    """Some structures' atoms."""

    numbers: IntArray  # (A,)
    positions: FloatArray  # (A, 3)
    offsets: IntArray  # (S + 1,)


class Fingerprints(NamedTuple):
    """Equal, or close, for structures that are one geometry.

    No distance between two atoms changes by more than t: then ``rms`` changes by at most t, and the squared distance
    of an atom from the centre, which is a sum of squared distances between atoms, by at most 6 t times the largest of
    them; so does ``spread``, their root mean square.
    """

    composition: NDArray[np.uint64]  # (S,) hash of the elements
    rms: NDArray[np.float64]  # (S,) of the distances between atoms, Angstrom
    spread: NDArray[np.float64]  # (S,) root mean square of the squared distances from the centre, Angstrom^2
    radius: NDArray[np.float64]  # (S,) largest distance from the centre, Angstrom


Fetch = Callable[[IntArray], Slab]  # the atoms of structures given by ascending indices

# One odd constant an element: sums of them tell compositions apart but for one in 2^64.
_ELEMENT_HASH = np.random.default_rng(0x6D66).integers(1, 1 << 63, 256, dtype=np.uint64)


def geometry_ids(structures: Structures, tolerance: float = TOLERANCE) -> NDArray[np.int64]:
    """(S,) ids: the smallest index among the structures of one geometry."""
    slab = Slab(structures.numbers, structures.positions, structures.offsets)

    def fetch(indices: IntArray) -> Slab:
        atoms = structures.atoms_of(indices)
        offsets = np.concatenate([[0], np.cumsum(structures.n_atoms[indices])])
        return Slab(slab.numbers[atoms], slab.positions[atoms], offsets)

    return ids_of(in_states(fingerprints(slab), structures.molecules, structures.molecule), fetch, tolerance)


def fingerprints(slab: Slab) -> Fingerprints:
    """The first sieve."""
    starts, n_atoms = slab.offsets[:-1], np.diff(slab.offsets)
    x = slab.positions.astype(np.float64)
    x -= np.repeat(np.add.reduceat(x, starts) / n_atoms[:, None], n_atoms, 0)
    squares = np.einsum("ak,ak->a", x, x)
    return Fingerprints(
        composition_hash(slab.numbers, slab.offsets),
        np.sqrt(2 * np.add.reduceat(squares, starts) / np.maximum(n_atoms - 1, 1)),
        np.sqrt(np.add.reduceat(np.square(squares), starts) / n_atoms),
        np.sqrt(np.maximum.reduceat(squares, starts)),
    )


def in_states(prints: Fingerprints, molecules: Sequence[str], molecule: IntArray) -> Fingerprints:
    """The fingerprints, those of other charges and multiplicities never agreeing: one geometry is of one state.

    Args:
        molecules: names that ``molecule``, (S,), points to.
    """
    of_states = np.array([_state_hash(str(stated_in(name))) for name in molecules], np.uint64)
    return prints._replace(composition=prints.composition ^ of_states[molecule])


def _state_hash(state: str) -> int:
    return int.from_bytes(hashlib.blake2b(state.encode(), digest_size=8).digest()) if state else 0


def composition_hash(numbers: IntArray, offsets: IntArray) -> NDArray[np.uint64]:
    """(S,) equal for structures of the same elements in the same numbers, and hardly ever for others."""
    return np.add.reduceat(_ELEMENT_HASH[numbers], offsets[:-1])


def ids_of(prints: Fingerprints, fetch: Fetch, tolerance: float = TOLERANCE) -> NDArray[np.int64]:
    """Geometry ids from fingerprints; ``fetch`` is asked only for structures whose fingerprints agree."""
    ids = np.arange(len(prints.rms))
    order = np.lexsort((prints.spread, prints.rms, prints.composition))
    # Exact copies (a frozen trajectory) are settled first, each with the first of its kind: pairs of them all
    # would be as many as the square of their number.
    same = np.ones(max(0, len(order) - 1), bool)
    for values in prints:
        same &= values[order[1:]] == values[order[:-1]]
    copy = np.concatenate([[False], same])[: len(order)]
    leader = np.maximum.accumulate(np.where(copy, 0, np.arange(len(order))))
    pairs = np.stack([order[leader[copy]], order[copy]], 1)
    equal = congruent_pairs(pairs, fetch, tolerance)
    _unite_all(ids, pairs[equal])
    settled = np.zeros(len(order), bool)
    settled[pairs[equal, 1]] = True
    order = order[~settled[order]]
    for near in _candidates(prints, order, tolerance):
        _unite_all(ids, near[congruent_pairs(near, fetch, tolerance)])
    return _roots(ids)


def _candidates(prints: Fingerprints, order: IntArray, tolerance: float) -> Iterator[IntArray]:
    """Pairs (P, 2) whose fingerprints agree; see ``Fingerprints`` for why none within the tolerance is missed."""
    composition, rms, spread, radius = (values[order] for values in prints)
    slack = tolerance * (1 + 1e-6) + 1e-11  # for what float64 rounds
    active, shift = np.arange(max(0, len(order) - 1)), 1
    while len(active):
        other = active + shift
        near = (composition[other] == composition[active]) & (rms[other] - rms[active] <= slack)
        active, other = active[near], other[near]
        largest = np.maximum(radius[active], radius[other])
        close = np.abs(spread[other] - spread[active]) <= 6 * slack * largest
        yield np.stack([order[active[close]], order[other[close]]], 1)
        shift += 1
        active = active[active + shift < len(order)]


def congruent_pairs(pairs: IntArray, fetch: Fetch, tolerance: float = TOLERANCE) -> NDArray[np.bool_]:
    """(P,) which pairs (P, 2) of structures are one geometry."""
    equal = np.zeros(len(pairs), bool)
    for begin in range(0, len(pairs), 1 << 14):
        chunk = pairs[begin : begin + (1 << 14)]
        needed, place = np.unique(chunk, return_inverse=True)
        slab = fetch(needed)
        groups: dict[tuple[bytes, bytes], list[int]] = {}
        raw = [slab.numbers[b:e].astype(np.uint8).tobytes() for b, e in zip(slab.offsets, slab.offsets[1:])]
        for k, (a, b) in enumerate(place.reshape(chunk.shape)):
            groups.setdefault((raw[a], raw[b]), []).append(k)
        for (za, zb), members in groups.items():
            if sorted(za) != sorted(zb):
                continue
            rows = place.reshape(chunk.shape)[members]
            slots = np.arange(len(za))
            xa, xb = (slab.positions[slab.offsets[rows[:, side], None] + slots].astype(np.float64) for side in (0, 1))
            numbers = np.frombuffer(za, np.uint8), np.frombuffer(zb, np.uint8)
            equal[begin + np.asarray(members)] = _congruent(*numbers, xa, xb, tolerance)
    return equal


def _congruent(za: IntArray, zb: IntArray, xa: FloatArray, xb: FloatArray, tolerance: float) -> NDArray[np.bool_]:
    """(P,) for pairs of structures (P, N, 3) of one composition."""
    (_, da), (_, db) = sorted_distances(za, xa), sorted_distances(zb, xb)
    equal = (np.abs(da - db) <= tolerance).all(1)
    where = np.flatnonzero(equal)
    if len(where):
        ma, mb = _ordered_matrices(za, xa[where]), _ordered_matrices(zb, xb[where])
        # Atoms ordered by element and sum of distances agree at once, unless two sums are (nearly) equal.
        for k in np.flatnonzero((np.abs(ma - mb) > tolerance).any((1, 2))):
            p = where[k]
            equal[p] = atom_order(za, xa[p], zb, xb[p], tolerance) is not None
    return equal


def sorted_distances(numbers: IntArray, positions: FloatArray) -> tuple[bytes, FloatArray]:
    """What is equal for structures that differ by rotation, translation, reflection or order of equal atoms.

    Args:
        numbers: (N,) atomic numbers; positions: (C, N, 3).

    Returns:
        The sorted atomic numbers as bytes, and (C, N(N-1)/2) distances, sorted within each pair of elements.
    """
    order = np.argsort(numbers, kind="stable")
    sorted_numbers, ordered = np.asarray(numbers)[order], positions[:, order]
    first, second = np.triu_indices(len(order), 1)
    distances = np.linalg.norm(ordered[:, first] - ordered[:, second], axis=-1)
    pair = sorted_numbers[first].astype(np.int64) * 256 + sorted_numbers[second]
    for kind in np.unique(pair):
        columns = np.flatnonzero(pair == kind)
        distances[:, columns] = np.sort(distances[:, columns], axis=1)
    return sorted_numbers.astype(np.uint8).tobytes(), distances


def _matrix(positions: FloatArray) -> FloatArray:
    """Distances (..., N, N)."""
    return np.linalg.norm(positions[..., :, None, :] - positions[..., None, :, :], axis=-1)


def _ordered_matrices(numbers: IntArray, positions: FloatArray) -> FloatArray:
    matrix = _matrix(positions)
    order = np.lexsort((matrix.sum(-1), np.broadcast_to(numbers, positions.shape[:2])), axis=-1)
    rows = np.take_along_axis(matrix, order[:, :, None], 1)
    return np.take_along_axis(rows, order[:, None, :], 2)


def atom_order(
    za: IntArray, xa: FloatArray, zb: IntArray, xb: FloatArray, tolerance: float = TOLERANCE
) -> IntArray | None:
    """The order of b's atoms in which all its distances are those of a within the tolerance; None: there is none.

    Args:
        za, zb: (N,) atomic numbers; xa, xb: (N, 3) positions.
    """
    da, db = _matrix(xa), _matrix(xb)
    # An atom can only stand for one whose distances to each element, sorted, agree.
    elements = np.unique(za)
    profile_a, profile_b = (
        np.concatenate([np.sort(d[:, z == element], axis=1) for element in elements], axis=1)
        for d, z in ((da, za), (db, zb))
    )
    if profile_a.shape != profile_b.shape:
        return None
    close = (np.abs(profile_a[:, None] - profile_b[None]) <= tolerance).all(-1) & (za[:, None] == zb[None])
    places = np.argsort(close.sum(1), kind="stable")  # the least ambiguous atoms first
    chosen: list[int] = []

    def search() -> bool:
        if len(chosen) == len(places):
            return True
        a, done = places[len(chosen)], places[: len(chosen)]
        for b in np.flatnonzero(close[a]):
            if b not in chosen and (np.abs(da[a, done] - db[b, chosen]) <= tolerance).all():
                chosen.append(int(b))
                if search():
                    return True
                chosen.pop()
        return False

    if not search():
        return None
    order = np.empty(len(places), np.int64)
    order[places] = chosen
    return order


def _unite_all(ids: IntArray, pairs: Iterable[IntArray]) -> None:
    for a, b in pairs:
        low, high = sorted((_root(ids, int(a)), _root(ids, int(b))))
        ids[high] = low


def _root(ids: IntArray, s: int) -> int:
    while ids[s] != s:
        ids[s] = ids[ids[s]]
        s = int(ids[s])
    return s


def _roots(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    while not np.array_equal(parent := ids[ids], ids):
        ids = parent
    return ids
