"""An experiment: case x arm x backbone x sizes x seeds, frozen and hashed; ``run`` makes its run folder."""

import hashlib
import json
import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator

from mfbench import arms, backbones, extensions, metrics, provenance, results
from mfbench.batch import DeviceStructures, Source
from mfbench.cases import Case, CaseData, Overlap, case
from mfbench.datasets import DataRequest
from mfbench.errors import LabelsMissing, UserError
from mfbench.evaluation import NO_ENERGIES, PREDICTIONS_FILE, evaluate, measure, roles
from mfbench.labels import Labels, with_labels
from mfbench.levels import level as level_of
from mfbench.manifest import Dataset, LevelName, Manifest, Record, identity, manifest
from mfbench.potential import Potential, forces
from mfbench.predictions import Predictions, sample_rows
from mfbench.presets import preset
from mfbench.splits import Selection, Split, make_split, select, too_many
from mfbench.structures import Structures, save_arrays
from mfbench.training import FitState, Optimisation, Progress, Stage, fit, silent


class Experiment(Record):
    """All that decides the numbers of an experiment. Build one with ``experiment()``."""

    case: str
    arm: str
    case_file: str | None = None  # of a case of one's own; saved, not hashed
    data: str = "mini"
    backbone: str = "hipnn-ts"
    preset: str = "demo"
    n_high: Annotated[int, Field(ge=0)] = 0
    n_low: int | None = None  # None: all there are
    split_seed: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] = 0
    dtype: Literal["float32", "float64"] = "float32"
    threads: Annotated[int, Field(gt=0)] | None = None  # None: all cores of this process's allocation
    pooled: bool = False
    epochs: int | None = None
    exceed_max_train: bool = False  # train on more than the data's authors allow
    overlap: Overlap | None = None  # of high- and low-level geometries; None: the case's own
    # Levels between the two, and how many of the low-level structures they label, too; None: all.
    further: dict[LevelName, int | None] = Field(default_factory=dict)
    labels: Labels = Labels()
    network: dict[str, Any]
    optimisation: Optimisation = Optimisation()
    arm_options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("network")
    @classmethod
    def _complete(cls, network: dict[str, Any], info: Any) -> dict[str, Any]:
        return backbones.backbone(info.data["backbone"]).settings.model_validate(network).model_dump()

    @field_validator("arm_options")
    @classmethod
    def _complete_options(cls, options: dict[str, Any], info: Any) -> dict[str, Any]:
        known = arms.arm(info.data["arm"]).options
        if strange := [name for name in options if name not in known.model_fields]:
            raise ValueError(f"expected options among {', '.join(known.model_fields) or 'none'}, got {strange[0]!r}")
        return known.model_validate(options).model_dump()

    @property
    def rules(self) -> CaseData:
        """The rules of the split."""
        return self.declared.variant(self.data).overlapping(self.overlap)

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels that are trained on or judged at, from low to high."""
        declared = self.declared
        return (declared.low, *sorted(self.further, key=level_of), declared.high_of(self.data))

    @property
    def high_forces(self) -> float:
        """The fraction of the high-level structures whose forces are learned from."""
        given = self.labels.high_forces
        return arms.arm(self.arm).high_forces if given is None else given

    @property
    def declared(self) -> Case:
        """The case itself."""
        return case(self.case_file or self.case)

    @property
    def _plain(self) -> "Experiment":
        """The same arm of the same preset, with nothing that differs from it."""
        return experiment(
            self.case_file or self.case, self.arm, data=self.data, backbone_name=self.backbone, preset_name=self.preset
        )

    @property
    def recipe(self) -> str:
        """The preset's name, with whatever differs from it: runs of different recipes are never compared."""
        own, changes = self._plain, dict[str, Any]()
        for mine, preset_own in (
            (self.network, own.network),
            (self.optimisation.model_dump(), own.optimisation.model_dump()),
            *(
                ({name: getattr(self, name)}, {name: getattr(own, name)})
                for name in ("dtype", "exceed_max_train", "overlap", "split_seed")
            ),
        ):
            changes |= {key: value for key, value in mine.items() if value != preset_own[key]}
        differing = ", ".join(f"{key}={value}" for key, value in changes.items())
        return f"{self.preset} ({differing})" if changes else self.preset

    @property
    def variant(self) -> str:
        """The arm's name, with the labels, further levels and options that differ: what stands beside other arms."""
        own = self._plain
        said = self.labels.words
        if self.further != own.further:
            levels = [name if n is None else f"{n} of {name}" for name, n in self.further.items()]
            said += [f"further levels: {', '.join(levels) or 'none'}"]
        said += [f"{key}={value}" for key, value in self.arm_options.items() if value != own.arm_options[key]]
        return f"{self.arm} ({'; '.join(said)})" if said else self.arm

    def deciding(self) -> dict[str, Any]:
        """What decides the numbers: settings that differ from their defaults, data hashes, split rules."""
        kind = backbones.backbone(self.backbone)
        rules, levels = self.rules, self.levels
        declared = [manifest(name) for name in rules.datasets]
        apart = {"network", "preset", "case_file", "arm_options"}
        arm = arms.arm(self.arm)
        options = arm.options.model_validate(self.arm_options).model_dump(exclude_defaults=True)
        readers = {one.name: one.version for one in declared if one.version}
        versions = {name: one for name, one in (("arm", arm.version), ("backbone", kind.version)) if one}
        return {
            "format": results.FORMAT_VERSION,
            "settings": self.model_dump(mode="json", exclude_defaults=True, exclude=apart),
            "network": kind.settings.model_validate(self.network).model_dump(exclude_defaults=True),
            **({"arm_options": options} if options else {}),
            **({"versions": versions} if versions else {}),
            **({"readers": readers} if readers else {}),
            "levels": levels,
            "split": {
                **rules.model_dump(mode="json", exclude_defaults=True, exclude={"sizes", "title", "further"}),
                "datasets": [one.name for one in declared],
            },
            "data": {file.name: file.sha256 or identity(one) for one in declared for file in one.files},
            "labels": [
                {"length": one.length_unit, **labels.model_dump(mode="json", include={"level", "energy", "forces"})}
                for one in declared
                for labels in one.labels
                if labels.level in levels
            ],
        }

    def added(self) -> dict[str, str]:
        """What people and other packages added to it, and where each comes from."""
        kinds: tuple[tuple[extensions.Kind, tuple[str, ...]], ...] = (
            ("arms", (self.arm,)),
            ("backbones", (self.backbone,)),
            ("cases", (self.case,)),
            ("datasets", self.rules.datasets),
        )
        found = {f"{kind}: {name}": extensions.origin(kind, name) for kind, names in kinds for name in names}
        return {name: origin for name, origin in found.items() if origin is not None}

    @property
    def name(self) -> str:
        """Name of the run folder: readable, and distinct for whatever decides the numbers."""
        content = json.dumps(self.deciding(), sort_keys=True).encode()
        digest = hashlib.sha256(content).hexdigest()[:10]
        return f"{self.case}-{self.data}-{self.arm}-{self.backbone}-n{self.n_high}-s{self.seed}-{digest}"


