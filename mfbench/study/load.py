"""Rebuilds the model of a finished run from its folder, with no data at hand."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mfbench.errors import UserError
from mfbench.files import read_json
from mfbench.learning import arms
from mfbench.learning.problem import Levels
from mfbench.learning.threads import device_of
from mfbench.results.folder import METRICS_FILE, SETTINGS_FILE, WEIGHTS_FILE, is_finished, read_metrics
from mfbench.study.build import untrained
from mfbench.study.experiment import Experiment
from mfbench.study.prepare import levels_of
from mfbench.study.trained import Committee, DType, Model


@overload
def load(  # type: ignore[overload-overlap]  # a str is a sequence of str, but never meant as one
    run: str | os.PathLike[str], device: str = "auto", dtype: DType | None = None
) -> "Model": ...


@overload
def load(run: Sequence[str | os.PathLike[str]], device: str = "auto", dtype: DType | None = None) -> "Committee": ...


def load(
    run: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], device: str = "auto", dtype: DType | None = None
) -> "Model | Committee":
    """The model of a finished run, or the committee of several.

    Args:
        run: a run folder; or several, for a committee.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:k``.
        dtype: what the network computes in; by default what it was trained in. Energies are float64 all the same.

    Raises:
        UserError: no such folder; a run that is not finished; a file that is missing or damaged.
    """
    where = _device(device)
    if dtype not in (None, "float32", "float64"):
        raise UserError(f"dtype: expected float32 or float64, got {dtype!r}")
    if isinstance(run, str | os.PathLike):
        return _load(Path(run), where, dtype)
    folders = [Path(one) for one in run]
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise UserError(
            f"a committee: expected two or more different run folders, got {', '.join(map(str, folders)) or 'none'}"
        )
    return Committee([_load(folder, where, dtype) for folder in folders])


# Run folders


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device(device_of(name))
    unknown_device = UserError(
        f"unknown device {name!r}: expected cpu, cuda or cuda:K (several runs, for a committee, go in one list)"
    )
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise unknown_device from error
    if device.type not in ("cpu", "cuda"):
        raise unknown_device
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name!r}: torch sees {torch.cuda.device_count()} GPUs here; use cpu")
    return device


def _load(run: Path, device: torch.device, dtype: DType | None) -> Model:
    low, high = _ends(run)
    settings = _settings(run)
    weights, named = _weights(run)
    try:
        levels, heads = (tuple(map(str, json.loads(named[key]))) for key in ("levels", "heads"))
        elements = tuple(int(z) for z in json.loads(named["elements"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run / WEIGHTS_FILE}: expected it to name its levels, heads and elements; found {sorted(named)}: made by "
            "an earlier version of mfbench? Delete the folder and run the experiment again"
        ) from error
    asked = levels_of(settings, levels, low, high)
    potential = untrained(settings, asked, elements)
    if (dtype or settings.dtype) == "float64":
        potential = potential.double()
    try:
        if potential.heads != heads:
            raise UserError(f"heads: {potential.heads=} != {heads}")
        # Each tensor is cast to the type of the one that it replaces: atomic energies stay float64.
        potential.load_state_dict(weights)
    except (RuntimeError, UserError) as error:
        raise UserError(
            f"{run}: the weights are not those of the network that {SETTINGS_FILE} describes: "
            f"{' '.join(str(error).split()):.300}; were files of two runs mixed, or does the code of an arm or "
            "backbone differ from that which trained it?"
        ) from error
    potential = potential.to(device).eval().requires_grad_(False)
    return Model(run.resolve().name, settings, potential, elements, _trained_on(settings, asked))


def _ends(run: Path) -> tuple[str, str]:
    """The low and the high level of a finished run."""
    if not run.is_dir():
        raise UserError(f"{run}: expected a run folder, as `mfbench run` makes them; there is no such folder")
    if not is_finished(run):
        if (run / SETTINGS_FILE).is_file():
            raise UserError(
                f"{run}: expected a finished run, got one without {METRICS_FILE}; the command that began it "
                "goes on where it was"
            )
        inside = sorted(path.parent.name for path in run.glob(f"*/{METRICS_FILE}"))
        more = f"; name one of those in it: {', '.join(inside[:5])}" if inside else ""
        raise UserError(f"{run}: expected a run folder with {METRICS_FILE}, found none{more}")
    table = read_metrics(run / METRICS_FILE)
    if not (run / WEIGHTS_FILE).is_file():
        remarks = [remark for remark in table["remark"].unique() if remark] if not table["n"].any() else []
        raise UserError(
            f"{run}: expected {WEIGHTS_FILE} in it, found none: "
            + (f"it could not be trained ({remarks[0]})" if remarks else "lost, or judged without being trained here")
        )
    by_role = dict(zip(table["role"], table["level"]))
    if not {"low", "high"} <= by_role.keys():
        raise UserError(f"{run / METRICS_FILE}: expected rows of the roles low and high, got {set(by_role)}")
    return by_role["low"], by_role["high"]


def _settings(run: Path) -> Experiment:
    path = run / SETTINGS_FILE
    content = read_json(path)
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path}: {where}: {first['msg']}; expected what `mfbench run` wrote: was it edited, or made by another "
            "version of mfbench?"
        ) from error


def _weights(run: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and what the file says of itself."""
    path = run / WEIGHTS_FILE
    try:
        with safe_open(path, "pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: expected weights as safetensors, got a damaged file ({error}); delete the folder and run the "
            "experiment again"
        ) from error


def _trained_on(settings: Experiment, levels: Levels) -> str:
    """Which labels of which level, from high to low, for people."""
    chosen = arms.arm(settings.arm)
    parts = []
    for term in reversed(chosen.learns(levels, chosen.options.model_validate(settings.arm_options))):
        kinds = [kind for kind, there in (("energies", term.energy), ("forces", term.forces)) if there]
        text = f"{' and '.join(kinds)} of {term.level}"
        if term.level == levels.high and term.forces and settings.high_forces < 1:
            text += f" (forces of {settings.high_forces:.0%} of its structures)"
        parts.append(text if chosen.fits_networks(term.level, levels) else f"{text} (atomic energies alone)")
    return ", ".join(parts) + (", with noise added to the labels" if any(settings.labels.noise.values()) else "")
