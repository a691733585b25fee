"""The command that makes a run, or continues it, out of what the run saved of its settings; without torch."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from mfbench import units
from mfbench.errors import UserError
from mfbench.records import in_words
from mfbench.study.experiment import Experiment, experiment

# What ``experiment`` calls what the fields of an experiment are called otherwise.
_NAMES = {"data": "data", "backbone": "backbone_name", "preset": "preset_name", "n_high": "n_high"}

# What `mfbench run` can be asked for; whatever else only Python can.
_OPTIONS = ("n_low", "seed", "split_seed", "dtype", "threads", "overlap")
_OPTIMISATION = ("steps", "batch_size", "learning_rate")


def command(settings: Mapping[str, Any], runs: str | Path = "runs") -> str:
    """The command that makes or continues a run.

    Args:
        settings: what ``settings.json`` holds.
        runs: the folder of run folders.

    Returns:
        A line for a shell; for what only Python can ask for (say, another number of layers), lines of Python.

    Raises:
        UserError: these are no settings, or the data and code that are here would make another run of them.
    """
    try:
        wanted = Experiment.model_validate(settings)
    except ValidationError as error:
        raise UserError(f"settings: {in_words(error, Experiment, settings)}") from error
    except (KeyError, TypeError) as error:  # one setting's check needs another's value
        raise UserError(f"settings: expected those of an experiment, got some without {error}") from error
    where = wanted.case_file or wanted.case
    base = {name: getattr(wanted, field) for field, name in _NAMES.items()}
    asked = _differing(wanted, experiment(where, wanted.arm, **base))
    if (made := experiment(where, wanted.arm, **base, **asked).name) != wanted.name:
        raise UserError(
            f"expected to make the run {wanted.name} of its settings, would make {made}: the case, its data or mfbench "
            "are others here than when it was begun"
        )
    words = _words(asked)
    if words is None:
        given = [repr(where), repr(wanted.arm), *(f"{name}={value!r}" for name, value in (base | asked).items())]
        return f"import mfbench\n\nmfbench.run(mfbench.experiment({', '.join(given)}), {str(runs)!r})"
    usual = {name: Experiment.model_fields[field].default for field, name in _NAMES.items()}
    first = [(_option(field), str(base[name])) for field, name in _NAMES.items() if base[name] != usual[name]]
    last = [("--runs", str(runs))] if Path(runs) != Path("runs") else []
    pairs = [("--arm", wanted.arm), *first, *words, *last]
    return shlex.join(["mfbench", "run", where, *(word for pair in pairs for word in pair if word)])


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _differing(wanted: Experiment, usual: Experiment) -> dict[str, Any]:
    """The arguments of ``experiment`` that make the one of the other."""
    asked: dict[str, Any] = {}
    for name in Experiment.model_fields.keys() - _NAMES.keys() - {"case", "arm", "case_file", "resolved"}:
        mine, other = (
            value.model_dump() if isinstance(value, BaseModel) else value
            for value in (getattr(wanted, name), getattr(usual, name))
        )
        if mine != other:
            nested = isinstance(mine, dict) and name != "further"
            asked[name] = {key: one for key, one in mine.items() if one != other.get(key)} if nested else mine
    if usual.epochs is not None and wanted.epochs is None:  # a preset's budget in epochs gives way to one in steps
        asked["optimisation"] = {**asked.get("optimisation", {}), "steps": wanted.optimisation.steps}
        del asked["epochs"]
    return dict(sorted(asked.items()))


def _words(asked: Mapping[str, Any]) -> list[tuple[str, str]] | None:
    """Options of `mfbench run` and their values; None where there are none for something."""
    words: list[tuple[str, str]] = []
    for name, value in asked.items():
        if name in _OPTIONS:
            words.append((_option(name), str(value)))
        elif name == "exceed_max_train":
            words.append((_option(name), ""))
        elif name == "optimisation" and value.keys() <= set(_OPTIMISATION):
            words += [(_option(key), str(one)) for key, one in value.items()]
        elif name == "labels":
            words += _label_words(value)
            if ("--noise", "") in words:
                return None
        elif name == "arm_options":
            words += [("--arm-option", f"{key}={one}") for key, one in _flat(value)]
        elif name == "further" and value:
            words += [("--further", level if n is None else f"{level}={n}") for level, n in value.items()]
        else:
            return None
    return words


def _label_words(labels: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in labels.items():
        if name == "noise":
            for kind, size in value.items():
                yield "--noise", _noise_word(kind, size)
        elif name == "high_forces":
            yield _option(name), str(value)
        else:
            yield f"--no-{name.replace('_', '-')}", ""


def _noise_word(kind: str, size: float) -> str:
    """Noise of a size in eV, in kcal/mol, with as many digits as it takes to get the same number back."""
    texts = [f"{size / units.EV_PER_KCAL:.{digits}g}" for digits in range(1, 18)]
    found = next((text for text in texts if float(text) * units.EV_PER_KCAL == size), None)
    return "" if found is None else f"{kind.replace(' ', '-')}={found}"


def _flat(options: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Nested options as ``outer.inner`` and YAML."""
    for key, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", yaml.safe_dump(value).partition("\n")[0]
