"""What a format is: how another code wants labels named, what it is given where there is none, and its input files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mfbench.study.experiment import Experiment
from mfbench.study.prepare import Prepared
from mfbench.study.visible import Visible

Part = Literal["train", "valid", "test"]
Kind = Literal["energy", "forces"]

PARTS: tuple[Part, ...] = ("train", "valid", "test")
KINDS: tuple[Kind, ...] = ("energy", "forces")


@dataclass(frozen=True)
class AtomicEnergies:
    """A level's atomic energies, fitted to the training labels."""

    energies: Mapping[int, float]  # eV, by atomic number
    determined: bool = True  # whether the energies trained on tell each of them
    come_from: str = ""  # in words, what tells the others


@dataclass(frozen=True)
class Level:
    """A level that an arm sees labels of, as another code is told of it."""

    name: str
    slug: str  # safe in keys and file names
    column: int  # of the structures' labels
    keys: Mapping[Kind, str]  # no key for what no structure has in either part
    atomic: AtomicEnergies


@dataclass(frozen=True)
class Data:
    """All that a format writes from."""

    settings: Experiment
    prepared: Prepared
    split: str
    parts: Mapping[Part, Visible]  # the test part without any label
    levels: tuple[Level, ...]  # from low to high
    high: str  # slug of the high level

    def count(self, level: Level, kind: Kind, part: Part) -> int:
        """How many structures of a part have that label."""
        return int(getattr(self.parts[part], kind)[:, level.column].sum())

    def structures(self, part: Part, level: Level | None = None) -> int:
        """How many structures a part has, or how many with a label of one level."""
        seen = self.parts[part]
        return len(seen.indices) if level is None else int((seen.energy | seen.forces)[:, level.column].sum())


@dataclass(frozen=True)
class Format:
    """How a code wants its data.

    Attributes:
        write: (data, format, part, path) -> the files written, ``path`` first. They appear whole, by rename.
        recipe: (data, files of each part that has structures) -> text by name of the files that the code is trained
            from; they stand in the folder of the parts.
        about: more for the JSON file of a part: (data, part, files).
        key: (kind, slug) -> name of a label.
        heads: a frame for each structure and level, and a file a level beside the joint one.
        nan: every frame has every key, NaN where there is no label; else the key is left out.
        suffixes: of the file that ``write`` is given; the first is taken where all parts are written.
    """

    name: str
    notes: tuple[str, ...]
    write: Callable[["Data", "Format", Part, Path], list[Path]]
    recipe: Callable[[Data, Mapping[Part, list[Path]]], Mapping[str, str]] = lambda data, files: {}
    about: Callable[[Data, Part, list[Path]], Mapping[str, Any]] = lambda data, part, files: {}
    key: Callable[[Kind, str], str] = lambda kind, slug: f"{kind}_{slug}"
    heads: bool = False
    nan: bool = False
    number: Callable[[int], int | float] = int  # how a structure's number is written
    suffixes: tuple[str, ...] = (".extxyz", ".xyz")


def script(name: str) -> str:
    """A program that is written beside the data as it stands in ``scripts``."""
    return (Path(__file__).parent / "scripts" / name).read_text(encoding="utf-8")
