"""What a dataset is: files, hashes, licence, citation, and the level and unit of every label.

A manifest is data (one YAML file in ``data_manifests/``): schema-checked, unknown keys refused, no code.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mfbench import resources, theory, units
from mfbench.data import cache
from mfbench.data.findings import ACCEPTABLE
from mfbench.elements import SYMBOLS
from mfbench.errors import DataCorrupt, UserError, unknown
from mfbench.extensions import Registry
from mfbench.files import sha256
from mfbench.records import Record, read_yaml


def _has_dimension(expected: str, *others: str) -> Any:
    def check(unit: str) -> str:
        # People write a known unit in many ways; what is stored is one.
        unit = units.spelled(unit) or unit
        if units.dimension(unit) not in (expected, *others):
            raise ValueError(f"expected a unit of {expected}, got {unit!r}, a unit of {units.dimension(unit)}")
        return unit

    return AfterValidator(check)


def plain_name(path: str) -> str:
    """The name, if it can name a file or folder and leads nowhere else; raises ValueError otherwise."""
    if PurePosixPath(path).name != path or "\\" in path or path in ("", ".", ".."):
        raise ValueError(f"expected a plain file name, got {path!r}")
    if not path.isprintable() or len(path) > 200:
        raise ValueError(f"expected a plain file name of at most 200 characters, got {path!r:.80}")
    return path


def safe_name(name: str) -> str:
    """The name, if a shell, an option parser and every file system take it for a name; raises ValueError otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+()-]{0,99}", name):
        raise ValueError(
            "expected letters, digits and any of . _ + ( ) - (at most 100, the first a letter or digit), got "
            f"{name!r:.80}"
        )
    return name


def _safe_path(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or str(pure) != path or path == ".":
        raise ValueError(f"expected a plain relative path, got {path!r}")
    return path


def _safe_url(url: str) -> str:
    if not url.startswith(("https://", "http://", "file://")):
        raise ValueError(f"expected an https, http or file URL, got {url!r}")
    return url


Text = Annotated[str, BeforeValidator(lambda v: str(v) if isinstance(v, int) and not isinstance(v, bool) else v)]

Keys = Annotated[tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)]

LevelName = Annotated[str, AfterValidator(lambda name: theory.level(name).name)]


class Energy(Record):
    """Where an energy is in the file. The values of several keys are added (e.g. HF + correlation)."""

    key: Keys
    unit: Annotated[str, _has_dimension("energy", "energy/atom")]


class Forces(Record):
    """Where forces are in the file."""

    key: Keys
    unit: Annotated[str, _has_dimension("force")]
    gradient: bool | None = Field(None, description="true: the file holds the gradient, minus the forces")

    @model_validator(mode="after")
    def _sign_is_said(self) -> "Forces":
        if self.gradient is None and (named := [key for key in self.key if "grad" in key.lower()]):
            raise ValueError(f"key {named[0]!r} is called a gradient, minus the forces: expected `gradient: true`")
        return self


class Labels(Record):
    """The labels of one level of theory, and how many structures have them."""

    level: LevelName
    where: dict[str, Text] = Field({}, description="keys of a structure and the values that it must have: head: dft")
    energy: Energy | None = None
    forces: Forces | None = None
    n_energy: int | None = Field(None, ge=0, description="null: not known beforehand, reported and not checked")
    n_forces: int | None = Field(None, ge=0)


def _atoms(given: dict[str, float | str]) -> dict[str, float | str]:
    """Free atoms of a level as a manifest has them; raises ValueError where they are not sound."""
    unit, known = given.get("unit"), [symbol for number, symbol in SYMBOLS.items() if number]
    if not isinstance(unit, str) or units.dimension(unit) != "energy":
        raise ValueError(f"expected unit: a unit of energy, got {unit!r}")
    for symbol, energy in given.items():
        if symbol != "unit" and (symbol not in known or isinstance(energy, str) or not math.isfinite(energy)):
            raise ValueError(f"expected an energy for some of {', '.join(known)}, got {symbol}: {energy!r}")
    return given


