"""Made-up predictions: two molecules shaken about, with errors of known sizes, as few or as many as are wanted.

``predicted(structures_of(1_000_000))`` holds a million force components, made in a second or two.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
from tables import LEVELS, results_table

from mfbench.results.folder import PREDICTIONS_FILE, SCANS_FILE, RunFolder, as_parquet
from mfbench.results.predictions import Predictions, sample_rows, save_arrays

MOLECULES = ("CH2O", "H2O")
NUMBERS = (np.array([6, 8, 1, 1], np.uint8), np.array([8, 1, 1], np.uint8))
POSITIONS = (
    np.array([[0, 0, -0.53], [0, 0, 0.68], [0, 0.94, -1.11], [0, -0.94, -1.11]]),
    np.array([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]]),
)
ERRORS = {"SF-E": 1.0, "MF": 0.2, "SF-EF": 0.1, "SF-low": 0.4}  # eV/Angstrom, of a force component


def structures_of(values: int) -> int:
    """How many structures have so many force components, or a few more."""
    return 2 * -(-values // 21)


def predicted(count: int = 60, arm: str = "MF", case: str = "ani1x-tz", seed: int = 0) -> Predictions:
    """Formaldehyde and water by turns, at 300 and 600 K; the reference is the same for all arms.

    The last structure of each molecule is the worst by far, of every arm; every fifth has no high-level forces.
    """
    rng, own = np.random.default_rng(seed), np.random.default_rng([seed, len(arm)])
    molecule = np.arange(count, dtype=np.int32) % 2
    numbers = np.tile(np.concatenate(NUMBERS), count // 2)
    offsets = np.concatenate([[0], np.cumsum([4, 3] * (count // 2))])
    force = rng.normal(0, 2, (len(numbers), 2, 3)).astype(np.float32)
    size = np.full(len(numbers), ERRORS[arm], np.float32)
    size[offsets[-3] :] *= 10
    energy = -1000.0 * (1 + molecule[:, None]) + rng.normal(0, 0.3, (count, 2))
    labelled = np.arange(count) % 5 > 0
    labelled[-2:] = True
    shown = sample_rows(count, seed)
    at = np.tile(np.concatenate(POSITIONS), (count // 2, 1)) + rng.normal(0, 0.05, (len(numbers), 3))
    kept = np.isin(np.repeat(np.arange(count), np.diff(offsets)), shown)
    levels = LEVELS[case]
    return Predictions(
        levels=levels,
        heads=(levels[1],) * 2 if arm in ("SF-E", "SF-EF") else levels,
        molecules=MOLECULES,
        structure=10 + np.arange(count),
        geometry=np.arange(count),
        molecule=molecule,
        temperature=np.where(np.arange(count) < count // 2, 300, 600).astype(np.float32),
        unseen=np.zeros(count, bool),
        offsets=offsets,
        numbers=numbers,
        energy_reference=energy,
        energy_predicted=energy + own.normal(0, 0.1 * ERRORS[arm], energy.shape),
        force_reference=force,
        force_predicted=force + size[:, None, None] * own.normal(0, 1, force.shape).astype(np.float32),
        energy_mask=np.ones((count, 2), bool),
        force_mask=np.stack([np.ones(count, bool), labelled], 1),
        shown=shown,
        positions=at[kept],
        distance=np.linspace(0.01, 0.5, count).astype(np.float32),
    )


def write_predicted(
    folder: Path, count: int = 60, case: str = "ani1x-tz", scanned: bool = True, without: Collection[str] = ()
) -> Path:
    """Run folders of all arms at two sizes, with what they predicted (but ``without``) and, of the larger, a scan."""
    for run, rows in results_table(cases=[case]).groupby("run"):
        one = RunFolder(folder / str(run))
        one.path.mkdir(parents=True)
        arm, size = rows["arm"].iloc[0], int(rows["n_high"].iloc[0])
        if arm not in without:
            save_arrays(one.file(PREDICTIONS_FILE), predicted(count, arm, case))
        one.finish(rows)
        if scanned and size == 150:
            one.write_extra(SCANS_FILE, as_parquet(scan(ERRORS[arm], LEVELS[case][1])))
    return folder


def scan(depth: float, level: str) -> pd.DataFrame:
    """A stretch with one well, as ``physics.scans`` writes it."""
    length = np.linspace(0.8, 1.4, 31)
    return pd.DataFrame(
        {"molecule": "H2O", "kind": "bond", "atoms": "O0-H1", "coordinate": length}
        | {"energy": 5 * depth * (length - 1) ** 2 - 1000, "force": -10 * depth * (length - 1), "level": level}
    )