def experiment(
    case_name: str | Case,
    arm_name: str | arms.Arm,
    *,
    data: str | None = None,
    backbone_name: str | backbones.BackboneKind | None = None,
    preset_name: str | None = None,
    n_high: int | None = None,
    network: dict[str, Any] | None = None,
    optimisation: dict[str, Any] | None = None,
    arm_options: dict[str, Any] | None = None,
    **settings: Any,
) -> Experiment:
    """An experiment, resolved: preset first, then what is given.

    Args:
        case_name, arm_name, backbone_name: names, a case also by its YAML file; or objects of one's own, which are
            known by their names from then on (see ``extensions``).
        data, preset_name: by default those of ``Experiment``, as the backbone.
        n_high: high-level structures, validation included; by default the smallest of the case's sizes. Arms
            that do not use the high level have 0, arms that do not use the low level have no ``n_low``.
        network, optimisation, arm_options: settings that differ from the preset's.
        settings: other fields of ``Experiment``.

    Raises:
        UserError: an unknown name, or a value out of range.
    """
    data = data or Experiment.model_fields["data"].default
    backbone_name = backbone_name or Experiment.model_fields["backbone"].default
    preset_name = preset_name or Experiment.model_fields["preset"].default
    chosen, declared, kind = arms.arm(arm_name), case(case_name), backbones.backbone(backbone_name)
    data = declared.variant_name(data)
    rules = declared.variant(data)
    if chosen.uses_high and n_high == 0:
        raise UserError(f"n_high: expected at least 10 structures for arm {chosen.name}, got 0")
    start = preset(preset_name)
    optimisation_settings = {**start.optimisation, **(optimisation or {})}
    rates = start.learning_rates.get(kind.name, {})
    if chosen.name in rates:
        optimisation_settings.setdefault("learning_rate", rates[chosen.name])
    if optimisation_settings.get("steps") == 0:
        raise UserError("steps: expected a number greater than 0, got 0")
    own_options = {**start.arm_options.get(kind.name, {}).get(chosen.name, {}), **(arm_options or {})}
    settings.setdefault("further", rules.further)
    bottom, top = level_of(declared.low), level_of(declared.high_of(data))
    if outside := [name for name in settings["further"] if not bottom < level_of(name) < top]:
        raise UserError(f"further: expected levels between {bottom} and {top}, got {', '.join(outside)}")
    if not chosen.uses_low and chosen.uses_high:
        settings["n_low"], settings["further"] = None, {}
    settings["labels"] = labels = _labels(settings.get("labels") or {}, chosen)
    if labels.high_forces is not None and not chosen.takes_high_forces:
        raise UserError(
            f"labels: arm {chosen.name} takes no choice of high-level forces, got high_forces={labels.high_forces}; "
            "take SF-EF or MF"
        )
    if settings.get("threads") is None:
        settings["threads"] = start.threads
    try:
        return Experiment(
            case=declared.name,
            case_file=None
            if isinstance(case_name, Case) or declared.name == case_name
            else str(Path(case_name).resolve()),
            arm=chosen.name,
            data=data,
            backbone=kind.name,
            preset=start.name,
            n_high=(rules.sizes[0] if n_high is None else n_high) if chosen.uses_high else 0,
            pooled=start.pooled and chosen.uses_low and chosen.uses_high,
            epochs=None if "steps" in (optimisation or {}) else start.epochs,
            network={**start.network.get(kind.name, {}), **(network or {})},
            optimisation=Optimisation.model_validate(optimisation_settings),
            arm_options=own_options,
            **settings,
        )
    except ValidationError as error:
        raise _refused(error) from error