class LabelKind(Record):
    """A kind of label: energies or forces at a level."""

    level: LevelName
    label: Literal["energy", "forces"]


class Content(Record):
    """What a file holds, beyond what its format says."""

    molecule: str | None = Field(None, description="name of its molecule, where the file itself has none")
    set: str | None = Field(None, description="named set that its structures belong to, e.g. train")
    levels: tuple[LevelName, ...] = Field((), description="which of the dataset's levels it holds; all by default")
    labels: tuple[Labels, ...] = Field((), description="where they are in this file, in place of the dataset's")
    index_of: str | None = Field(None, description="it lists the rows that make up this named set, one a line")
    n_structures: int | None = Field(None, gt=0)


class Member(Content):
    """A file inside an archive. Its path is compared, never written to."""

    path: Annotated[str, AfterValidator(_safe_path)]
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$")

    @property
    def name(self) -> str:
        """The file's own name, without folders."""
        return PurePosixPath(self.path).name


class DataFile(Content):
    """One file of a dataset: plain, or an archive of which the members are read.

    Where nobody published a hash of the whole (``sha256`` is absent), the members' own checks stand for it.
    """

    name: Annotated[str, AfterValidator(plain_name)]
    bytes: int | None = Field(None, gt=0)
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    urls: tuple[Annotated[str, AfterValidator(_safe_url)], ...] = ()
    members: tuple[Member, ...] = ()

    @model_validator(mode="after")
    def _checkable(self) -> "DataFile":
        if self.sha256 is None and not self.members:
            raise ValueError(f"file {self.name}: expected a sha256, or members with checks of their own")
        names = [member.name for member in self.members]
        if len(set(names)) < len(names):
            raise ValueError(f"file {self.name}: expected members of different names, got {sorted(names)}")
        return self

    @property
    def contents(self) -> tuple["DataFile | Member", ...]:
        """The files that are read: its members, or itself."""
        return self.members or (self,)


class Probe(Record):
    """A value that the right data have and no other: checked by ``mfbench data check``.

    ``mean energy`` and ``mean absolute force`` (component) are means over a molecule's structures; ``has energy``
    asks that one of them has this energy.
    """

    quantity: Literal["mean energy", "mean absolute force", "has energy"]
    level: LevelName
    molecule: str | None = None
    value: float
    tolerance: float = Field(gt=0)
    unit: str
    source: str = Field(description="where the value comes from")

    @model_validator(mode="after")
    def _right_dimension(self) -> "Probe":
        expected = "force" if "force" in self.quantity else "energy"
        if units.dimension(self.unit) != expected:
            raise ValueError(f"{self.quantity}: expected a unit of {expected}, got {self.unit!r}")
        return self


class Citation(Record):
    """Who made the data."""

    text: str
    doi: str | None = None
    bibtex: str = ""


TAGGED = ("extxyz", "ase", "hdf5")  # formats in which a structure has keys of its own

# Formats whose readers look at a key: in another one it would be left aside without a word.
_READ_BY = {
    "molecule_key": (*TAGGED, "ani1x"),
    "set_key": (*TAGGED, "ani1x"),
    "ignored_keys": (*TAGGED, "ani1x", "rmd17", "sgdml"),
    "numbers_key": ("hdf5", "ani1x"),
    "positions_key": ("hdf5", "ani1x"),
    "comment": ("extxyz",),
    "columns": ("extxyz",),
}


