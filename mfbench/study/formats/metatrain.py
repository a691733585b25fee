"""metatrain: a target a level, NaN where there is no label, and the options that ``mtt train`` takes as they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mfbench.study.formats import extxyz
from mfbench.study.formats.base import Data, Format, Level, Part, script

VALID_FRACTION = 0.1  # of the training structures, where there are none to validate on

COMMENT = """\
# Train:    mtt train options.yaml -o model.pt        (in this folder)
# Predict:  python predict.py model.pt      (energies and forces of every level)
#       or  mtt eval model.pt eval.yaml -e extensions/ -o output.xyz     (energies alone)
# Judge:    mfbench evaluate --export test.extxyz.json --name metatrain --predictions predicted.extxyz
"""


def target(level: Level) -> str:
    """A variant of metatrain's standard output ``energy``, which its calculators can choose."""
    return f"energy/{level.slug}"


def targets(data: Data, part: Part) -> dict[str, Any]:
    """The targets that are labelled in a part: metatrain refuses to judge what has no label at all."""
    return {
        target(level): {
            "quantity": "energy",
            "key": level.keys["energy"],
            "unit": "eV",
            "forces": {"key": level.keys["forces"]} if data.count(level, "forces", part) else False,
        }
        for level in data.levels
        if data.count(level, "energy", part)
    }


def about(data: Data, part: Part, files: list[Path]) -> dict[str, Any]:
    """What ``targets:`` of a set takes."""
    return {} if part == "test" else {"metatrain_targets": targets(data, part)}


def recipe(data: Data, files: Mapping[Part, list[Path]]) -> dict[str, str]:
    """``options.yaml`` and ``eval.yaml``, and a program that predicts forces of every level, too."""

    def systems(part: Part) -> dict[str, str]:
        return {"read_from": files[part][0].name, "length_unit": "angstrom"}

    def labelled(part: Part) -> dict[str, Any]:
        return {"systems": systems(part), "targets": targets(data, part)}

    baseline = {target(one): dict(one.atomic.energies) for one in data.levels if data.count(one, "energy", "train")}
    options = {
        "seed": data.settings.seed,
        "base_precision": 64,  # total energies in float32 are steps of 2e-4 eV and more
        "architecture": {"name": "soap_bpnn", "training": {"atomic_baseline": baseline}},
        "training_set": labelled("train"),
        "validation_set": labelled("valid") if "valid" in files and targets(data, "valid") else VALID_FRACTION,
    }
    return {
        "options.yaml": COMMENT + yaml.safe_dump(options, sort_keys=False),
        "eval.yaml": yaml.safe_dump({"systems": systems("test")}, sort_keys=False),
        "predict.py": script("predict.py"),
    }


METATRAIN = Format(
    name="metatrain",
    notes=(
        "metatrain wants every key in every frame: a missing label is NaN, which it leaves out of its loss and its "
        "metrics, energies and forces alike (tried with 2026.4.1), but not out of its fit of atomic energies: give it "
        "`atomic_baseline`, as options.yaml does.",
        "`metatrain_targets` is what `targets:` of this part takes: the targets that are labelled in it, no others.",
        "`mtt eval` writes frames of its own, without these keys; they are known by order, elements and positions.",
    ),
    write=extxyz.write,
    about=about,
    recipe=recipe,
    nan=True,
)
