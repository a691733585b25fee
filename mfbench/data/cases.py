"""Test cases: two levels of theory, the data that hold them, and how those data are split. Data, not code."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mfbench import resources
from mfbench.data.manifest import Dataset, LabelKind, LevelName, Manifest, manifest, safe_name
from mfbench.data.subset import Subset
from mfbench.errors import UserError, unknown
from mfbench.extensions import Registry
from mfbench.records import Record, read_yaml

Overlap = Literal["nested", "partly", "disjoint"]

_YAML = (".yaml", ".yml")

_files: dict[str, Path] = {}  # where each case was read from that is a file of one's own


def _named(given: Any) -> Any:
    """A dataset that is given as an object, by its name."""
    return manifest(given).name if isinstance(given, Dataset | Manifest) else given


def _case_name(name: str) -> str:
    if name.endswith(_YAML):
        raise ValueError(f"expected a name without the ending of a case's file, got {name!r}")
    return safe_name(name)


class CaseData(Record):
    """One choice of a case's data and the rules of its split (see ``splits``)."""

    title: str = ""
    datasets: tuple[Annotated[str, BeforeValidator(_named)], ...] = Field(
        min_length=1, description="names, or paths of manifests beside the case's file; in Python also objects"
    )
    subsets: dict[str, Subset] = Field(
        default_factory=dict, description="by dataset: what of it is used; by default all"
    )
    high: LevelName | None = Field(None, description="high level of this choice, where it is not the case's")
    overlap: Overlap = Field(description="of high- and low-level geometries; partly: half of the high-level ones")
    test: float = Field(gt=0, description="test part: fraction of each level's geometries; from 1 on their number")
    test_files: tuple[str, ...] = ()
    test_sets: tuple[str, ...] = Field((), description="named sets (official splits) that are the test part")
    train_sets: tuple[str, ...] = Field((), description="named sets that may be trained on; by default all else")
    max_test: int | None = Field(None, gt=0, description="most structures judged on, test and unseen part each")
    validation: int = Field(50, ge=5, description="geometries of the validation pool, per level")
    unseen_molecules: int = Field(0, ge=0, description="molecules kept out of training at every level")
    unseen_above: int | None = Field(None, gt=0, description="molecules of more atoms are kept out of training")
    reserve: LabelKind | None = Field(None, description="what has this label is in the test part, whatever the seed")
    high_pool: int | None = Field(None, gt=0, description="disjoint: geometries kept for the high level")
    max_low: int | None = Field(None, gt=0, description="most low-level structures that may be trained on")
    further: dict[LevelName, int | None] = Field(
        default_factory=dict, description="levels between low and high: how many low-level structures they label, too"
    )
    sizes: Annotated[tuple[int, ...], Field(min_length=1)] = (50, 150)

    def overlapping(self, overlap: Overlap | None) -> "CaseData":
        """The same rules with another overlap of high- and low-level geometries; None leaves them as they are."""
        if overlap is None:
            return self
        return self.model_copy(update={"overlap": overlap, "high_pool": self.high_pool or max(self.sizes)})

    @property
    def published(self) -> bool:
        """Whether some of its data do not ship."""
        return not all(manifest(name).shipped for name in self.datasets)

    @property
    def limits(self) -> dict[str, tuple[tuple[str, ...], int]]:
        """Datasets whose authors limit what is trained on: names of their files, and how many structures."""
        declared = [manifest(name) for name in self.datasets]
        return {
            one.name: (tuple(content.name for file in one.files for content in file.contents), one.max_train)
            for one in declared
            if one.max_train is not None
        }

    @property
    def most_low(self) -> int | None:
        """Most low-level structures that may be trained on: the case's rule, or that of the data's authors."""
        limits = [most for _, most in self.limits.values()]
        return min(limits if self.max_low is None else [self.max_low, *limits], default=None)


