"""Seeded mutations of good files: each is refused by its cause, or imports to the same numbers.

None passes that moves an energy by over 1 kcal/mol an atom, or forces or distances by over a tenth. What no check could
know is counted, and printed by kind; so are single energies that are off by less, by size.
"""

import json
import re
from collections import Counter
from pathlib import Path

import mutations
import numpy as np
import pytest
from mutations import KINDS_OF_FILE, MUTATIONS, Frame, sound, write

from mfbench.data import cache, datasets
from mfbench.data.importing import import_files
from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.units import EV_PER_KCAL

Good = tuple[Structures, list[Frame]]

MOST_SHIFT = EV_PER_KCAL  # eV an atom
MOST_CHANGE = 0.1  # of forces and distances


@pytest.fixture(scope="module")
def good() -> Good:
    return mutations.good()


def outcome_of(kind: str, fmt: str, seed: int, good: Good, folder: Path) -> str:
    """What the import made of a mutation: "refused", "same", "small" (a change nobody could know), or what is wrong."""
    mutation, spoiled = MUTATIONS[kind], sound(fmt, good[1])
    mutation.change(spoiled, np.random.default_rng([seed, *map(ord, kind + fmt)]))
    path = write(spoiled, folder)
    described = folder / "spoiled.yaml"
    described.write_text(json.dumps(spoiled.manifest))
    try:
        import_files([path], described)
    except UserError as error:
        if mutation.outcome in ("same", "unknowable"):
            return f"refused, and should not be: {error}"
        right = re.search(mutation.words, str(error))
        return "refused" if right else f"refused for another reason: {error}"
    got = datasets.load("spoiled")
    if mutation.outcome == "either" and len(got.molecules) > len(good[0].molecules):
        return "kept apart"
    return compared(got, good[0], spoiled.kept or [*range(len(good[0]))])


def compared(got: Structures, meant: Structures, rows: list[int]) -> str:
    """Whether what was imported is what was meant: "same", "small", or what differs."""
    if len(got) != len(rows):
        return f"other structures: {len(got)} of {len(rows)}"
    meant, low = meant[np.array(rows)], 0
    both = got.energy_mask & meant.energy_mask
    shift = float((np.where(both, np.abs(got.energies - meant.energies), 0) / got.n_atoms[:, None]).max())
    labelled = np.repeat(got.force_mask[:, low], got.n_atoms)
    # Sizes of forces and distances: turned or mirrored structures are the same.
    here, there = (np.linalg.norm(s.forces[low].astype(float), axis=1)[labelled] for s in (got, meant))
    force = float(np.sqrt(np.mean(np.square(here - there)) / np.mean(np.square(there))))
    distance = max(float(np.abs(_distances(got, s) - _distances(meant, s)).max(initial=0)) for s in range(len(got)))
    if shift > MOST_SHIFT or force > MOST_CHANGE or distance > MOST_CHANGE:
        return (
            f"imported with energies {shift:.3g} eV an atom, forces {force:.1%}, distances {distance:.3g} Angstrom off"
        )
    return "same" if shift < 1e-7 and force < 1e-5 and distance < 1e-4 else "small"


def _distances(structures: Structures, s: int) -> np.ndarray:
    x = structures.positions[structures.offsets[s] : structures.offsets[s + 1]].astype(float)
    return np.linalg.norm(x[:, None] - x[None], axis=2)


def trials(count: int) -> list[tuple[str, str, int]]:
    """So many mutations: every kind in every format in turn, with a seed of its own."""
    each = [(kind, fmt) for kind, one in MUTATIONS.items() for fmt in one.formats]
    return [(*each[k % len(each)], k) for k in range(count)]


def table(found: list[tuple[str, str]]) -> str:
    """How often each kind had each outcome."""
    counts = Counter(found)
    lines = []
    for kind, one in MUTATIONS.items():
        said = ", ".join(f"{n} {what}" for (k, what), n in sorted(counts.items()) if k == kind)
        note = {"unknowable": " (no check could know)", "perhaps": " (by so little, not every one can be known)"}.get(
            one.outcome, ""
        )
        lines.append(f"{kind:26s} {said or 'not tried'}{note}")
    return "\n".join(lines)


ALLOWED = {
    "refused": ("refused",),
    "same": ("same",),
    "either": ("refused", "kept apart"),
    "perhaps": ("refused", "small"),
    "unknowable": ("same", "small"),
}


def mutate(count: int, good: Good, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Try so many mutations; print what became of them, and fail where one passed that should not."""
    found, wrong = [], []
    for kind, fmt, seed in trials(count):
        place = folder / str(seed)
        place.mkdir()
        monkeypatch.setenv(cache.VARIABLE, str(place / "cache"))
        outcome = outcome_of(kind, fmt, seed, good, place)
        allowed = outcome in ALLOWED[MUTATIONS[kind].outcome]
        found.append((kind, outcome if allowed else "WRONG"))
        wrong += [] if allowed else [f"{kind}, {fmt}, seed {seed}: {outcome}"]
    print(table(found))
    assert not wrong, "\n".join([f"{len(wrong)} of {count}:", *wrong])


def test_good_files_import(good: Good, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for fmt in KINDS_OF_FILE:
        place = tmp_path / fmt
        place.mkdir()
        monkeypatch.setenv(cache.VARIABLE, str(place / "cache"))
        (place / "spoiled.yaml").write_text(json.dumps(mutations.declared(fmt)))
        found = import_files([write(sound(fmt, good[1]), place)], place / "spoiled.yaml")
        assert not any(one.failed for one in found.findings)
        assert compared(datasets.load("spoiled"), good[0], [*range(len(good[0]))]) == "same"


def test_a_sample_of_mutations(good: Good, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(111, good, tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_thousand_mutations(good: Good, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(1110, good, tmp_path, monkeypatch)
