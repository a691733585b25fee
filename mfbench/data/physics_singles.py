"""Single energies that are off a smooth fit of the others of their molecule, with forces or a lower level beside."""

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbench.data import smooth
from mfbench.data.findings import FEW, FEW_ODD, RARE, SHOWN, Finding
from mfbench.data.smooth import Judged
from mfbench.data.structures import Structures
from mfbench.data.survey import Survey, spread

Rows = NDArray[np.int64]

FAR_OFF = 0.3  # eV an atom, and three times what is usual: nobody lets that through

_JUDGED = 6000  # structures of a level that are judged, of each molecule at least as many as neighbours are looked for


class Singles(NamedTuple):
    """Structures whose energies are judged, of how many."""

    chosen: Rows
    of: int


class Off(NamedTuple):
    """What a fit said of some of them."""

    singles: Singles
    rows: Rows  # (N,) structures that were judged: those of molecules with enough
    judged: Judged

    @property
    def odd(self) -> Rows:
        """Structures that are off."""
        return self.rows[self.judged.off]


def singles(outline: Structures, rows: Rows, least: int) -> Singles:
    """Some structures of each of some molecules that have ``least`` of them, in windows of neighbours."""
    count = np.bincount(outline.molecule[rows], minlength=len(outline.molecules))
    rows = rows[count[outline.molecule[rows]] >= least]
    return Singles(spread(outline, rows, least, _JUDGED), len(rows))


def of_level(outline: Structures, k: int) -> tuple[Singles, Singles]:
    """A level's energies with forces, and those without."""
    energy, force = outline.energy_mask[:, k], outline.force_mask[:, k]
    return (
        singles(outline, np.flatnonzero(energy & force), smooth.LEAST_WITH_FORCES),
        singles(outline, np.flatnonzero(energy & ~force), FEW),
    )


def off(outline: Structures, of: Singles, least: int, judge: Callable[[Rows], Judged]) -> Off:
    """Judge the structures of each molecule by themselves."""
    size = outline.n_atoms[of.chosen]
    kind = outline.molecule[of.chosen] * (size.max(initial=0) + 1) + size
    order = np.argsort(kind, kind="stable")
    parts = np.split(of.chosen[order], np.flatnonzero(np.diff(kind[order])) + 1)
    parts = [part for part in parts if len(part) >= least and outline.n_atoms[part[0]] > 1]
    found = [judge(part) for part in parts]
    joined = (
        Judged(*(np.concatenate([np.zeros(0), *side]) for side in zip(*found))) if found else Judged(*np.zeros((2, 0)))
    )
    return Off(of, np.concatenate([of.chosen[:0], *parts]), joined)


def finding(outline: Structures, name: str, basis: str, found: list[Off]) -> Finding:
    """Whether single energies are off.

    Where all were looked at, none may be. Of large data some are, and some in a thousand may be off: published sets
    hold odd ones.

    Args:
        basis: what they were judged by, for people.
    """
    expected = f"energies within 1 kcal/mol an atom, or what is usual, of {basis}"
    rows, among = np.concatenate([one.rows for one in found]), sum(len(one.rows) for one in found)
    if not among:
        return Finding(name, None, expected, f"no molecule with {FEW} geometries")
    rest, limit = (np.concatenate([getattr(one.judged, side) for one in found]) for side in ("rest", "limit"))
    wrong, far = rest > limit, rest > np.maximum(3 * limit, FAR_OFF)
    allowed = RARE * among if any(len(one.singles.chosen) < one.singles.of for one in found) else 0
    count = int(np.count_nonzero(wrong))
    ok = bool(count <= allowed and not far.any())
    got = f"{count:,} of {among:,} structures off"
    if count:
        got += f", by up to {rest[wrong].max():.2g} eV an atom: energies of other rows, or other states?"
    worst = np.flatnonzero(wrong)[np.argsort(-(rest / limit)[wrong], kind="stable")][:SHOWN]
    return Finding(name, ok, expected, got, tuple(outline.where(int(rows[n])) for n in worst))


def by_themselves(outline: Structures, seen: Survey, k: int, of: tuple[Singles, Singles]) -> list[Off]:
    """A level's energies, by their forces where they have them."""
    among = len(of[0].chosen)
    return [
        off(outline, of[0], smooth.LEAST_WITH_FORCES, lambda rows: smooth.with_forces(seen.some(rows), k, among)),
        off(outline, of[1], FEW, lambda rows: smooth.alone(seen.some(rows), k)),
    ]


def few_odd(found: list[Off]) -> Rows:
    """Structures that are off, where they are so few that the others can be looked at without them."""
    odd, among = np.concatenate([one.odd for one in found]), sum(len(one.rows) for one in found)
    return odd if len(odd) <= FEW_ODD * among else odd[:0]


def outliers(outline: Structures, found: Mapping[int, list[Off]], wrong: Container[str]) -> list[Finding]:
    """Single energies that are off by themselves, of each level.

    Args:
        wrong: levels whose energies are not those of their forces: none is off the others there.
    """
    made = []
    for k, both in found.items():
        level = outline.levels[k]
        basis = "a smooth fit of the others" + (" and of forces" if len(both[0].rows) else "")
        one = finding(outline, f"outliers, {level}", basis, both)
        made.append(replace(one, ok=None, where=()) if level in wrong else one)
    return made