def _labels(given: Any, arm: arms.Arm) -> Labels:
    """The choice of labels without what the arm has no use for: runs that train alike have one name."""
    try:
        labels = Labels.model_validate(given)
    except ValidationError as error:
        raise _refused(error, "labels.") from error
    return labels.that_matter(low=arm.uses_low, high=arm.uses_high or arm.high_forces > 0)


def _refused(error: ValidationError, at: str = "") -> UserError:
    first = error.errors()[0]
    where = at + ".".join(str(part) for part in first["loc"])
    return UserError(f"{where}: {first['msg']}; got {first['input']!r:.80}")


def register(*things: arms.Arm | backbones.BackboneKind | Case | Dataset | Manifest | metrics.Metric) -> None:
    """Make arms, backbones, cases, datasets and metrics of one's own known by their names in this process.

    An installed package does the same for every process by entry points (see ``extensions``).

    Raises:
        UserError: mfbench itself uses the name; or it is none of these things.
    """
    for thing in things:
        if isinstance(thing, arms.Arm):
            arms.arm(thing)
        elif isinstance(thing, backbones.BackboneKind):
            backbones.backbone(thing)
        elif isinstance(thing, Case):
            case(thing)
        elif isinstance(thing, Dataset | Manifest):
            manifest(thing)
        elif isinstance(thing, metrics.Metric):
            metrics.metric(thing)
        else:
            raise UserError(f"register: expected an Arm, BackboneKind, Case, Dataset or Metric, got {thing!r:.80}")


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


@lru_cache(maxsize=2)
def _load(request: DataRequest) -> Structures:
    return request.load()


def request(settings: Experiment, data_folder: Path | None = None) -> DataRequest:
    """What data an experiment needs."""
    rules = settings.rules
    levels = {*settings.levels, *([rules.reserve.level] if rules.reserve else [])}
    return DataRequest(rules.datasets, tuple(sorted(levels)), tuple(rules.subsets.items()), data_folder)


