"""What checks of a dataset found: findings, accepted or not, and bounds that a few structures may be beyond."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from mfbench.data.structures import BoolArray, Structures
from mfbench.errors import DataCorrupt

SHOWN = 5  # structures that a finding names

FEW = 20  # geometries, below which a fit to the composition or a correlation says nothing

FAR = 10  # times a bound: far beyond it

FEW_ODD = 0.05  # share of structures that may be off, for the others to be looked at without them

_NAMED = 4  # further checks that an error names

RARE = 1e-3  # share of structures that may be beyond a bound, but none far beyond


# Checks that a manifest may accept to fail, by name: what they ask is usual, and not so of all science. The level, or
# pair of levels, that a finding's name goes on with may be named, too.
ACCEPTABLE = (
    "bond lengths",
    "overlapping atoms",
    "fragments far apart",
    "energies of distorted bonds",
    "energies",
    "free atoms",
    "slope",
    "forces",
    "largest component of a force",
    "net force of a molecule",
    "net torque of a molecule",
    "energies against forces",
    "outliers",
    "gap",
    "energies together",
    "labels of geometries that recur in a file",
)


@dataclass(frozen=True)
class Finding:
    """What a check found. ``ok`` is None where it could not be made, and ``found`` says why."""

    check: str
    ok: bool | None
    expected: str
    found: str
    where: tuple[str, ...] = ()  # the first structures that fail
    accepted: str = ""  # the manifest's reason to accept that it fails

    @property
    def name(self) -> str:
        """The check's own, without a level."""
        return self.check.partition(", ")[0]

    @property
    def failed(self) -> bool:
        """Whether the check was made and failed, and nobody accepted it."""
        return self.ok is not None and not self.ok and not self.accepted

    @property
    def remedy(self) -> str:
        """The lines of a manifest that accept a failure; empty where none can."""
        if self.name not in ACCEPTABLE:
            return ""
        said = f"accept: [{self.name}] and reason: WHY"
        return f"if the numbers are meant so, in the units that are declared, the manifest can say: {said}"


def accepting(findings: Iterable[Finding], names: Iterable[str], reason: str) -> list[Finding]:
    """The findings; those that failed and are accepted, by the check's own name or with the level, say why."""
    accepted = set(names)
    return [
        replace(one, accepted=reason) if one.failed and {one.name, one.check} & accepted else one for one in findings
    ]


def sound(findings: Iterable[Finding]) -> set[str]:
    """The levels of the findings that are well."""
    return {one.check.partition(", ")[2] for one in findings if one.ok}


def require(findings: Iterable[Finding]) -> None:
    """Raise DataCorrupt for the first check that failed, naming the first ones of those that did, too."""
    failed = [one for one in findings if one.failed]
    if failed:
        first = failed[0]
        where = f" ({'; '.join(first.where)})" if first.where else ""
        others = [one.check for one in failed[1:]]
        listed = "; ".join([*others[:_NAMED], *(["..."] if len(others) > _NAMED else [])])
        also = f"{len(others)} more {'check' if len(others) == 1 else 'checks'} failed"
        more = f"; {also} ({listed})" if others else ""
        remedy = f"; {first.remedy}" if first.remedy else ""
        raise DataCorrupt(f"{first.check}: expected {first.expected}, got {first.found}{where}{more}{remedy}")


def bounded(
    outline: Structures,
    check: str,
    expected: str,
    got: str,
    wrong: BoolArray,
    far: BoolArray,
    among: int,
    cause: str = "",
) -> Finding:
    """A bound on every structure: some in a thousand may be beyond it (sets of odd structures are made on purpose),
    none far beyond.

    Args:
        outline: what the structures are called.
        check, expected, got: see ``Finding``; how many are beyond is added.
        wrong, far: (S,) which structures are beyond the bound, and far beyond it.
        among: how many were looked at.
        cause: what may be the reason.
    """
    count = np.count_nonzero(wrong)
    ok = bool(count <= RARE * among and not far.any())
    note = f", {count:,} structures beyond" if count else ""
    where = places(outline, far if far.any() else wrong)
    return Finding(check, ok, expected, got + note + ("" if ok else cause), where)


def places(outline: Structures, wrong: BoolArray) -> tuple[str, ...]:
    """Where the first of some structures are, for people; ``wrong``: (S,)."""
    return tuple(outline.where(int(s)) for s in np.flatnonzero(wrong)[:SHOWN])
