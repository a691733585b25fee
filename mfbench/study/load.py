"""Rebuilds the model of a finished run from its folder, with no data at hand."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError

from mfbench.errors import UserError
from mfbench.files import digest, parse_json
from mfbench.learning import arms
from mfbench.learning.problem import Levels
from mfbench.learning.threads import device_of
from mfbench.models.backbones import kinds
from mfbench.models.determined import Known
from mfbench.records import in_words
from mfbench.results.folder import (
    METRICS_FILE,
    PROVENANCE_FILE,
    SEAL_FILE,
    SETTINGS_FILE,
    WEIGHTS_FILE,
    WEIGHTS_KEY,
    RunFolder,
)
from mfbench.study.build import untrained
from mfbench.study.experiment import Experiment
from mfbench.study.prepare import levels_of
from mfbench.study.trained import Committee, DType, Model

_BIG = 10**8  # numbers in a network, roughly: from there on, their shapes are compared before it is made


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


def _device(name: str) -> torch.device:
    try:
        return torch.device(device_of(name))
    except UserError as error:
        raise UserError(f"{error} (several runs, for a committee, go in one list)") from error


def _load(run: Path, device: torch.device, dtype: DType | None) -> Model:
    folder = RunFolder(run)
    low, high = _ends(folder)
    settings = _settings(folder)
    content = folder.read(WEIGHTS_FILE)
    shapes, said = _header(content, folder.file(WEIGHTS_FILE))
    try:
        levels, heads = (tuple(map(str, said[key])) for key in ("levels", "heads"))
        elements = tuple(int(z) for z in said["elements"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run / WEIGHTS_FILE}: expected it to name its levels, heads and elements; found {sorted(said)}: made by "
            "an earlier version of mfbench? Delete the folder and run the experiment again"
        ) from error
    if len(elements) > 118 or len(levels) > 100:
        raise UserError(
            f"{run / WEIGHTS_FILE}: expected some levels and elements, got {len(levels):,} and {len(elements):,}"
        )
    asked = levels_of(settings, levels, low, high)
    _compare(run, shapes, settings, asked, elements)
    potential = untrained(settings, asked, elements)
    if (dtype or settings.dtype) == "float64":
        potential = potential.double()
    try:
        if potential.heads != heads:
            raise UserError(f"heads: {potential.heads=} != {heads}")
        # Each tensor is cast to the type of the one that it replaces: atomic energies stay float64.
        potential.load_state_dict(safetensors.torch.load(content))
    except (RuntimeError, UserError, SafetensorError) as error:
        raise _others(run, " ".join(str(error).split())) from error
    potential = potential.to(device).eval().requires_grad_(False)
    return Model(folder.name, settings, potential, elements, _trained_on(settings, asked), known_of(run))


def known_of(run: Path) -> Known | None:
    """What a finished run recorded of what it was trained on; None where it did not yet."""
    folder = RunFolder(run)
    said = folder.provenance().get("trained_on")
    if said is None:
        return None
    try:
        return Known.of_json(said)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder.file(PROVENANCE_FILE)}: trained_on: expected what `mfbench run` wrote, got {error}: edited?"
        ) from error


def _others(run: Path, what: str) -> UserError:
    return UserError(
        f"{run}: the weights are not those of the network that {SETTINGS_FILE} describes: {what:.300}; were files of "
        "two runs mixed, or does the code of an arm or backbone differ from that which trained it?"
    )


def _ends(folder: RunFolder) -> tuple[str, str]:
    """The low and the high level of a finished run."""
    run = folder.path
    if run.is_symlink() and not run.exists():
        raise UserError(f"{run}: expected a run folder, got a link to {os.readlink(run)}, which is not there")
    if not run.is_dir():
        raise UserError(f"{run}: expected a run folder, as `mfbench run` makes them; there is no such folder")
    if not folder.finished:
        if folder.file(SETTINGS_FILE).is_file():
            raise UserError(
                f"{run}: expected a finished run, got one without {SEAL_FILE}; the command that "
                "began it goes on where it was"
            )
        inside = sorted(path.parent.name for path in run.glob(f"*/{METRICS_FILE}"))
        more = f"; name one of those in it: {', '.join(inside[:5])}" if inside else ""
        raise UserError(f"{run}: expected a run folder with {METRICS_FILE}, found none{more}")
    table = folder.metrics()
    if WEIGHTS_FILE not in folder.listed():
        remarks = [remark for remark in table["remark"].unique() if remark] if not table["n"].any() else []
        raise UserError(
            f"{run}: expected {WEIGHTS_FILE} in it, found none: "
            + (f"it could not be trained ({remarks[0]})" if remarks else "lost, or judged without being trained here")
        )
    by_role = dict(zip(table["role"], table["level"]))
    if not {"low", "high"} <= by_role.keys():
        raise UserError(f"{run / METRICS_FILE}: expected rows of the roles low and high, got {set(by_role)}")
    return by_role["low"], by_role["high"]


def _settings(folder: RunFolder) -> Experiment:
    """The experiment of a run, if it is the one that the folder is named after."""
    path, content = folder.file(SETTINGS_FILE), folder.settings()
    try:
        settings = Experiment.model_validate(content)
    except ValidationError as error:
        raise UserError(
            f"{path}: {in_words(error, Experiment, content)}; expected what `mfbench run` wrote: was it edited, or "
            "made by another version of mfbench?"
        ) from error
    except (KeyError, TypeError, OverflowError, RecursionError) as error:  # one setting's check needs another's value
        raise UserError(
            f"{path}: expected what `mfbench run` wrote, got settings without {error}: was it edited?"
        ) from (error)
    try:
        name = settings.name
    except (UserError, OSError):  # somebody else's case or data, which are not here: there is the seal
        return settings
    if name not in (folder.path.name, folder.name) and not _was_named_so(folder, settings):
        raise UserError(
            f"{path}: expected the settings of the run {folder.name}, got those of {name}: was the file edited, or the "
            "folder renamed? Restore the file, or give the command that made it again"
        )
    return settings


def _was_named_so(folder: RunFolder, settings: Experiment) -> bool:
    """Whether the folder's name fits the settings with the case and the data as they were when it was made."""
    deciding = folder.provenance().get("deciding")
    if not isinstance(deciding, dict):
        return False
    own = json.loads(json.dumps(settings.deciding()))
    same = all(deciding.get(key) == own.get(key) for key in ("settings", "network", "arm_options"))
    return same and folder.path.resolve().name.endswith(
        f"-{digest(json.dumps(deciding, sort_keys=True).encode())[:10]}"
    )