class Case(Record):
    """A test case of the study."""

    name: Annotated[str, AfterValidator(_case_name)] = Field(description="in tables and names of run folders")
    title: str
    basis: str = Field(description="where the case comes from, and what is inferred")
    low: LevelName
    high: LevelName
    data: dict[str, CaseData] = Field(min_length=1)
    aliases: dict[str, str] = Field(default_factory=dict, description="further names of data choices")

    @model_validator(mode="after")
    def _named(self) -> "Case":
        if strange := [name for name in self.aliases.values() if name not in self.data]:
            raise ValueError(f"aliases: {strange} are not among the data {list(self.data)}")
        return self

    def high_of(self, data: str) -> str:
        """The high level of a data choice."""
        return self.choice(data).high or self.high

    def choice_name(self, name: str) -> str:
        """The name proper of a data choice; raises UserError where there is none of that name."""
        proper = self.aliases.get(name, name)
        if proper not in self.data:
            raise unknown(f"data of case {self.name}", name, (*self.data, *self.aliases))
        return proper

    def usual(self, name: str) -> str:
        """The data choice that is taken where none is named: the usual one, or the only one there is."""
        return next(iter(self.data)) if len(self.data) == 1 and name not in self.aliases else name

    def choice(self, name: str) -> CaseData:
        """The data choice called ``name``."""
        return self.data[self.choice_name(name)]


def case_names() -> tuple[str, ...]:
    """Names of the cases that exist: shipped ones, one's own and those of installed packages."""
    return REGISTRY.names()


def _shipped() -> tuple[str, ...]:
    return tuple(path.stem for path in sorted(resources.cases().glob("*.yaml")))


REGISTRY = Registry(
    "cases",
    Case,
    "a Case of that name, or the Path of its YAML file",
    _shipped,
    lambda found: _read(found) if isinstance(found, Path) else found,
    ", or a YAML file of your own",
)


def case(given: str | Path | Case) -> Case:
    """The case called so: shipped, a YAML file, or one that was added (see ``extensions``); an object is added.

    Raises:
        UserError: there is no such case, it does not follow the schema, or another file gave its name to another case.
    """
    if isinstance(given, Case):
        if given.name in _shipped() and given == case(given.name):
            return given
        REGISTRY.add(given)
        return given
    name, path = str(given), Path(given)
    if path.suffix in _YAML:
        return _read_own(path)
    if name in _shipped():
        return _read(resources.cases() / f"{name}.yaml")
    return REGISTRY.get(name)


def _read(path: Path) -> Case:
    return _beside(read_yaml(path, Case), path.parent)


def _read_own(path: Path) -> Case:
    """A case from a file of one's own: results are told apart by its name, so two files may not differ under one."""
    found, path = _read(path), path.resolve()
    earlier = _files.get(found.name, path)
    if earlier != path and earlier.is_file() and not _alike(earlier, path):
        raise UserError(
            f"two cases are called {found.name}: those of {earlier} and {path} differ; give one of them another name"
        )
    _files[found.name] = path
    return found


def _alike(one: Path, other: Path) -> bool:
    """Whether two files declare the same case, on the same data."""
    try:
        first, second = (read_yaml(path, Case) for path in (one, other))
        if first != second:
            return False
        # Equal so far: but manifests that stand beside each of them may differ.
        cases = (_beside(first, one.parent), _beside(second, other.parent))
        mine, others = ([manifest(name) for rules in case.data.values() for name in rules.datasets] for case in cases)
        return mine == others
    except UserError:  # the earlier one is no longer a case: it gives its name to nothing
        return True


def _beside(found: Case, folder: Path) -> Case:
    """The case with the manifests that it names by path found from the folder of its file."""

    def place(name: str) -> str:
        return str(folder / name) if name.endswith(_YAML) else name

    data = {
        key: rules.model_copy(update={"datasets": tuple(place(name) for name in rules.datasets)})
        for key, rules in found.data.items()
    }
    return found.model_copy(update={"data": data})