class Manifest(Record):
    """A dataset, declared."""

    name: Annotated[str, AfterValidator(safe_name)]
    title: str
    format: Literal["ani1x", "rmd17", "sgdml", "extxyz", "ase", "hdf5", "own"]  # own: see Dataset.read
    license: str
    doi: str | None = Field(None, description="of the data themselves")
    citation: Citation
    length_unit: Annotated[str, _has_dimension("length")] = "Angstrom"
    molecule_key: str | None = Field(None, description="extxyz, ase, hdf5: key that names a structure's molecule")
    set_key: str | None = Field(None, description="extxyz, ase, hdf5: key that names a structure's set, e.g. split")
    charge_key: str | None = Field(None, description="key of a structure's charge, beside those of molecules.py")
    spin_key: str | None = Field(None, description="key of its multiplicity, beside those of molecules.py")
    numbers_key: str | None = Field(None, description="hdf5, a group a molecule: key of its elements")
    positions_key: str | None = Field(None, description="hdf5, a group a molecule: key of its positions")
    comment: tuple[str, ...] = Field((), description="extxyz: names of the words of a comment line without keys")
    columns: dict[str, int] = Field({}, description="extxyz: number of the first of the three columns of such an array")
    vacuum_boxes: bool = Field(False, description="its periodic boxes hold one molecule each, with vacuum about it")
    ignored_keys: tuple[str, ...] = Field((), description="keys that part its labels and are left aside on purpose")
    version: str = Field("", description="of a reader of one's own: changed with what it reads, as old runs differ")
    shipped: bool = False
    files: tuple[DataFile, ...] = Field(min_length=1)
    labels: tuple[Labels, ...] = Field(min_length=1)
    n_structures: int | None = Field(None, gt=0, description="null: not known beforehand")
    n_molecules: int | None = Field(None, gt=0)
    max_train: int | None = Field(None, gt=0, description="most structures that may be trained on, by its authors")
    probes: tuple[Probe, ...] = ()
    accept: Annotated[tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)] = Field(
        (), description="names of checks that these data may fail, e.g. overlapping atoms; with a reason"
    )
    reason: str = Field("", max_length=300, description="why those checks may fail")
    failed: tuple[str, ...] | None = Field(None, description="those of `accept` that did fail; found at import")
    free_atoms: dict[LevelName, Annotated[dict[str, float | str], AfterValidator(_atoms)]] = Field(
        default_factory=dict, description="by level: the unit, and energies of free atoms by symbol, e.g. H: -13.6"
    )
    notes: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        names = [labels.level for labels in self.labels]
        if len(set(names)) < len(names):
            raise ValueError(f"labels: expected each level once, got {names}")
        files = [file.name for file in self.files]
        if len(set(files)) < len(files):
            raise ValueError(f"files: expected different names, got {files}")
        for key, formats in _READ_BY.items():
            if getattr(self, key) and self.format not in (*formats, "own"):
                raise ValueError(
                    f"{key}: expected none in the format {self.format}: it is read in {', '.join(formats)}"
                )
        contents = [content for file in self.files for content in file.contents]
        self._labels_of_files(contents)
        held = [level for one in contents for level in (*one.levels, *(labels.level for labels in one.labels))]
        if strange := set(held) - set(names):
            raise ValueError(f"files: {sorted(strange)} are not among the levels {names}")
        if self.format not in TAGGED and any(
            one.where for one in (*self.labels, *(x for c in contents for x in c.labels))
        ):
            raise ValueError(f"labels: expected no `where` in the format {self.format}: {', '.join(TAGGED)} have keys")
        if strange := set(self.free_atoms) - set(names):
            raise ValueError(f"free_atoms: {sorted(strange)} are not among the levels {names}")
        for probe in self.probes:
            if probe.level not in names:
                raise ValueError(f"probes: {probe.level!r} is not among the levels {names}")
        self._acceptable()
        return self

    def _labels_of_files(self, contents: Sequence[Content]) -> None:
        """Raise ValueError where a file's labels would be left aside, or one of two would."""
        declared = {one.level: one for one in self.labels}
        for one in (one for content in contents for one in content.labels if one.level in declared):
            for kind in ("energy", "forces"):
                if getattr(one, kind) is not None and getattr(declared[one.level], kind) is None:
                    raise ValueError(
                        f"files: {kind} at {one.level}: expected {kind} among the dataset's labels of that level, too, "
                        "or no labels but the files'"
                    )
        for content in contents:
            told = [(one.level, tuple(sorted(one.where.items()))) for one in content.labels]
            if twice := {level for level, where in told if told.count((level, where)) > 1}:
                raise ValueError(f"files: labels: expected each level once, or each with its `where`, got {twice}")

    def labels_in(self, content: Content) -> tuple[Labels, ...]:
        """Where the labels are in one of its files."""
        return tuple(one for one in content.labels or self.labels if not content.levels or one.level in content.levels)

    def _acceptable(self) -> None:
        for one in self.accept:
            name, _, where = one.partition(", ")
            if name not in ACCEPTABLE or not set(where.split(" to ") if where else ()) <= set(self.levels):
                raise ValueError(
                    f"accept: expected names of checks, got {one!r}: they are {'; '.join(ACCEPTABLE)}; a level may "
                    f"follow, as in 'energies, {self.labels[0].level}'"
                )
        if bool(self.accept) != bool(self.reason.strip()) or not self.reason.isprintable():
            raise ValueError("accept and reason: expected both, names of checks and why they may fail in one line")

    @property
    def bytes(self) -> int:
        """Size of its files together, as far as it is declared."""
        return sum(file.bytes or 0 for file in self.files)

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the levels, from low to high."""
        return tuple(sorted((labels.level for labels in self.labels), key=theory.level))

    @property
    def declared_atoms(self) -> dict[str, dict[int, float]]:
        """The declared free atoms in eV, by level and atomic number."""
        return {
            name: {
                number: float(atoms[symbol]) * units.internal(str(atoms["unit"]))
                for number, symbol in SYMBOLS.items()
                if symbol in atoms
            }
            for name, atoms in self.free_atoms.items()
        }


@dataclass(frozen=True)
class Dataset:
    """A dataset of one's own (see ``extensions``): what it is, and what is not as usual with it."""

    manifest: Manifest
    folder: Path | None = None  # of its files, where they come with it (``shipped``); else they are downloaded
    # Yields structures.Frames of a file, for a ``format: own``: (file, what it holds, manifest).
    read: Callable[[Path, Content, Manifest], Iterator[Any]] | None = None

    @classmethod
    def beside(cls, file: Path, read: Callable[[Path, Content, Manifest], Iterator[Any]] | None = None) -> "Dataset":
        """The dataset that a YAML manifest declares, its files beside that; raises UserError where it is not sound."""
        return cls(read_yaml(file, Manifest), file.parent, read)

    @property
    def name(self) -> str:
        """The manifest's."""
        return self.manifest.name


