"""Commands that train: ``run``, ``demo`` and ``compare``."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mfbench.cli.options import (
    ARMS,
    add_choice,
    add_command,
    add_device,
    add_labels,
    add_pulling,
    add_report_file,
    add_runs,
    add_unit,
    check_unit,
    choice,
    given,
)

if TYPE_CHECKING:
    from mfbench.cli.options import Commands
    from mfbench.study.experiment import Experiment
    from mfbench.study.run import Forecast


def add_run(commands: "Commands") -> None:
    run = add_command(commands, "run", "run one experiment and print its errors", _run)
    add_choice(run)
    run.add_argument("--backbone", help="the network: hipnn-ts (default), schnet, painn or so3net")
    run.add_argument("--preset", help="network and recipe: demo (small, default), standard or paper")
    run.add_argument("--steps", type=int, metavar="N", help="gradient steps")
    run.add_argument("--batch-size", type=int, metavar="N", help="structures per level and step")
    run.add_argument("--learning-rate", type=float, metavar="X")
    run.add_argument("--dtype", help="float32 (default) or float64")
    add_device(run)
    run.add_argument("--threads", type=int, metavar="N", help="CPU threads (the preset's: demo 1, paper all cores)")
    add_runs(run)
    add_unit(run)
    add_pulling(run)


def add_demo(commands: "Commands") -> None:
    demo = add_command(
        commands, "demo", "run three cases x arms x two sizes on the mini data and write a report", _demo
    )
    demo.add_argument("--cases", nargs="+", metavar="CASE", help="only these cases")
    demo.add_argument("--seed", type=int, default=0, help="as for run (0)")
    demo.add_argument(
        "--steps", type=int, metavar="N", help="gradient steps; few only try the machinery out (the preset's)"
    )
    add_device(demo)
    add_report_file(demo)
    add_runs(demo)
    add_unit(demo)


def add_compare(commands: "Commands") -> None:
    compare = add_command(
        commands, "compare", "run arms x sizes x seeds on one case, print one table, write a report", _compare
    )
    compare.add_argument("case", metavar="CASE", help="a test case, or a YAML file of one's own")
    compare.add_argument("--arms", nargs="+", metavar="ARM", help=f"(all: {ARMS})")
    compare.add_argument("--n-high", type=int, nargs="+", metavar="N", help="(the case's sizes)")
    compare.add_argument(
        "--seeds", type=int, nargs="+", default=[0], metavar="N", help="paired: the same for all arms (0)"
    )
    compare.add_argument("--data", help="which of the case's sets of data (mini, or the only one)")
    compare.add_argument("--data-folder", type=Path, metavar="FOLDER", help="where raw data files are")
    compare.add_argument("--backbone", help="as for run")
    compare.add_argument("--preset", help="as for run")
    compare.add_argument("--steps", type=int, metavar="N", help="gradient steps of every arm")
    add_device(compare)
    add_report_file(compare)
    add_labels(compare)
    add_runs(compare)
    add_unit(compare)


def _run(options: argparse.Namespace) -> None:
    from mfbench.learning.threads import device_of
    from mfbench.results.folder import UNSEALED, is_finished, is_sealed, read_run
    from mfbench.show.text import run_text
    from mfbench.study.experiment import experiment
    from mfbench.study.load import known_of
    from mfbench.study.outside import undetermined_text
    from mfbench.study.progress import bar
    from mfbench.study.run import run

    check_unit(options.unit)
    settings = experiment(
        options.case,
        options.arm,
        data=options.data,
        backbone_name=options.backbone,
        preset_name=options.preset,
        n_high=options.n_high,
        optimisation=given(options, "steps", "batch_size", "learning_rate"),
        **choice(options),
        **given(options, "dtype", "threads"),
    )
    device = device_of(options.device)
    finished = is_finished(options.runs / settings.name)
    if settings.declared.choice(settings.data).published and not finished:
        _make_ready(settings, options, device)
    with bar("", settings) as progress:
        folder = run(settings, options.runs, device, options.data_folder, progress)
    print(run_text(read_run(folder), options.unit))
    for line in undetermined_text(known) if (known := known_of(folder)) else ():
        print(f"Not determined: {line}")
    print(f"Run folder: {folder}" + ("" if is_sealed(folder) else f" ({UNSEALED})"))


def _make_ready(settings: "Experiment", options: argparse.Namespace, device: str) -> None:
    """Pull and convert the data of a run, and tell what they and the training need."""
    from mfbench.cli.data import ensure
    from mfbench.data.catalogue import footprint
    from mfbench.show.datasets import footprint_text
    from mfbench.study.prepare import request
    from mfbench.study.run import forecast

    needed = request(settings, options.data_folder)
    ensure(needed, options.yes, options.offline)
    if found := footprint(needed):
        print(f"Data: {footprint_text(found)}")
    print(f"Training: {_forecast_text(forecast(settings, device, options.data_folder))}")


def _forecast_text(found: "Forecast") -> str:
    """What a run is going to take, in a line."""
    seconds = found.seconds
    minutes = f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
    return (
        f"{found.n_low:,} low- and {found.n_high:,} high-level structures, judged on {found.n_judged:,}; "
        f"{found.steps:,} steps, about {f'{seconds:.0f} s' if seconds < 90 else minutes} here"
    )


def _demo(options: argparse.Namespace) -> None:
    from mfbench.study.grid import plan

    check_unit(options.unit)
    _run_all(plan(tuple(options.cases) if options.cases else None, options.seed, options.steps), options)


def _compare(options: argparse.Namespace) -> None:
    from mfbench.study.grid import comparison

    check_unit(options.unit)
    experiments = comparison(
        options.case,
        options.arms,
        options.n_high,
        options.seeds,
        data=options.data,
        backbone_name=options.backbone,
        preset_name=options.preset,
        optimisation=given(options, "steps"),
        **choice(options),
    )
    _run_all(experiments, options)


def _run_all(experiments: "list[Experiment]", options: argparse.Namespace) -> None:
    """Run what is not finished, a line for each; print the table, and write its report anew after each."""
    import pandas as pd
    from tqdm import tqdm

    from mfbench.learning.threads import device_of
    from mfbench.results.folder import PROVENANCE_FILE
    from mfbench.results.schema import conform
    from mfbench.show.page import publish
    from mfbench.show.text import headline, text_table
    from mfbench.study.grid import Outcome, run_all
    from mfbench.study.progress import bar

    device, report = device_of(options.device), options.out.resolve().as_uri()
    print(f"{len(experiments)} experiments on {device}; report: {report}")
    began = time.monotonic()
    done: list[Outcome] = []

    def told(outcome: Outcome) -> None:
        place = f"[{outcome.number}/{outcome.total}]"
        if outcome.error is not None:
            tqdm.write(f"{place} {outcome.settings.name} failed: {outcome.error}")
        else:
            done.append(outcome)
            tqdm.write(f"{place} {headline(outcome.rows, options.unit)}")
        if done and (outcome.ran or outcome.number == outcome.total):  # a page takes a second
            origins = [file for one in done if (file := one.folder / PROVENANCE_FILE).is_file()]
            publish(conform(pd.concat([one.rows for one in done])), options.out, origins, options.unit)

    table = run_all(experiments, options.runs, device=device, progress=bar, told=told, **given(options, "data_folder"))
    print(f"{len(experiments)} experiments in {(time.monotonic() - began) / 60:.1f} min")
    print(text_table(table, options.unit))
    print(f"Report: {report}")