def _header(content: bytes, path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """Shapes of the tensors in a safetensors file by name, and what the file says of the potential."""
    try:
        size = int.from_bytes(content[:8], "little")
        if not 0 < size <= len(content) - 8:
            raise ValueError(f"a header of {size:,} bytes in a file of {len(content):,}")
        header = parse_json(content[8 : 8 + size], path)
        named = header.pop("__metadata__", {})
        shapes = {name: tuple(map(int, one["shape"])) for name, one in header.items()}
        # Until there were seals, each had a key of its own.
        said = json.loads(named[WEIGHTS_KEY]) if WEIGHTS_KEY in named else {k: json.loads(v) for k, v in named.items()}
        return shapes, dict(said)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: expected weights as safetensors, got a damaged file ({error}); delete the folder and run the "
            "experiment again"
        ) from error


def _compare(
    run: Path, found: dict[str, tuple[int, ...]], settings: Experiment, levels: Levels, elements: tuple[int, ...]
) -> None:
    """Raise UserError where a file's weights are not those that the settings ask for, before big ones are made."""
    sizes = [value for value in settings.network.values() if isinstance(value, int) and value > 0]
    there, most = sum(map(math.prod, found.values())), math.prod(sizes) * max(sizes, default=1)
    # Every network has a square matrix of features for each of its layers.
    per_layer = settings.network.get("n_features", 1) ** 2
    layers = settings.network.get("n_interactions", 1) * max(1, settings.network.get("n_atom_layers", 1))
    if settings.backbone in [kind.name for kind in kinds.BACKBONES] and there < (least := per_layer * layers):
        raise _others(run, f"expected {least:,} weights or more, got {there:,}")
    if most < _BIG:  # what little there is can be made, and is then compared by name
        return
    try:
        with torch.device("meta"):  # shapes alone; the first time takes seconds
            potential = untrained(settings, levels, elements)
    except UserError:
        raise
    except Exception:  # whatever is raised where numbers have no values; SchNetPack's networks cannot be made so
        return
    expected = {name: tuple(one.shape) for name, one in potential.state_dict().items()}
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            got, wanted = (str(list(one[name])) if name in one else "none" for one in (found, expected))
            raise _others(run, f"{name}: expected shape {wanted}, got {got}")


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
