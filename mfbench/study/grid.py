"""Several experiments, in a row or at once: comparisons on one case, and those of the demo."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from mfbench import bars
from mfbench.data.cases import Case, case
from mfbench.data.labels import Labels
from mfbench.errors import LabelsMissing, UserError
from mfbench.learning.arms import ARMS as ALL_ARMS
from mfbench.learning.arms import arm as arm_of
from mfbench.learning.problem import Arm
from mfbench.learning.threads import device_of
from mfbench.learning.training import Progress, silent
from mfbench.results.folder import is_finished, read_run
from mfbench.results.schema import conform, empty_table
from mfbench.study.experiment import Experiment, experiment
from mfbench.study.pool import spread
from mfbench.study.progress import overall
from mfbench.study.run import read_ahead, record_absent, run

CASES = ("ani1x-tz", "ani1ccx", "rmd17-cc")  # those of the study; others may ship beside them

ARMS = ("SF-E", "MF", "SF-EF")

Watch = Callable[[str, Experiment], AbstractContextManager[Progress]]


def plan(cases: tuple[str, ...] | None = None, seed: int = 0, steps: int | None = None) -> list[Experiment]:
    """The demo's experiments, each case's arms at the smaller size first, SF-low once a case."""
    optimisation = {} if steps is None else {"steps": steps}

    def each(name: str) -> Iterator[Experiment]:
        for n_high in case(name).choice(case(name).usual("mini")).sizes:
            for arm in ARMS:
                yield experiment(name, arm, n_high=n_high, seed=seed, optimisation=optimisation)
        yield experiment(name, "SF-low", seed=seed, optimisation=optimisation)

    return [one for name in cases or CASES for one in each(name)]


def comparison(
    name: str | Path | Case,
    arms: Sequence[str | Arm] | None = None,
    sizes: Sequence[int] | None = None,
    seeds: Sequence[int] = (0,),
    **settings: Any,
) -> list[Experiment]:
    """Every arm at every size and paired seed on one case; arms that have no size, once a seed.

    Args:
        name: of the case, or the case itself.
        arms: None for all that ship.
        sizes: numbers of high-level structures; None for the case's.
        settings: further arguments of ``experiment``; of labels, each arm takes what it can.
    """
    declared = case(name)
    data = settings.get("data") or Experiment.model_fields["data"].default
    chosen = [arm_of(arm) for arm in arms or ALL_ARMS]
    labels = Labels.model_validate(settings.pop("labels", None) or {}).model_dump(exclude_unset=True)

    def wanted(arm: Arm) -> dict[str, Any]:
        """The choice of labels, as far as the arm takes it."""
        return {key: value for key, value in labels.items() if key != "high_forces" or arm.takes_high_forces}

    return [
        experiment(name, arm.name, n_high=n_high, seed=seed, labels=wanted(arm), **settings)
        for seed in seeds
        for arm in chosen
        for n_high in (sizes or declared.choice(data).sizes if arm.uses_high else (None,))
    ]


@dataclass(frozen=True)
class Outcome:
    """What came of one of several experiments."""

    number: int  # how many are done with it, those that failed included
    total: int
    settings: Experiment
    folder: Path
    rows: pd.DataFrame  # of the results table; none where it failed
    ran: bool  # False: it was finished before
    error: Exception | None = None


def run_all(
    experiments: Iterable[Experiment],
    runs: str | Path,
    workers: int = 1,
    *,
    device: str = "auto",
    data_folder: str | Path | None = None,
    progress: bool | Watch = True,
    told: Callable[[Outcome], None] | None = None,
) -> pd.DataFrame:
    """Run the experiments that are not finished, each once, and give the results table of all of them.

    One whose labels do not exist stands in the table with n = 0. One that fails does not keep the others from being
    run, unless its process is killed: then the same call goes on with what is left, as it does after Ctrl-C. The
    numbers do not depend on ``workers``.

    Args:
        runs: folder of run folders.
        workers: processes; with more than one, a script calls this under ``if __name__ == "__main__":``.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:k``; of all of them.
        data_folder: where the data files are, for data that do not ship.
        progress: whether to show one bar over all, in a terminal or a notebook; or, with one worker, what shows each
            experiment's: called with its place ("[3/21]") and settings.
        told: called when an experiment is done.

    Returns:
        The rows of the experiments, in their order.

    Raises:
        UserError: some failed, when all others are finished: which, and why.
    """
    chosen = list({one.name: one for one in experiments}.values())
    runs, where = Path(runs), device_of(device)
    finished = {one.name for one in chosen if is_finished(runs / one.name)}
    one = partial(_one, runs=runs, device=where, data_folder=data_folder)
    done: dict[int, Outcome] = {}
    with ExitStack() as stack:
        bar = None
        if progress is True and bars.visible():
            bar = stack.enter_context(overall(len(chosen), len(finished)))

        def here(item: tuple[int, Experiment]) -> pd.DataFrame:
            number, settings = item
            if progress is True:
                read_ahead(settings, runs, data_folder)
            watch: AbstractContextManager[Progress] = nullcontext(silent)
            if bar is not None:
                watch = bar.watch(settings)
            elif not isinstance(progress, bool):
                watch = progress(f"[{number}/{len(chosen)}]", settings)
            with watch as show:
                return one(item, progress=show)

        items = list(enumerate(chosen, 1))
        for place, found in stack.enter_context(
            closing(spread(here if min(workers, len(chosen)) <= 1 else one, items, workers))
        ):
            settings = chosen[place]
            error, rows = (found, empty_table()) if isinstance(found, Exception) else (None, found)
            done[place] = outcome = Outcome(
                len(done) + 1, len(chosen), settings, runs / settings.name, rows, settings.name not in finished, error
            )
            if bar is not None and outcome.ran:
                bar.finished()
            if told is not None:
                told(outcome)
            elif error is not None and progress is not False:
                tqdm.write(f"{settings.name} failed: {error}", file=sys.stderr)
    _raise_failed([done[place] for place in range(len(chosen))])
    tables = [done[place].rows for place in range(len(chosen))]
    return conform(pd.concat(tables)) if tables else empty_table()


def _one(
    item: tuple[int, Experiment],
    runs: Path,
    device: str,
    data_folder: str | Path | None,
    progress: Progress = silent,
) -> pd.DataFrame:
    """Run one of several experiments; its rows."""
    _, settings = item
    try:
        return read_run(run(settings, runs, device, data_folder, progress))
    except LabelsMissing as error:
        return read_run(record_absent(settings, runs, str(error), data_folder))


def _raise_failed(outcomes: Sequence[Outcome]) -> None:
    """Raise an error that names the experiments that failed, those of one reason together."""
    failed = [one for one in outcomes if one.error is not None]
    if not failed:
        return
    reasons: dict[str, list[str]] = {}
    for one in failed:
        reasons.setdefault(str(one.error) or repr(one.error), []).append(one.settings.name)
    texts = [f"{names[0]}{f' and {len(names) - 1} more' * (len(names) > 1)}: {why}" for why, names in reasons.items()]
    text = f"{len(failed)} of {len(outcomes)} experiments failed, all others are finished: {'; '.join(texts)}"
    odd = next((one.error for one in failed if not isinstance(one.error, UserError | OSError)), None)
    if odd is not None:  # no fault of the user's: whoever mends it wants the traceback
        raise RuntimeError(text) from odd
    raise UserError(text) from failed[0].error
