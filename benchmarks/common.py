"""What the scripts here share: options, the provenance of what they write, and runs of many experiments."""

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import mfbench
from mfbench.study import provenance
from mfbench.study.experiment import Experiment
from mfbench.study.grid import Outcome

CASES = ("ani1x-tz", "ani1ccx", "rmd17-cc")


def parser(
    text: str | None,
    *,
    cases: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    data: bool = False,
    steps: bool = False,
    workers: bool = False,
    runs: str | None = None,
    stages: str | None = None,
) -> argparse.ArgumentParser:
    """A parser with ``--out`` and those of the shared options that are asked for, with their defaults.

    Args:
        text: the script's docstring, whose first line is its description.
        sizes: empty where each case has a default of its own.
        data: ``--data-folder``.
    """
    made = argparse.ArgumentParser(description=(text or "").splitlines()[0])
    if cases is not None:
        made.add_argument("--cases", nargs="+", default=list(cases))
    if sizes is not None:
        text = "numbers of high-level structures" + ("" if sizes else " (the smaller size of each case)")
        made.add_argument("--sizes", type=int, nargs="+", default=list(sizes) or None, help=text)
    if seeds is not None:
        made.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    if data:
        made.add_argument("--data-folder", type=Path, help="of the files that do not ship")
    if steps:
        made.add_argument("--steps", type=int, help="gradient steps; few only try the script out (the preset's)")
    if workers:
        made.add_argument("--workers", type=int, default=1, help="processes")
    if runs is not None:
        made.add_argument("--runs", type=Path, default=Path(runs), help=f"folder of run folders ({runs})")
    if stages is not None:
        made.add_argument("--stages", type=Path, default=Path(stages), help=f"where low levels are kept ({stages})")
    made.add_argument("--out", type=Path, metavar="FILE", help="what is written, as JSON")
    return made


def budget(args: argparse.Namespace) -> dict[str, Any]:
    """Settings of the optimisation out of ``--steps``."""
    return {} if args.steps is None else {"steps": args.steps}


def run_all(experiments: Iterable[Experiment], args: argparse.Namespace) -> pd.DataFrame:
    """The results table of the experiments, run on the CPU by ``--workers``, with a line for each that is done."""

    def told(one: Outcome) -> None:
        settings = one.settings
        if one.error is not None:
            state = f"failed: {one.error}"
        elif not one.rows["n"].any():
            state = f"n = 0, {one.rows['remark'].iloc[0]}"
        else:
            state = "done"
        name = f"{settings.case} {settings.arm} n_high={settings.n_high} seed={settings.seed}"
        print(f"[{one.number}/{one.total}] {name}: {state}", flush=True)

    return mfbench.run_all(
        experiments, args.runs, args.workers, device="cpu", data_folder=args.data_folder, progress=False, told=told
    )


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows for JSON: None where there is no number."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def write(out: Path | None, *, threads: int = 1, **content: Any) -> None:
    """Write a report with its date and where it was made; nothing without a file."""
    if out is None:
        return
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "provenance": provenance.describe(torch.device("cpu"), threads),
        **content,
    }
    out.write_text(json.dumps(report, indent=1, default=str) + "\n")
