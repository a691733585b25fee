"""Run folders for tests: seals that fit changed files, and runs as they were before there were seals."""

from pathlib import Path

import pandas as pd

from mfbench.files import sha256
from mfbench.results.folder import METRICS_FILE, SEAL_FILE, TRAINED, RunFolder
from mfbench.results.seal import Seal, write_seal


def reseal(folder: Path) -> None:
    """Seal the files as they are now: for what is wrong in files that are whole."""
    there = [name for name in (*TRAINED, METRICS_FILE) if (folder / name).is_file()]
    write_seal(folder / SEAL_FILE, Seal(folder.name, {name: sha256(folder / name) for name in there}, {}))


def unseal(folder: Path) -> None:
    """Make of a finished run one from before there were seals."""
    table = RunFolder(folder).metrics()
    (folder / SEAL_FILE).unlink()
    table.to_parquet(folder / METRICS_FILE, index=False)


def as_run(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows as those of the run of that name."""
    return table.assign(run=name)
