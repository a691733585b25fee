"""Run folders: the names of their files, and how they are written and read.

A *run folder* holds one experiment:

    settings.json      the experiment, resolved and complete
    provenance.json    versions, commit, device, data hashes, seeds, time
    history.csv        one row per validation
    predictions.h5     reference and predicted labels of the test structures
    weights.safetensors
    metrics.parquet    the rows of the results table; written last, by rename: it exists = the run finished
    extra/             what later checks add; more rows of the results table in some of its Parquet files
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow.parquet

from mfbench.errors import UserError
from mfbench.files import replacing
from mfbench.results.schema import conform, empty_table

PREDICTIONS_FILE = "predictions.h5"

WEIGHTS_FILE, SETTINGS_FILE = "weights.safetensors", "settings.json"

FORMAT_VERSION = 1

METRICS_FILE = "metrics.parquet"

PROVENANCE_FILE = "provenance.json"

EXTRA = "extra"  # folder, in a finished run folder, of what later checks add

STAGES = "stages"  # folder, among the run folders, of trainings that several experiments start from


def is_finished(run: Path) -> bool:
    """Whether the run folder holds a finished run."""
    return (run / METRICS_FILE).is_file()


def write_metrics(run: Path, metrics: pd.DataFrame) -> None:
    """Finish a run: its metrics appear whole, by rename, after all else in the folder."""
    with replacing(run / METRICS_FILE) as temporary:
        conform(metrics).to_parquet(temporary, index=False)


def load_runs(folders: Iterable[str | Path] | str | Path) -> pd.DataFrame:
    """The results table of all finished runs in a folder (or folders) of run folders.

    Returns:
        The rows of every ``metrics.parquet``, each followed by those that later checks added, ordered by run; empty
        where there is none. ``errors`` and ``physical`` part the two.
    """
    roots = [Path(one) for one in ([folders] if isinstance(folders, str | Path) else folders)]
    files = sorted(file for root in roots for file in root.glob(f"*/{METRICS_FILE}"))
    frames = [read_run(file.parent) for file in files]
    return conform(pd.concat(frames)) if frames else empty_table()


def read_run(run: Path) -> pd.DataFrame:
    """The rows of one finished run, followed by those that later checks added."""
    return conform(pd.concat([read_metrics(file) for file in (run / METRICS_FILE, *extra_tables(run))]))


def extra_tables(run: Path) -> list[Path]:
    """The files that later checks of a run added and that hold rows of the results table."""
    found = []
    for file in sorted((run / EXTRA).glob("*.parquet")):
        try:
            names = pyarrow.parquet.read_schema(file).names
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {file}: {error}") from error
        if {"quantity", "metric", "value"} <= set(names):
            found.append(file)
    return found


def read_metrics(file: Path) -> pd.DataFrame:
    """One file of results rows (Parquet), checked against the schema."""
    try:
        return conform(pd.read_parquet(file))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not a results table of mfbench: {error}") from error
