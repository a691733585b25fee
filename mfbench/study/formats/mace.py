"""MACE: a head a level, each with files of its own, and a configuration that ``mace_run_train`` takes as it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mfbench.study.formats import extxyz
from mfbench.study.formats.base import Data, Format, Part

VALID_FRACTION = 0.1  # of the training frames of a head that has no validation frames

COMMENT = """\
# Train:    mace_run_train --config mace.yaml         (in this folder; an option given there overrides this file's)
# Predict:  mace_eval_configs --configs test.extxyz --model mfbench.model --output HEAD.extxyz --head HEAD
# Judge:    mfbench evaluate --export test.extxyz.json --name MACE --predictions LEVEL=HEAD.extxyz
# The heads stand from low to high level, and have to: MACE selects its checkpoint by the loss of the last head.
# A head without validation frames of its own has a valid_fraction, which MACE takes from its training frames.
"""


def _head(data: Data, slug: str, files: Mapping[Part, Path]) -> dict[str, Any]:
    (level,) = (one for one in data.levels if one.slug == slug)
    found = {f"{part}_file": file.name for part, file in files.items()}
    return {**found, "E0s": str(dict(level.atomic.energies))}  # as text: MACE reads it with ast.literal_eval


def about(data: Data, part: Part, files: list[Path]) -> dict[str, Any]:
    """The heads that a part has, as MACE's ``heads:`` takes them."""
    if part == "test":
        return {}
    by_slug = extxyz.level_files(data, MACE, part, files[0])
    return {"mace_heads": {slug: _head(data, slug, {part: file}) for slug, file in by_slug.items()}}


def recipe(data: Data, files: Mapping[Part, list[Path]]) -> dict[str, str]:
    """``mace.yaml``: everything that MACE is not good at guessing; sizes and rates are its own defaults."""
    by_part = {part: extxyz.level_files(data, MACE, part, files[part][0]) for part in files if part != "test"}
    heads = {}
    for level in data.levels:
        if level.slug not in by_part["train"]:
            continue
        own: dict[Part, Path] = {part: found[level.slug] for part, found in by_part.items() if level.slug in found}
        heads[level.slug] = _head(data, level.slug, own)
        if "valid" not in own:
            heads[level.slug]["valid_fraction"] = VALID_FRACTION
    content = {
        "name": "mfbench",
        "seed": data.settings.seed,
        "energy_key": "REF_energy",
        "forces_key": "REF_forces",
        "heads": heads,
    }
    return {"mace.yaml": COMMENT + yaml.safe_dump(content, sort_keys=False, width=10**6)}


MACE = Format(
    name="mace",
    notes=(
        "MACE gives every frame of a file to the head that names the file, whatever `head` says in the frame: "
        "train from the files of `mace_heads`, which is what `heads:` in MACE's configuration takes, in the order from "
        "low to high (MACE selects its checkpoint by the last head).",
        "A missing label has no key and config_energy_weight or config_forces_weight 0.",
    ),
    write=extxyz.write,
    about=about,
    recipe=recipe,
    key=lambda kind, slug: f"REF_{kind}",
    heads=True,
)
