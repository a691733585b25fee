"""What checks of a dataset found: findings, and bounds that some of many structures may be beyond."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mfbench.data.structures import BoolArray, Structures
from mfbench.errors import DataCorrupt

SHOWN = 5  # structures that a finding names

RARE = 1e-3  # share of structures that may be beyond a bound, but none far beyond


@dataclass(frozen=True)
class Finding:
    """What a check found. ``ok`` is None where it could not be made, and ``found`` says why."""

    check: str
    ok: bool | None
    expected: str
    found: str
    where: tuple[str, ...] = ()  # the first structures that fail

    @property
    def failed(self) -> bool:
        """Whether the check was made and failed."""
        return self.ok is not None and not self.ok


def require(findings: Iterable[Finding]) -> None:
    """Raise DataCorrupt for the first check that failed, saying how many more did."""
    failed = [one for one in findings if one.failed]
    if failed:
        first = failed[0]
        where = f" ({'; '.join(first.where)})" if first.where else ""
        more = f"; {len(failed) - 1} more checks failed" if len(failed) > 1 else ""
        raise DataCorrupt(f"{first.check}: expected {first.expected}, got {first.found}{where}{more}")


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
        wrong, far: (S,) which structures are beyond the bound, and far beyond it.
        among: how many were looked at.
        cause: what may be the reason.
    """
    count = np.count_nonzero(wrong)
    ok = bool(count <= RARE * among and not far.any())
    note = f", {count:,} structures beyond" if count else ""
    return Finding(check, ok, expected, got + note + ("" if ok else cause), named(outline, far if far.any() else wrong))


def named(outline: Structures, wrong: BoolArray) -> tuple[str, ...]:
    return tuple(outline.where(int(s)) for s in np.flatnonzero(wrong)[:SHOWN])