def prepare(settings: Experiment, data_folder: Path | None = None) -> Prepared:
    """Load, split and select; raises UserError where the data do not hold what is asked for."""
    rules, levels = settings.rules, settings.levels
    low, high = levels[0], levels[-1]
    structures = _load(request(settings, data_folder))
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
    kind, chosen = backbones.backbone(settings.backbone), arms.arm(settings.arm)
    network = backbones.Network(kind, present, kind.settings.model_validate(settings.network))
    problem = arms.Problem(
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


def forecast(settings: Experiment, device: str = "cpu", data_folder: Path | None = None) -> str:
    """What a run is going to take, for people: sizes, and the time of its steps, timed on models of its own."""
    prepared = prepare(settings, data_folder)
    provenance.use_threads(settings.threads)
    where = torch.device(device)
    potential, stages = build(settings, prepared)
    potential = potential.to(where, torch.float64 if settings.dtype == "float64" else None)
    data = DeviceStructures(prepared.training, where, next(potential.parameters()).dtype)
    seconds = 0.0
    for stage in stages:
        trial = replace(stage, optimisation=stage.optimisation.model_copy(update={"steps": 4, "validations": 1}))
        warm = replace(stage, optimisation=stage.optimisation.model_copy(update={"steps": 1, "validations": 1}))
        o = stage.optimisation
        if not o.steps:
            continue
        first, later = (fit(one, data, settings.seed).seconds for one in (warm, trial))
        validation = max(0.0, first - (later - first) / 3)
        seconds += o.steps * max(0.0, later - first) / 3 + o.validations * validation
    chosen, steps = prepared.selection, sum(stage.optimisation.steps for stage in stages)
    return (
        f"{len(chosen.train_low):,} low- and {len(chosen.train_high):,} high-level structures, judged on "
        f"{len(prepared.split.test) + len(prepared.split.unseen):,}; {steps:,} steps, about {_duration(seconds)} here"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def run(
    settings: Experiment,
    runs: Path,
    device: str = "cpu",
    data_folder: Path | None = None,
    progress: Progress = silent,
    checkpoint_seconds: float = 5.0,
) -> Path:
    """Run an experiment, or continue it, and write its run folder; a finished one is left as it is.

    Args:
        runs: folder of run folders.
        device: ``cpu``, ``cuda`` or ``cuda:k``.
        data_folder: where the data files are, for data that do not ship.
        progress: told of each validation.

    Returns:
        The run folder.

    Raises:
        UserError: the experiment cannot be run as asked (LabelsMissing: the labels do not exist).
    """
    metrics.known()  # one that cannot be used is told of before hours of work
    folder = runs / settings.name
    if results.is_finished(folder):
        finished = results.read_metrics(folder / results.METRICS_FILE)
        if not finished["n"].any():
            raise LabelsMissing(str(finished["remark"].iloc[0]))
        measure(folder)  # by metrics that came later
        return folder
    prepared = prepare(settings, data_folder)
    threads = provenance.use_threads(settings.threads)
    where = torch.device(device)
    dtype = torch.float64 if settings.dtype == "float64" else torch.float32
    potential, stages = build(settings, prepared)
    potential = potential.to(where)
    if dtype == torch.float64:
        potential = potential.double()
    data = DeviceStructures(prepared.training, where, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    results.write_json(folder / "settings.json", settings.model_dump(mode="json"))
    began = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    states: list[FitState] = []
    for number, stage in enumerate(stages):
        checkpoint = folder / f"checkpoint-{number}.safetensors"
        lock: AbstractContextManager[Any] = nullcontext()
        if stage.shared:
            name = stage_name(stage, prepared.training, settings, where.type, threads)
            checkpoint = runs / results.STAGES / f"{name}.safetensors"
            checkpoint.parent.mkdir(exist_ok=True)
            lock = FileLock(f"{checkpoint}.lock", mode=0o666)  # a second process waits and then has it
        with lock:
            states.append(fit(stage, data, settings.seed, checkpoint, checkpoint_seconds, progress))
    predictions = predict(potential, data, prepared, settings.seed)
    with results.replacing(folder / PREDICTIONS_FILE) as temporary:
        save_arrays(temporary, predictions)
    _write_split(folder / "split.npz", prepared)
    history = pd.concat([pd.DataFrame(s.history).assign(stage=k) for k, s in enumerate(states)])
    with results.replacing(folder / "history.csv") as temporary:
        history.to_csv(temporary, index=False)
    with results.replacing(folder / "weights.safetensors") as temporary:
        heads = {
            "heads": json.dumps(potential.heads),
            "levels": json.dumps(potential.levels),
            "elements": json.dumps(np.unique(prepared.structures.numbers).tolist()),
        }
        # Not save_file, which makes a file that only its owner can read.
        temporary.write_bytes(safetensors.torch.save(potential.state_dict(), heads))
    steps, seconds = sum(s.step for s in states), sum(s.seconds for s in states)
    results.write_json(
        folder / results.PROVENANCE_FILE,
        {
            **provenance.describe(where, threads),
            "began": began,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "deciding": settings.deciding(),
            "added": settings.added(),
            "best_step": [s.best_step for s in states],
            "n_parameters": sum(p.numel() for p in potential.parameters()),
        },
    )
    table = _with_zero(evaluate(predictions), stages).assign(
        **_identity(settings, structures_used(prepared.low, stages), _n_high(settings, prepared, stages)),
        steps=steps,
        steps_shared=sum(s.step for s, stage in zip(states, stages) if stage.shared),
        seconds=seconds,
        structures_per_second=sum(s.drawn for s in states) / max(seconds, 1e-9),
        device=provenance.device_name(where),
    )
    results.write_metrics(folder, table)
    for number in range(len(stages)):
        (folder / f"checkpoint-{number}.safetensors").unlink(missing_ok=True)
    measure(folder)
    return folder


def _with_zero(table: pd.DataFrame, stages: list[Stage]) -> pd.DataFrame:
    """The rows, total energies of levels whose energies no stage learns from being n = 0: they have no zero."""
    learned = {term.level for stage in stages for source in stage.train for term in source.terms if term.energy}
    gone = table["quantity"].isin(["energy", "energy_per_atom"]) & (table["n"] > 0) & ~table["level"].isin(learned)
    return table.assign(
        value=table["value"].mask(gone), n=table["n"].mask(gone, 0), remark=table["remark"].mask(gone, NO_ENERGIES)
    )


def stage_name(stage: Stage, structures: Structures, settings: Experiment, device: str, threads: int) -> str:
    """A name that is the same for every experiment in which a shared stage gives the same weights: a hash of all that
    decides them, network, labels and initial weights included."""
    # Not all of a network's settings show in its weights: the cutoff does not.
    network = [settings.backbone, settings.network, settings.dtype]
    digest = hashlib.sha256(json.dumps([results.FORMAT_VERSION, settings.seed, device, threads, network]).encode())
    digest.update(stage.optimisation.model_dump_json().encode())
    for source in (*stage.train, *stage.validation):
        digest.update(json.dumps([[asdict(term) for term in source.terms], len(source.indices)]).encode())
        part = structures[source.indices]
        columns = [structures.level_index(term.level) for term in source.terms]
        for array in (
            part.numbers,
            part.positions,
            part.offsets,
            part.energies[:, columns],
            part.forces[columns],
            part.energy_mask[:, columns],
            part.force_mask[:, columns],
        ):
            digest.update(np.ascontiguousarray(array).tobytes())
    for name, tensor in stage.potential.state_dict().items():
        digest.update(f"{name} {tensor.dtype}".encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:24]


def structures_used(level: str, stages: list[Stage], validated: bool = False) -> int:
    """Structures that are trained on (or ``validated``, too) with labels of a level.

    Where a high-level energy is compared with a low-level one, it is the high level that is trained.
    """
    used = [
        source.indices
        for stage in stages
        for source in (*stage.train, *(stage.validation if validated else ()))
        if level in {term.level for term in source.terms}
    ]
    return len(np.unique(np.concatenate(used))) if used else 0


def _n_high(settings: Experiment, prepared: Prepared, stages: list[Stage]) -> int:
    """High-level structures in all: what was asked for, or, of an arm that takes what there is, what it used."""
    return settings.n_high or structures_used(prepared.high, stages, validated=True)


def _identity(settings: Experiment, n_low: int, n_high: int) -> dict[str, Any]:
    own = {
        "run": settings.name,
        "arm": settings.variant,
        "preset": settings.recipe,
        "n_low": n_low,
        "n_high": n_high,
    }
    return {**{key: getattr(settings, key) for key in results.EXPERIMENT if key not in own}, **own}


def record_absent(settings: Experiment, runs: Path, reason: str, data_folder: Path | None = None) -> Path:
    """The run folder of an experiment that the data do not allow: every row has n = 0 and says why."""
    folder = runs / settings.name
    if not results.is_finished(folder):
        prepared = prepare(settings, data_folder)
        parts = [part for part in results.PARTS if len(getattr(prepared.split, part))]
        rows = [
            {"level": level, "role": role, "head": level, "part": part, "quantity": quantity, "metric": metric}
            for part in parts
            for level, role in zip(prepared.levels, roles(len(prepared.levels)))
            for quantity in results.QUANTITIES
            for metric in results.METRICS
        ]
        table = pd.DataFrame(rows).assign(
            **_identity(settings, 0, settings.n_high),
            value=math.nan,
            unit="",
            n=0,
            remark=reason,
            steps=0,
            steps_shared=0,
            seconds=0.0,
            structures_per_second=0.0,
            device="",
        )
        results.write_json(folder / "settings.json", settings.model_dump(mode="json"))
        results.write_metrics(folder, table)
    return folder


def predict(potential: Potential, data: DeviceStructures, prepared: Prepared, seed: int) -> Predictions:
    """Predict the test and unseen parts at all levels of the experiment."""
    indices = np.concatenate([prepared.split.test, prepared.split.unseen])
    structures, levels = prepared.structures, prepared.levels
    heads = tuple(name if name in potential.heads else potential.heads[0] for name in levels)
    part = structures[indices]
    energies = np.zeros((len(part), len(structures.levels)))
    predicted_forces = np.zeros((len(structures.levels), len(part.positions), 3), np.float32)
    row_of = {int(index): row for row, index in enumerate(indices)}
    for block in data.blocks([Source(indices, ())], max_pairs=1 << 18):
        positions = block.positions.detach().requires_grad_()
        with torch.enable_grad():
            out = potential(replace(block, positions=positions)).energies
            by_head = {
                name: forces(out, positions, structures.level_index(name), create_graph=False).cpu().numpy()
                for name in set(heads)
            }
        rows = np.asarray([row_of[index] for index in block.index.tolist()], dtype=np.int64)
        energies[rows] = out.detach().cpu().numpy()
        counts = part.n_atoms[rows]
        inside = np.arange(positions.shape[1]) < counts[:, None]
        for name, values in by_head.items():
            predicted_forces[structures.level_index(name), part.atoms_of(rows)] = values[inside]
    source = [structures.level_index(name) for name in heads]
    return as_predictions(prepared, heads, energies[:, source], predicted_forces[source].swapaxes(0, 1), seed)


def as_predictions(
    prepared: Prepared, heads: tuple[str, ...], energies: NDArray[np.float64], forces: NDArray[np.float32], seed: int
) -> Predictions:
    """Predictions of the test and unseen parts, in this order, beside all the reference labels that there are.

    Args:
        heads: the level whose head predicted each of the experiment's L levels.
        energies: (T, L) eV; forces: (A, L, 3) eV/Angstrom.
        seed: which structures' positions are kept.
    """
    indices = np.concatenate([prepared.split.test, prepared.split.unseen])
    part, levels = prepared.structures[indices], prepared.levels
    reference = [part.level_index(name) for name in levels]
    shown = sample_rows(len(part), seed)
    return Predictions(
        levels=levels,
        heads=heads,
        molecules=part.molecules,
        structure=indices,
        geometry=part.geometry,
        molecule=part.molecule,
        temperature=part.temperature,
        unseen=np.isin(indices, prepared.split.unseen),
        offsets=part.offsets,
        numbers=part.numbers,
        energy_reference=part.energies[:, reference],
        energy_predicted=energies,
        force_reference=part.forces[reference].swapaxes(0, 1),
        force_predicted=forces,
        energy_mask=part.energy_mask[:, reference],
        force_mask=part.force_mask[:, reference],
        shown=shown,
        positions=part[shown].positions.astype(np.float64),
    )


def _write_split(path: Path, prepared: Prepared) -> None:
    """Indices of the parts and of what was selected, and the file and row that each index stands for."""
    selected = prepared.selection._asdict()
    for name in ("further", "validation_further"):
        selected |= {f"{name} {level}": indices for level, indices in selected.pop(name).items()}
    with results.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            structure_file=prepared.structures.file,
            structure_row=prepared.structures.row,
            files=np.asarray(prepared.structures.files),
            **vars(prepared.split),
            **selected,
        )
