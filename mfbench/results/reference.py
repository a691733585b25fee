"""This project's own results, which ship with it, packed: a folder each.

    metrics.parquet    the results table
    provenance.json    on what device, when and by which commit they were made
    history.parquet    the histories of all runs (``RunFolder.history``), with a column ``run``
    settings.json      by run, its experiment
    predictions/       of some runs, RUN.h5

The last three may be absent.
"""

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mfbench import resources
from mfbench.errors import UserError, unknown
from mfbench.files import as_json, make_folder, read_bytes, write_bytes, write_json
from mfbench.results.folder import (
    METRICS_FILE,
    PREDICTIONS_FILE,
    PROVENANCE_FILE,
    SETTINGS_FILE,
    RunFolder,
    as_parquet,
    parse_parquet,
    read_metrics,
)
from mfbench.results.schema import conform

# This project's own results, which ship: benchmarks/reference.py makes them. Where there are no runs, pages show the
# first that is there.
REFERENCES = {
    "cases": "all arms on the three cases' small data",
    "demo": "three cases, three arms, one seed",
    "published": "all arms on published data of small molecules",
    "arms": "all arms on ani1x-tz, five paired seeds",
}

HISTORIES_FILE, PREDICTIONS = "history.parquet", "predictions"


def reference(name: str = "demo") -> Path:
    """The folder of one of ``REFERENCES``: its results table and where it came from.

    Raises:
        UserError: there is none of that name, or it does not ship with this copy of mfbench.
    """
    if name not in REFERENCES:
        raise unknown("reference result", name, REFERENCES)
    folder = resources.references() / name
    if not (folder / METRICS_FILE).is_file():
        raise UserError(
            f"no reference result {name!r} in this copy of mfbench: `mfbench demo` makes results of your own"
        )
    return folder


def references() -> list[str]:
    """The names of those that ship with this copy of mfbench."""
    return [name for name in REFERENCES if (resources.references() / name / METRICS_FILE).is_file()]


def reference_table(name: str = "demo") -> pd.DataFrame:
    """One of this project's own results, which ship with the package; see ``reference``."""
    return read_metrics(reference(name) / METRICS_FILE)


def histories(folder: Path) -> dict[str, pd.DataFrame]:
    """By run, the histories that were packed, as ``RunFolder.history`` gives them; none where none were."""
    path = folder / HISTORIES_FILE
    if not path.is_file():
        return {}
    whole = parse_parquet(read_bytes(path), path).to_pandas()
    if "run" not in whole:
        raise UserError(f"{path}: expected histories of runs, found no column 'run'")
    # Runs differ in the levels that they were validated at.
    return {
        str(run): rows.drop(columns="run").dropna(axis=1, how="all").astype("float64").reset_index(drop=True)
        for run, rows in whole.groupby("run", sort=False)
    }


def pack(
    runs: Collection[RunFolder], out: Path, provenance: Mapping[str, Any], predicted: Collection[str] = ()
) -> None:
    """Pack finished runs as results that ship.

    Args:
        runs: all with histories and settings.
        provenance: of all of them; see ``one_origin``.
        predicted: names of those whose predictions are packed, too.

    Raises:
        UserError: a run cannot be read.
    """
    kept = {
        one.name: one.read(PREDICTIONS_FILE)
        for one in runs
        if one.name in predicted and PREDICTIONS_FILE in one.listed()  # of what no labels allow, there are none
    }
    looks = [one.history().assign(run=one.name) for one in runs]
    history = pd.concat([one for one in looks if len(one)], ignore_index=True)
    numbers = {name: "float32" for name in history if name != "run"}
    table = conform(pd.concat([one.rows() for one in runs]))
    make_folder(out)
    write_json(out / PROVENANCE_FILE, provenance)
    write_bytes(out / SETTINGS_FILE, as_json({one.name: one.settings() for one in runs}))
    write_bytes(out / HISTORIES_FILE, as_parquet(history.astype(numbers)))
    shutil.rmtree(out / PREDICTIONS, ignore_errors=True)
    for name, content in kept.items():
        write_bytes(out / PREDICTIONS / f"{name}.h5", content)
    write_bytes(out / METRICS_FILE, as_parquet(table))


_ONE = ("commit", "device", "versions", "threads")

_KEPT = ("commit", "device", "platform", "threads", "cores", "versions", "finished")


def one_origin(runs: Collection[RunFolder]) -> dict[str, Any]:
    """Where runs came from that were made in one go, by one committed state of the code; raises UserError if not."""
    found = [said for one in runs if (said := one.provenance())]  # of what no labels allow, there is none
    for key in _ONE:
        if len(differing := {str(one[key]) for one in found}) != 1:
            raise UserError(
                f"expected runs made in one go, got {len(differing)} different ones by {key}: "
                f"{', '.join(sorted(differing))}; make them anew"
            )
    if not found[0]["commit"] or found[0]["commit"].endswith("+changes"):
        raise UserError(f"expected runs of a committed state of the code, got commit {found[0]['commit']!r}")
    last = max(found, key=lambda one: one["finished"])
    return {key: last[key] for key in _KEPT}
