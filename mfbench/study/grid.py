"""Several experiments in a row, with a report that grows as they go: the demo, and comparisons on one case."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd

from mfbench.data.cases import case
from mfbench.errors import LabelsMissing
from mfbench.learning.arms import ARMS as ALL_ARMS
from mfbench.learning.arms import arm as arm_of
from mfbench.learning.problem import Arm
from mfbench.learning.training import Progress
from mfbench.results import schema
from mfbench.results.folder import PROVENANCE_FILE, is_finished, read_run
from mfbench.results.schema import QUANTITIES, conform, empty_table, errors
from mfbench.study.experiment import Experiment, experiment
from mfbench.study.run import record_absent, run

CASES = ("ani1x-tz", "ani1ccx", "rmd17-cc")  # those of the study; others may ship beside them

ARMS = ("SF-E", "MF", "SF-EF")

Watch = Callable[[str, Experiment], AbstractContextManager[Progress]]


def plan(cases: tuple[str, ...] | None = None, seed: int = 0, steps: int | None = None) -> list[Experiment]:
    """The demo's experiments, each case's arms at the smaller size first, SF-low once a case."""
    optimisation = {} if steps is None else {"steps": steps}

    def each(name: str) -> Iterator[Experiment]:
        for n_high in case(name).variant("mini").sizes:
            for arm in ARMS:
                yield experiment(name, arm, n_high=n_high, seed=seed, optimisation=optimisation)
        yield experiment(name, "SF-low", seed=seed, optimisation=optimisation)

    return [one for name in cases or CASES for one in each(name)]


def comparison(
    name: str,
    arms: Sequence[str] | None,
    sizes: Sequence[int] | None,
    seeds: Sequence[int],
    **settings: Any,
) -> list[Experiment]:
    """Every arm at every size and paired seed on one case; arms that have no size, once a seed.

    Args:
        arms: None for all that ship.
        sizes: numbers of high-level structures; None for the case's.
        settings: further arguments of ``experiment``; of labels, each arm takes what it can.
    """
    declared = case(name)
    data = settings.get("data") or Experiment.model_fields["data"].default
    chosen = [arm_of(arm) for arm in arms or [one.name for one in ALL_ARMS]]
    labels = settings.pop("labels", {})

    def wanted(arm: Arm) -> dict[str, Any]:
        """The choice of labels, as far as the arm takes it."""
        return {key: value for key, value in labels.items() if key != "high_forces" or arm.takes_high_forces}

    return [
        experiment(name, arm.name, n_high=n_high, seed=seed, labels=wanted(arm), **settings)
        for seed in seeds
        for arm in chosen
        for n_high in (sizes or declared.variant(data).sizes if arm.uses_high else (None,))
    ]


def demo(
    experiments: list[Experiment],
    runs: Path,
    publish: Callable[[pd.DataFrame, list[Path]], None],
    device: str,
    watch: Watch,
    say: Callable[[str], None],
    system: str = "kcal/mol",
    data_folder: Path | None = None,
) -> pd.DataFrame:
    """Run what is not finished yet, in order, and rewrite the report after each experiment that was run.

    Args:
        watch: shows one experiment's progress: called with its place ("[3/21]") and settings.
        say: prints a line.
        publish: writes the report: given the results table and the files that say where it comes from.
        system: unit system of the lines.
        data_folder: where raw data files are, for data that do not ship.

    Returns:
        The results table of these experiments.
    """
    began = time.monotonic()
    table, origins = empty_table(), []
    for number, settings in enumerate(experiments, 1):
        place = f"[{number}/{len(experiments)}]"
        finished_before = is_finished(runs / settings.name)
        try:
            with watch(place, settings) as progress:
                folder = run(settings, runs, device, data_folder, progress)
        except LabelsMissing as error:
            folder = record_absent(settings, runs, str(error), data_folder)
        rows = read_run(folder)
        table = conform(pd.concat([table, rows]) if len(table) else rows)
        say(f"{place} {headline(rows, system)}")
        origins += [file for file in [folder / PROVENANCE_FILE] if file.is_file()]
        if not finished_before or number == len(experiments):  # a page takes a second
            publish(table, origins)
    say(f"{len(experiments)} experiments in {(time.monotonic() - began) / 60:.1f} min")
    return table


def headline(rows: pd.DataFrame, system: str = "kcal/mol") -> str:
    """One run in a line: its errors at the high level, on the test part."""
    first = rows.iloc[0]
    name = f"{first['case']:9s} {first['arm']:6s} n_high={first['n_high']:<4d}"
    chosen = (rows["role"] == "high") & (rows["part"] == "test") & (rows["metric"] == "mae")
    shown = schema.shown(errors(rows[chosen]), system)
    values = shown.set_index("quantity")
    if not shown["n"].any():
        return f"{name} n = 0: {first['remark']}"
    texts = [
        f"{QUANTITIES[quantity].label.lower()} {row['value']:.3g} {row['unit']}"
        for quantity in ("energy", "energy_relative", "force")
        if (row := values.loc[quantity])["n"]
    ]
    return f"{name} MAE: {', '.join(texts)}"
