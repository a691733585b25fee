"""An experiment's data, split and selected, and its potential with the stages that train it."""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from mfbench.data import datasets
from mfbench.data.datasets import DataRequest
from mfbench.data.labels import with_labels
from mfbench.data.splits import Selection, Split, make_split, select, too_many
from mfbench.data.structures import Structures
from mfbench.learning import arms
from mfbench.learning.problem import Problem
from mfbench.learning.training import Optimisation, Stage
from mfbench.models.backbones.kinds import Network, backbone
from mfbench.models.contract import Potential
from mfbench.study.experiment import Experiment


@dataclass(frozen=True)
class Prepared:
    """An experiment's data, split and selected."""

    structures: Structures  # as they are judged on
    low: str
    high: str
    levels: tuple[str, ...]  # that are trained on or judged at, from low to high
    split: Split
    selection: Selection
    training: Structures  # the same, with the labels that may be trained on masked and disturbed


@dataclass(frozen=True)
class _Loading:
    """A request, and who is told how far it is: for the request alone is something loaded before found again."""

    request: DataRequest
    progress: datasets.Progress = field(compare=False)


@lru_cache(maxsize=2)
def _load(loading: _Loading) -> Structures:
    return loading.request.load(loading.progress)


def request(settings: Experiment, data_folder: str | Path | None = None) -> DataRequest:
    """What data an experiment needs."""
    folder = None if data_folder is None else Path(data_folder)
    rules = settings.rules
    levels = {*settings.levels, *([rules.reserve.level] if rules.reserve else [])}
    return DataRequest(rules.datasets, tuple(sorted(levels)), tuple(rules.subsets.items()), folder)


def fetch(
    settings: Experiment, data_folder: str | Path | None = None, progress: datasets.Progress = datasets.silent
) -> Structures:
    """An experiment's data, whole; large ones that were never used are converted first. The last two stay in memory."""
    return _load(_Loading(request(settings, data_folder), progress))


def prepare(settings: Experiment, data_folder: str | Path | None = None) -> Prepared:
    """Load, split and select; raises UserError where the data do not hold what is asked for."""
    rules, levels = settings.rules, settings.levels
    low, high = levels[0], levels[-1]
    structures = fetch(settings, data_folder)
    split = make_split(structures, low, high, rules, settings.split_seed)
    selection = select(
        structures,
        split,
        low,
        high,
        settings.n_high,
        settings.n_low,
        settings.seed,
        rules.most_low,
        settings.exceed_max_train,
        settings.further,
    )
    if not settings.exceed_max_train:
        chosen = arms.arm(settings.arm)
        with_high = selection.train_high if chosen.uses_high else selection.oracle
        trained = np.union1d(selection.train_low, with_high) if chosen.uses_low else with_high
        for name, (files, most) in rules.limits.items():
            theirs = [k for k, file in enumerate(structures.files) if file in files]
            if (got := np.count_nonzero(np.isin(structures.file[trained], theirs))) > most:
                raise too_many(f"{name}: expected", most, "training structures at both levels together", int(got))
    training = with_labels(structures, selection, low, high, settings.labels, settings.seed)
    return Prepared(structures, low, high, levels, split, selection, training)


def build(settings: Experiment, prepared: Prepared) -> tuple[Potential, list[Stage]]:
    """The experiment's untrained potential and its stages. No global seed is changed."""
    present = tuple(int(z) for z in np.unique(prepared.structures.numbers))
    kind, chosen = backbone(settings.backbone), arms.arm(settings.arm)
    network = Network(kind, present, kind.settings.model_validate(settings.network))
    problem = Problem(
        prepared.training,
        prepared.low,
        prepared.high,
        prepared.selection,
        _with_budget(settings, prepared),
        settings.pooled,
        settings.labels.low_energies,
        settings.labels.low_forces,
        settings.high_forces,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)  # torch.manual_seed would reach every GPU, too
        return chosen.build(problem, network, chosen.options.model_validate(settings.arm_options))


def _with_budget(settings: Experiment, prepared: Prepared) -> Optimisation:
    """The optimisation with a budget in epochs turned into steps."""
    o = settings.optimisation
    if settings.epochs is None:
        return o
    low = prepared.selection.train_low if settings.n_high == 0 else prepared.selection.train_high
    per_epoch = math.ceil(len(low) / min(o.batch_size, len(low)))
    return o.model_copy(update={"steps": settings.epochs * per_epoch, "validations": settings.epochs})
