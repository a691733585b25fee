"""hippynn: NaN where there is no label, and a program that trains on it and predicts."""

from collections.abc import Mapping
from pathlib import Path

from mfbench.study.formats import extxyz
from mfbench.study.formats.base import Data, Format, Part, script


def recipe(data: Data, files: Mapping[Part, list[Path]]) -> dict[str, str]:
    """``train_hippynn.py``, which reads all else from the JSON files."""
    return {"train_hippynn.py": script("train_hippynn.py")}


HIPPYNN = Format(
    name="hippynn",
    notes=(
        "hippynn wants every key in every frame: a missing label is NaN, which the loss has to leave out. Its own "
        "WeightedMSELoss and WeightedMAELoss divide 0 by 0 in a batch without labels; train_hippynn.py has a masked "
        "loss of eight lines.",
        "Set torch's default dtype to float64 before data are loaded, and subtract `atomic_energies`, as "
        "train_hippynn.py does: total energies in float32 are steps of 2e-4 eV and more.",
        "AseDatabase takes its directory with a slash at the end, keeps floats and arrays of a frame alone (so "
        "`mfbench_structure` is a float here), and sorts frames by size: `mfbench evaluate` puts predictions that "
        "carry `mfbench_structure` back in order.",
    ),
    write=extxyz.write,
    recipe=recipe,
    nan=True,
    number=float,
)
