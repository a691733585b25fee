"""What there is, as tables to choose from: cases, levels of theory, datasets; and loading one under a bar."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mfbench import bars
from mfbench.costs import label_cost
from mfbench.data import datasets as whole
from mfbench.data.cases import case, case_names
from mfbench.data.catalogue import state
from mfbench.data.manifest import Dataset, Manifest, manifest, manifest_names
from mfbench.data.structures import Structures
from mfbench.data.subset import Subset
from mfbench.theory import LEVELS


def cases() -> pd.DataFrame:
    """The test cases, a row for each of their data; ``case(name)`` has all that is declared of one."""
    rows = [
        {
            "case": found.name,
            "data": data,
            "low": found.low,
            "high": found.high_of(data),
            "overlap": rules.overlap,
            "sizes": rules.sizes,
            "ships": not rules.published,
            "title": found.title,
        }
        for found in map(case, case_names())
        for data, rules in found.data.items()
    ]
    return pd.DataFrame(rows)


def levels() -> pd.DataFrame:
    """The levels of theory by name, low to high; one of one's own is NAME@RANK.

    The costs of an energy, and of one with its forces, are means over the molecules of the mini data; NaN where they
    were not measured.
    """
    rows = [
        {
            "level": one.name,
            "label": one.label,
            "rank": one.rank,
            "energy, core-seconds": label_cost(one.name, forces=False),
            "with forces, core-seconds": label_cost(one.name, forces=True),
            "doi": one.doi,
        }
        for one in sorted(LEVELS.values())
    ]
    costs = ["energy, core-seconds", "with forces, core-seconds"]
    return pd.DataFrame(rows).astype(dict.fromkeys(costs, float)).set_index("level")


def datasets() -> pd.DataFrame:
    """The datasets by name: what they hold, and where they stand on this machine."""
    rows = [
        {
            "dataset": one.name,
            "state": state(one).where,
            "structures": one.n_structures,
            "levels": one.levels,
            "bytes": one.bytes,
            "license": one.license,
            "title": one.title,
        }
        for one in map(manifest, manifest_names())
    ]
    return pd.DataFrame(rows).astype({"structures": "Int64"}).set_index("dataset")


def load_data(
    name: str | Manifest | Dataset,
    levels: Sequence[str] | None = None,
    subset: Subset | None = None,
    *,
    folder: str | Path | None = None,
    progress: bool | whole.Progress = True,
) -> Structures:
    """A dataset's structures, in eV and Angstrom; converted first where it is large and was not yet.

    Args:
        name: of a dataset (see ``datasets``); or the thing itself.
        levels: names of the levels whose labels are wanted; all by default.
        subset: which structures; all by default.
        folder: where its raw files are, in place of the cache.
        progress: whether to show a bar, in a terminal or a notebook; or what is told how far it is.

    Raises:
        DataMissing: its files are not here: `mfbench data pull` gets them.
        DataCorrupt: a file is not what the manifest declares.
        UserError: no such dataset, level or subset.
    """
    if progress is True and bars.visible():
        with bars.counts(name if isinstance(name, str) else name.name) as show:
            return whole.load(name, folder, levels, subset, show)
    return whole.load(name, folder, levels, subset, whole.silent if isinstance(progress, bool) else progress)
