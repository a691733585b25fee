"""Whether predictions are in the unit that they are said to be in: they are compared with the labels in every other."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mfbench import units
from mfbench.errors import UserError

# Total energies of the worst of models are within a few per cent; no two units are as close as that.
FAR, NEAR = 0.1, 0.02
ALIKE = 0.9  # cosine of predicted and reference forces, from which on their ratio says something

OTHERS = 0.1  # of the distance to the own level: nearer to another level's labels, energies are that one's

Floats = NDArray[np.float64]


def check_energies(
    level: str,
    given: Floats,
    labels: Floats,
    n_atoms: NDArray[np.int64],
    unit: str,
    per_atom: bool,
    keys: Sequence[str],
) -> None:
    """Raise UserError where energies are far from the labels in their unit, and fit them in another, or per atom.

    Args:
        given: (S,) as the code wrote them, of structures with a label; labels: (S,) eV.
        keys: what else the frames hold, for the message.
    """
    if not len(given) or not np.abs(labels).min() > 0:
        return

    def apart(of: str, by_atom: bool) -> float:
        energies = given * units.internal(of) * (n_atoms if by_atom else 1)
        return float(np.median(np.abs(energies - labels) / np.abs(labels)))

    if apart(unit, per_atom) <= FAR:
        return
    fits = {
        (of, by): apart(of, by) for of in units.ENERGY_UNITS for by in (False, True) if (of, by) != (unit, per_atom)
    }
    (of, by), best = min(fits.items(), key=lambda one: one[1])
    if best > NEAR:
        return
    options = [] if of == unit else [f"--unit {of}"]
    if by and not per_atom:
        options.append(f"--per-atom, or name the key of total energies with --energy-key (of {', '.join(keys)})")
    if per_atom and not by:
        options.append("no --per-atom")
    ratio = float(np.median(given * units.internal(unit) * (n_atoms if per_atom else 1) / labels))
    said = f"{unit}{' per atom' if per_atom else ''}"
    raise UserError(
        f"energies of {level}: expected those of the labels in {said}, got {ratio:.4g} times these; they fit as "
        f"{of}{' per atom' if by else ''}: give {' and '.join(options)}"
    )


def check_level(level: str, given: Floats, labels: Mapping[str, tuple[Floats, NDArray[np.bool_]]]) -> None:
    """Raise UserError where energies are those of another level.

    Args:
        given: (S,) eV, as predictions of ``level``.
        labels: by level, energies (S,) eV and which structures have them.
    """

    def apart(name: str) -> float:
        energies, there = labels[name]
        return float(np.median(np.abs(given - energies)[there])) if there.any() else np.inf

    own = apart(level)
    nearest = min(labels, key=apart)
    if nearest != level and np.isfinite(own) and apart(nearest) < OTHERS * own:
        raise UserError(
            f"energies of {level}: expected those of that level, got ones that are {own:.3g} eV off it and "
            f"{apart(nearest):.3g} off {nearest} (medians): are levels, files or keys exchanged?"
        )


def check_forces(level: str, given: Floats, labels: Floats, unit: str) -> None:
    """Raise UserError where forces go along the labels, but fit them in another unit, or with the other sign.

    Args:
        given: (N, 3) as the code wrote them, of atoms with labels; labels: (N, 3) eV/Angstrom.
    """
    square = float(np.vdot(labels, labels))
    if not square or not given.any():
        return
    along = float(np.vdot(given, labels))
    slope = along / square
    if abs(along) / float(np.sqrt(square * np.vdot(given, given))) < ALIKE:
        return
    said = f"{unit}/Angstrom"
    if 0.8 < slope * units.internal(said) < 1.25:
        return
    known = [f"{energy}/{length}" for energy in units.ENERGY_UNITS for length in units.LENGTH_UNITS]
    of = min(known, key=lambda one: abs(abs(slope) * units.internal(one) - 1))
    if abs(abs(slope) * units.internal(of) - 1) > FAR:
        return
    remedy = [] if of == said else [f"as {of}"]
    remedy += ["with the other sign, as gradients are"] if slope < 0 else []
    raise UserError(
        f"forces of {level}: expected {said}, got {slope * units.internal(said):.4g} times the labels; they fit "
        f"{' and '.join(remedy)}: write them as {said} and minus the gradient"
    )