def identity(declared: Manifest) -> str:
    """Hash of all that decides which numbers a dataset holds: files, hashes, keys, units, names of sets."""
    content = declared.model_dump(mode="json", include={"format", "length_unit", "molecule_key", "set_key", *_LATER})
    content |= {"version": declared.version} if declared.version else {}
    content |= {"free_atoms": declared.free_atoms} if declared.free_atoms else {}
    content |= {"accept": sorted(declared.accept)} if declared.accept else {}  # what was not asked of the numbers
    counts = {"n_energy", "n_forces"}
    content["labels"] = [one.model_dump(mode="json", exclude=counts) for one in declared.labels]
    content["files"] = [
        file.model_dump(mode="json", exclude={"urls": True, "labels": {"__all__": counts}}) for file in declared.files
    ]
    return hashlib.sha256(json.dumps(as_before(content), sort_keys=True).encode()).hexdigest()


def how_read(declared: Manifest) -> dict[str, Any]:
    """What else decides how a dataset's files are read, keys and units of its labels aside; mostly nothing."""
    content = as_before(declared.model_dump(mode="json", include=set(_LATER)))
    own = {
        file.name: [as_before(one.model_dump(mode="json", exclude={"n_energy", "n_forces"})) for one in file.labels]
        for file in declared.files
        if file.labels
    }
    return {**{key: value for key, value in content.items() if key != "labels"}, **({"files": own} if own else {})}


