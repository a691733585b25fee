"""An experiment: case x arm x backbone x sizes x seeds, frozen and hashed; ``run`` makes its run folder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator

from mfbench import extensions
from mfbench.data.cases import Case, CaseData, Overlap, case
from mfbench.data.labels import Labels
from mfbench.data.manifest import Dataset, LevelName, Manifest, as_before, how_read, identity, manifest
from mfbench.errors import UserError
from mfbench.learning import arms
from mfbench.learning.optimisation import Optimisation
from mfbench.learning.presets import Preset, preset
from mfbench.learning.problem import Arm
from mfbench.models.backbones.kinds import BackboneKind, backbone
from mfbench.records import Record
from mfbench.results import metrics
from mfbench.results.folder import FORMAT_VERSION
from mfbench.theory import level as level_of


class Resolved(Record):
    """What the names in an experiment stood for when it was made: it takes no file to know what was meant."""

    levels: tuple[LevelName, ...]  # that are trained on or judged at, from low to high
    rules: CaseData  # of the split
    datasets: tuple[str, ...]
    data: dict[str, str]  # by file: its sha256, or what stands for it
    labels: tuple[dict[str, Any], ...]  # of these levels, as the datasets declare them: keys and units
    readers: dict[str, str] = Field(default_factory=dict)  # versions, by dataset, of readers of one's own
    reading: dict[str, dict[str, Any]] = Field(default_factory=dict)  # how files are read otherwise, by dataset
    case_further: dict[LevelName, int | None] = Field(default_factory=dict)  # the case's own levels between the two
    accepted: tuple[str, ...] = ()  # checks that the datasets' manifests let them fail

    @property
    def remark(self) -> str:
        """What every table of these data says of them; mostly nothing."""
        return f"data accepted with failed checks: {'; '.join(self.accepted)}" if self.accepted else ""


def data_hashes(declared: Sequence[Manifest]) -> dict[str, str]:
    """By file of some datasets, its sha256 or what stands for it: what tells the data of two experiments apart."""
    return {file.name: file.sha256 or identity(one) for one in declared for file in one.files}


def _resolved(case_: Case, data: str, overlap: Overlap | None, further: Mapping[str, int | None]) -> Resolved:
    rules = case_.choice(data).overlapping(overlap)
    levels = (case_.low, *sorted(further, key=level_of), case_.high_of(data))
    declared = [manifest(name) for name in rules.datasets]
    return Resolved(
        levels=levels,
        rules=rules,
        datasets=tuple(one.name for one in declared),
        data=data_hashes(declared),
        labels=tuple(
            {"length": one.length_unit, **as_before(labels.model_dump(mode="json", exclude={"n_energy", "n_forces"}))}
            for one in declared
            for labels in one.labels
            if labels.level in levels
        ),
        readers={one.name: one.version for one in declared if one.version},
        reading={one.name: found for one in declared if (found := how_read(one))},
        case_further=rules.further,
        accepted=tuple(
            dict.fromkeys(name for one in declared for name in (one.accept if one.failed is None else one.failed))
        ),
    )


class Experiment(Record):
    """All that decides the numbers of an experiment. Build one with ``experiment()``."""

    case: str
    arm: str
    case_file: str | None = None  # of a case of one's own; saved, not hashed
    data: str = "mini"
    backbone: str = "hipnn-ts"
    preset: str = "demo"
    n_high: Annotated[int, Field(ge=0, le=10**9)] = 0
    n_low: Annotated[int, Field(le=10**9)] | None = None  # None: all there are
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0  # as large as torch and the results table take
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    dtype: Literal["float32", "float64"] = "float32"
    threads: Annotated[int, Field(gt=0, le=10**4)] | None = None  # None: all cores of this process's allocation
    pooled: bool = False
    epochs: Annotated[int, Field(le=10**9)] | None = None
    exceed_max_train: bool = False  # train on more than the data's authors allow
    overlap: Overlap | None = None  # of high- and low-level geometries; None: the case's own
    # Levels between the two, and how many of the low-level structures they label, too; None: all.
    further: dict[LevelName, int | None] = Field(default_factory=dict)
    labels: Labels = Labels()
    network: dict[str, Any]
    optimisation: Optimisation = Optimisation()
    arm_options: dict[str, Any] = Field(default_factory=dict)
    resolved: Resolved | None = None  # None: made before it was recorded; looked up then

    @field_validator("network")
    @classmethod
    def _complete(cls, network: dict[str, Any], info: Any) -> dict[str, Any]:
        return backbone(info.data["backbone"]).settings.model_validate(network).model_dump()

    @field_validator("arm_options")
    @classmethod
    def _complete_options(cls, options: dict[str, Any], info: Any) -> dict[str, Any]:
        known = arms.arm(info.data["arm"]).options
        if strange := [name for name in options if name not in known.model_fields]:
            raise ValueError(f"expected options among {', '.join(known.model_fields) or 'none'}, got {strange[0]!r}")
        return known.model_validate(options).model_dump()

    @property
    def known(self) -> Resolved:
        """What its names stand for."""
        return self.resolved or _resolved(self.declared, self.data, self.overlap, self.further)

    @property
    def rules(self) -> CaseData:
        """The rules of the split."""
        return self.known.rules

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels that are trained on or judged at, from low to high."""
        return self.known.levels

    @property
    def high_forces(self) -> float:
        """The fraction of the high-level structures whose forces are learned from."""
        given = self.labels.high_forces
        return arms.arm(self.arm).high_forces if given is None else given

    @property
    def declared(self) -> Case:
        """The case itself, as it is declared now."""
        return case(self.case_file or self.case)

    @property
    def recipe(self) -> str:
        """The preset's name, with whatever differs from it: runs of different recipes are never compared."""
        kind = backbone(self.backbone)
        start = _begun(preset(self.preset), arms.arm(self.arm), kind)
        own = {
            **kind.settings.model_validate(start.network).model_dump(),
            **Optimisation.model_validate(start.optimisation).model_dump(),
            **{name: Experiment.model_fields[name].default for name in _RECIPE},
        }
        mine = {**self.network, **self.optimisation.model_dump(), **{name: getattr(self, name) for name in _RECIPE}}
        differing = [f"{key}={value}" for key, value in mine.items() if value != own[key]]
        differing += [self.known.remark] if self.known.accepted else []
        return f"{self.preset} ({', '.join(differing)})" if differing else self.preset

    @property
    def variant(self) -> str:
        """The arm's name, with the labels, further levels and options that differ: what stands beside other arms."""
        arm = arms.arm(self.arm)
        start = _begun(preset(self.preset), arm, backbone(self.backbone))
        options = arm.options.model_validate(start.arm_options).model_dump()
        said = self.labels.words
        if self.further != ({} if not arm.uses_low and arm.uses_high else self.known.case_further):
            levels = [name if n is None else f"{n} of {name}" for name, n in self.further.items()]
            said += [f"further levels: {', '.join(levels) or 'none'}"]
        said += [f"{key}={value}" for key, value in self.arm_options.items() if value != options[key]]
        return f"{self.arm} ({'; '.join(said)})" if said else self.arm

    def deciding(self) -> dict[str, Any]:
        """What decides the numbers: settings that differ from their defaults, data hashes, split rules."""
        kind, arm, known = backbone(self.backbone), arms.arm(self.arm), self.known
        apart = {"network", "preset", "case_file", "arm_options", "resolved"}
        options = arm.options.model_validate(self.arm_options).model_dump(exclude_defaults=True)
        versions = {name: one for name, one in (("arm", arm.version), ("backbone", kind.version)) if one}
        rules = known.rules.model_dump(mode="json", exclude_defaults=True, exclude={"sizes", "title", "further"})
        return {
            "format": FORMAT_VERSION,
            "settings": self.model_dump(mode="json", exclude_defaults=True, exclude=apart),
            "network": kind.settings.model_validate(self.network).model_dump(exclude_defaults=True),
            **({"arm_options": options} if options else {}),
            **({"versions": versions} if versions else {}),
            **({"readers": known.readers} if known.readers else {}),
            **({"reading": known.reading} if known.reading else {}),
            "levels": known.levels,
            "split": {**rules, "datasets": known.datasets},
            "data": known.data,
            "labels": known.labels,
        }

    def added(self) -> dict[str, str]:
        """What people and other packages added to it, and where each comes from."""
        of: tuple[tuple[extensions.Kind, tuple[str, ...]], ...] = (
            ("arms", (self.arm,)),
            ("backbones", (self.backbone,)),
            ("cases", (self.case,)),
            ("datasets", self.known.datasets),
        )
        found = {f"{kind}: {name}": extensions.origin(kind, name) for kind, names in of for name in names}
        return {name: origin for name, origin in found.items() if origin is not None}

    @property
    def name(self) -> str:
        """Name of the run folder: readable, and distinct for whatever decides the numbers."""
        content = json.dumps(self.deciding(), sort_keys=True).encode()
        digest = hashlib.sha256(content).hexdigest()[:10]
        return f"{self.case}-{self.data}-{self.arm}-{self.backbone}-n{self.n_high}-s{self.seed}-{digest}"


