"""Test cases: two levels of theory, the data that hold them, and how those data are split. Data, not code."""

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mfbench import resources
from mfbench.errors import UserError, unknown
from mfbench.manifest import LevelName, Record, read_yaml


class Reserve(Record):
    """Structures with this label belong to the test part whatever the split seed."""

    level: LevelName
    label: Literal["energy", "forces"]


class CaseData(Record):
    """One variant of a case's data and the rules of its split (see ``splits``)."""

    datasets: tuple[str, ...] = Field(min_length=1)
    high: LevelName | None = Field(None, description="high level of this variant, where it is not the case's")
    overlap: Literal["nested", "disjoint"]
    test: float = Field(gt=0, lt=1, description="test part: fraction of each level's geometries")
    test_files: tuple[str, ...] = ()
    validation: int = Field(50, ge=5, description="geometries of the validation pool, per level")
    unseen_molecules: int = Field(0, ge=0, description="molecules kept out of training at every level")
    reserve: Reserve | None = None
    high_pool: int | None = Field(None, gt=0, description="disjoint: geometries kept for the high level")
    max_low: int | None = Field(None, gt=0, description="most low-level structures that may be trained on")
    sizes: Annotated[tuple[int, ...], Field(min_length=1)] = (50, 150)


class Case(Record):
    """A test case of the study."""

    name: str
    title: str
    basis: str = Field(description="where the case comes from, and what is inferred")
    low: LevelName
    high: LevelName
    data: dict[str, CaseData] = Field(min_length=1)

    def high_of(self, data: str) -> str:
        """The high level of a data variant."""
        return self.variant(data).high or self.high

    def variant(self, name: str) -> CaseData:
        """The data variant called ``name``."""
        if name not in self.data:
            raise unknown(f"data of case {self.name}", name, self.data)
        return self.data[name]


def case_names() -> tuple[str, ...]:
    """Names of the cases that exist: shipped ones and those of installed packages (entry points)."""
    shipped = [path.stem for path in sorted(resources.cases().glob("*.yaml"))]
    return (*shipped, *(point.name for point in entry_points(group="mfbench.cases")))


def case(name: str | Path) -> Case:
    """The case called ``name``: shipped, a YAML file of one's own, or an entry point ``mfbench.cases``.

    Raises:
        UserError: there is no such case, or its file does not follow the schema.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = resources.cases() / f"{name}.yaml"
        if not path.is_file():
            for point in entry_points(group="mfbench.cases", name=str(name)):
                return Case.model_validate(point.load())
            raise unknown("case", str(name), case_names())
    found = read_yaml(path, Case)
    if found.name != path.stem:
        raise UserError(f"{path}: expected name: {path.stem}, got {found.name}: file and case share a name")
    return found