# Fields that came later, by what they are where nothing is said: left out then, so that old data keep their identity.
_LATER: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("charge_key", "spin_key", "numbers_key", "positions_key", "gradient"), (None,)),
    **dict.fromkeys(("comment", "columns", "ignored_keys", "where", "labels"), ([], {})),
    "vacuum_boxes": (False,),
}


def as_before(content: Any) -> Any:
    """What a manifest, or a part of it, would have been before the fields of ``_LATER`` came; theirs where they say
    something."""
    if isinstance(content, list):
        return [as_before(one) for one in content]
    if not isinstance(content, dict):
        return content
    return {key: as_before(value) for key, value in content.items() if value not in _LATER.get(key, ())}


def manifest_names() -> tuple[str, ...]:
    """Names of the datasets that are declared: shipped ones, one's own and those of packages, then imported ones."""
    own = sorted(path.stem for root in cache.roots() for path in root.glob("*/*.yaml") if path.stem == path.parent.name)
    return tuple(dict.fromkeys([*REGISTRY.names(), *own]))


def _shipped() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in resources.manifests().glob("*.yaml")))


REGISTRY = Registry(
    "datasets",
    Dataset,
    "a Dataset of that name, or the Path of its YAML file",
    _shipped,
    lambda found: Dataset.beside(found) if isinstance(found, Path) else found,
)


def manifest(given: "str | Manifest | Dataset") -> Manifest:
    """The manifest of the dataset called so: shipped, added (see ``extensions``), or imported; or a YAML file's.

    An object is added.

    Raises:
        UserError: there is no such dataset, or its manifest does not follow the schema.
    """
    if isinstance(given, Manifest):
        given = Dataset(given)
    if isinstance(given, Dataset):
        if given.name in _shipped() and given == Dataset(manifest(given.name)):
            return given.manifest
        REGISTRY.add(given)
        return given.manifest
    if given.endswith((".yaml", ".yml")):
        return read_yaml(Path(given), Manifest)
    if given in _shipped():
        return read_yaml(resources.manifests() / f"{given}.yaml", Manifest)
    if (own := own_dataset(given)) is not None:
        return own.manifest
    if PurePosixPath(given).name == given and (path := cache.find(given, f"{given}.yaml")):
        return read_yaml(path, Manifest)
    raise unknown("dataset", given, manifest_names())


def own_dataset(name: str) -> Dataset | None:
    """The dataset that was added by this name (see ``extensions``); raises UserError where it is no such thing."""
    return REGISTRY.own(name)


def shipped_folder(declared: Manifest) -> Path:
    """Where the files of a dataset are that come with mfbench, or with whoever added the dataset."""
    own = own_dataset(declared.name)
    return own.folder if own is not None and own.folder is not None else resources.mini_data()


def verified(file: DataFile, folder: Path) -> Path:
    """The path of a file below ``folder`` whose length and hash are the declared ones.

    Raises:
        UserError: there is no file of that name.
        DataCorrupt: there is one, but it is not the declared file.
    """
    candidates = sorted(folder.rglob(file.name)) if folder.is_dir() else []
    if not candidates:
        raise UserError(
            f"no file {file.name!r} in {folder}: name the folder that holds it with --data-folder"
            + (f", or download it from {file.urls[0]}" if file.urls else "")
        )
    path = candidates[0]
    check_file(file, path)
    return path


def check_file(file: DataFile, path: Path) -> None:
    """Raise DataCorrupt where a file's length or hash is not the declared one, as far as they are declared."""
    if file.bytes is not None and path.stat().st_size != file.bytes:
        raise DataCorrupt(
            f"{path}: expected {file.bytes:,} bytes, got {path.stat().st_size:,}: cut short, or another file"
        )
    if file.sha256 is not None and (got := sha256(path)) != file.sha256:
        raise DataCorrupt(f"{path}: expected sha256 {file.sha256}, got {got}: damaged, or another file")