def experiment(
    case_name: str | Path | Case,
    arm_name: str | Arm,
    *,
    data: str | None = None,
    backbone_name: str | BackboneKind | None = None,
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
    chosen, declared, kind = arms.arm(arm_name), case(case_name), backbone(backbone_name)
    data = declared.choice_name(data)
    rules = declared.choice(data)
    if chosen.uses_high and n_high == 0:
        raise UserError(f"n_high: expected at least 10 structures for arm {chosen.name}, got 0")
    start = _begun(preset(preset_name), chosen, kind)
    optimisation_settings = {**start.optimisation, **(optimisation or {})}
    if optimisation_settings.get("steps") == 0:
        raise UserError("steps: expected a number greater than 0, got 0")
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
    settings.setdefault("pooled", start.preset.pooled and chosen.uses_low and chosen.uses_high)
    settings.setdefault("epochs", None if "steps" in (optimisation or {}) else start.preset.epochs)
    if foreign := sorted(settings.keys() & {"case", "case_file", "arm", "backbone", "preset", "resolved"}):
        raise UserError(f"experiment: expected no {foreign[0]}, which follows from what is asked for, got one")
    if settings.get("threads") is None:
        settings["threads"] = start.preset.threads
    try:
        return Experiment(
            case=declared.name,
            case_file=None
            if isinstance(case_name, Case) or declared.name == case_name
            else str(Path(case_name).resolve()),
            arm=chosen.name,
            data=data,
            backbone=kind.name,
            preset=preset_name,
            n_high=(rules.sizes[0] if n_high is None else n_high) if chosen.uses_high else 0,
            network={**start.network, **(network or {})},
            optimisation=Optimisation.model_validate(optimisation_settings),
            arm_options={**start.arm_options, **(arm_options or {})},
            resolved=_resolved(declared, data, settings.get("overlap"), settings["further"]),
            **settings,
        )
    except ValidationError as error:
        raise _refused(error) from error


_RECIPE = ("dtype", "exceed_max_train", "overlap", "split_seed")  # settings of an experiment that are its recipe's


class _Begun(NamedTuple):
    """What a preset gives an arm with a network."""

    preset: Preset
    network: dict[str, Any]
    optimisation: dict[str, Any]
    arm_options: dict[str, Any]


def _begun(start: Preset, arm: Arm, kind: BackboneKind) -> _Begun:
    rates = start.learning_rates.get(kind.name, {})
    rate = {"learning_rate": rates[arm.name]} if arm.name in rates else {}
    options = start.arm_options.get(kind.name, {}).get(arm.name, {})
    return _Begun(start, start.network.get(kind.name, {}), {**rate, **start.optimisation}, options)


def _labels(given: Any, arm: Arm) -> Labels:
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


def register(*things: Arm | BackboneKind | Case | Dataset | Manifest | metrics.Metric) -> None:
    """Make arms, backbones, cases, datasets and metrics of one's own known by their names in this process.

    An installed package does the same for every process by entry points (see ``extensions``).

    Raises:
        UserError: mfbench itself uses the name; or it is none of these things.
    """
    for thing in things:
        if isinstance(thing, Arm):
            arms.arm(thing)
        elif isinstance(thing, BackboneKind):
            backbone(thing)
        elif isinstance(thing, Case):
            case(thing)
        elif isinstance(thing, Dataset | Manifest):
            manifest(thing)
        elif isinstance(thing, metrics.Metric):
            metrics.metric(thing)
        else:
            raise UserError(f"register: expected an Arm, BackboneKind, Case, Dataset or Metric, got {thing!r:.80}")
