"""What all pages show: one choice of results, and how it stands in a page's address."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote, urlencode

import pandas as pd
import panel as pn
import panel_material_ui as pmui
import param

from mfbench.errors import UserError
from mfbench.results.library import Library
from mfbench.results.rows import SETUP, judged_at, setups_of, with_setup
from mfbench.results.rows import cases as cases_of
from mfbench.results.schema import EXTERNAL, METRICS, QUANTITIES, UNIT_SYSTEMS, metrics_of
from mfbench.show.styles import arm_order
from mfbench.show.words import level_label, metric_labels

PART_CHOICES = {"new geometries": "test", "new molecules": "unseen"}
ENERGIES = {quantity.label: name for name, quantity in QUANTITIES.items() if name != "force"}
HIGH = ""  # the level that numbers are judged at: the case's high one


@dataclass(frozen=True)
class Chosen:
    """All that is chosen: what derived numbers can be kept by. Of lists an empty one means all that there are."""

    library: Library
    version: int  # of the library
    case: str
    data: str
    arms: tuple[str, ...]
    backbones: tuple[str, ...]
    presets: tuple[str, ...]
    seeds: tuple[int, ...]
    level: str
    part: str
    quantity: str
    metric: str
    system: str

    def of_case(self, case: str) -> "Chosen":
        """The same of another case, of the first of its data where it has not the chosen ones."""
        if case == self.case:
            return self
        data = list(dict.fromkeys(self.library.table.loc[self.library.table["case"] == case, "data"]))
        own = self.data if self.data in data else next(iter(data), "")
        return replace(self, case=case, data=own, level=HIGH)

    @property
    def table(self) -> pd.DataFrame:
        """The chosen rows of the results table: of the case and data, all its parts, quantities and metrics."""
        return _rows(self._of_rows)

    @property
    def recipe(self) -> pd.DataFrame:
        """Of the chosen rows those of one (data, backbone, preset): the one with most runs."""
        return _recipe(self._of_rows)

    @property
    def _of_rows(self) -> "Chosen":
        """The same, but for what rows do not depend on: tables are large, and kept once."""
        return replace(self, part="", quantity="", metric="", system="")


@lru_cache(maxsize=16)
def _recipe(chosen: Chosen) -> pd.DataFrame:
    each = [with_setup(chosen.table, setup) for setup in setups_of(chosen.table)]
    return max(each, key=lambda one: one["run"].nunique(), default=chosen.table)


@lru_cache(maxsize=16)
def _rows(chosen: Chosen) -> pd.DataFrame:
    rows = chosen.library.table
    keep = (rows["case"] == chosen.case) & (rows["data"] == chosen.data)
    external = rows["preset"] == EXTERNAL
    for name, wanted in (("backbone", chosen.backbones), ("preset", chosen.presets)):
        if wanted:
            keep &= rows[name].isin(wanted) | external
    for name, values in (("arm", chosen.arms), ("seed", chosen.seeds)):
        if values:
            keep &= rows[name].isin(values)
    found = rows[keep]
    return judged_at(found, chosen.level) if chosen.level else found


class Selection(param.Parameterized):
    """What a page shows of the results at hand; ``chosen`` changes once a change, after all that depends on it."""

    case: Any = param.Selector(objects=[""], label="Case")
    data: Any = param.Selector(objects=[""], label="Data")
    arms: Any = param.ListSelector(default=[], objects=[], label="Arms", doc="None: all.")
    backbones: Any = param.ListSelector(default=[], objects=[], label="Networks")
    presets: Any = param.ListSelector(default=[], objects=[], label="Presets")
    seeds: Any = param.ListSelector(default=[], objects=[], label="Seeds")
    level: Any = param.Selector(default=HIGH, objects={"the high level": HIGH}, label="Judged at")
    part: Any = param.Selector(default="test", objects=PART_CHOICES, label="Judged on")
    quantity: Any = param.Selector(default="energy", objects=ENERGIES, label="Energies as")
    metric: Any = param.Selector(default="mae", objects=metric_labels(METRICS), label="Metric")
    system: Any = param.Selector(default=UNIT_SYSTEMS[0], objects=list(UNIT_SYSTEMS), label="Unit")
    source: Any = param.Selector(objects=[""], label="Results")
    chosen: Chosen = param.Parameter(precedence=-1, doc="All of it, frozen.")  # type: ignore[assignment]

    # What decides what else there is to choose from comes first.
    ORDER: ClassVar = ("case", "data", "backbones", "presets", "arms", "seeds", "level", "part", "quantity", "metric")
    IN_ADDRESS: ClassVar = ("source", *ORDER, "system")

    def __init__(self, libraries: Mapping[str, Callable[[], Library]], query: str = "") -> None:
        """
        Args:
            libraries: results by what people call them; each is opened when it is chosen. The first is shown, or the
                next that holds any. One that cannot be read is not shown, and ``status`` says so.
            query: of a page's address (see ``query``); what of it there is not, is left out.

        Raises:
            UserError: none can be read.
        """
        super().__init__()
        self._libraries, self._settling = libraries, False
        self.param.source.objects = list(libraries)
        wanted = parse_query(query)
        self._open(wanted.pop("source", None))
        self._settle(wanted)
        self.param.watch(self._changed, [*self.ORDER, "system", "source"])

    # Choices

    def _open(self, source: Any) -> None:
        """Open the results of that name; where there are none that can be read, the first that hold a run."""
        opened, unread = dict[str, Library](), list[str]()
        for name in sorted(self._libraries, key=lambda one: one != source):
            try:
                opened[name] = self._libraries[name]()
            except UserError as error:
                unread.append(str(error))
                continue
            if name == source or len(opened[name].entries):
                break
        else:
            if not opened:
                raise UserError("; ".join(unread))
            name = next(iter(opened))
        self.library, self._unread = opened[name], unread
        self._settling = True
        self.source = name

    def _changed(self, *events: Any) -> None:
        if self._settling:
            return
        if any(event.name == "source" for event in events):
            self._open(self.source)
        self._settle({})

    def _settle(self, wanted: Mapping[str, Any]) -> None:
        """Offer what there is, step by step; keep what was chosen where it is still there, and say so once."""
        self._settling = True
        try:
            with param.parameterized.batch_call_watchers(self):
                for name in self.ORDER:
                    self._offer(name, self._there(name), wanted.get(name))
                if (system := wanted.get("system")) in UNIT_SYSTEMS:
                    self.system = system
        finally:
            self._settling = False
        self.chosen = self._frozen()

    def _there(self, name: str) -> list[Any] | dict[str, Any]:
        """What can be chosen of one kind, given the choices of those before it."""
        if name == "part":
            return PART_CHOICES
        if name == "quantity":
            return ENERGIES
        rows = self.library.table
        if name == "case":
            return cases_of(rows)
        rows = rows[rows["case"] == self.case]
        if name == "data":
            return list(dict.fromkeys(rows["data"]))
        rows = rows[rows["data"] == self.data]
        if name in ("backbones", "presets"):
            own = rows[rows["preset"] != EXTERNAL]
            return list(dict.fromkeys((own if len(own) else rows)[name[:-1]]))
        if name == "arms":
            return arm_order(rows["arm"])
        if name == "seeds":
            return sorted({int(seed) for seed in rows["seed"]})
        if name == "level":
            levels = {level_label(one): one for one in dict.fromkeys(rows.loc[rows["role"] != "high", "level"])}
            return {"the high level": HIGH, **levels}
        return metric_labels(metrics_of(rows))

    def _offer(self, name: str, choices: Sequence[Any] | Mapping[str, Any], wanted: Any) -> None:
        values = list(choices.values()) if isinstance(choices, Mapping) else list(choices)
        parameter = self.param[name]
        if parameter.objects != (choices if isinstance(choices, Mapping) else values):
            parameter.objects = choices or [""]
        several = isinstance(parameter, param.ListSelector)
        now = getattr(self, name) if wanted is None else wanted
        if several:
            kept = [one for one in (now if isinstance(now, list) else [now]) if one in values]
            if not kept and name in ("backbones", "presets"):
                kept = self._usual(name)
            if kept != getattr(self, name):
                setattr(self, name, kept)
        elif now not in values or now != getattr(self, name):
            setattr(self, name, now if now in values else values[0] if values else "")

    def _usual(self, name: str) -> list[Any]:
        """The network, or preset, of the recipe with most runs: recipes are mixed only when they are asked for."""
        rows = self.library.table
        rows = rows[(rows["case"] == self.case) & (rows["data"] == self.data)]
        if name == "presets" and self.backbones:
            rows = rows[rows["backbone"].isin(self.backbones)]
        runs = rows[rows["preset"] != EXTERNAL].groupby(SETUP)["run"].nunique()
        return [runs.idxmax()[SETUP.index(name[:-1])]] if len(runs) else []

    def _frozen(self) -> Chosen:
        values = {name: getattr(self, name) for name in (*self.ORDER, "system")}
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return Chosen(self.library, self.library.version, **values)

    def refresh(self) -> bool:
        """Read again what changed on disk; whether anything had."""
        if not self.library.refresh() and self.chosen.version == self.library.version:
            return False
        self._settle({})
        return True

    # What is shown, and what is not

    def status(self) -> str:
        """What is shown, from where and made on what, and what is left out of it, in sentences."""
        entries, shown = self.library.entries, self.chosen.table
        runs = shown["run"].nunique()
        devices = ", ".join(sorted(set(shown["device"]) - {""}))
        said = [f"{runs:,} of {len(entries):,} runs ({self.library.label})" + (f", {devices}" if devices else "") + "."]
        states = entries["state"].value_counts()
        others = [f"{states[name]:,} {name}" for name in ("unfinished", "broken") if name in states]
        said += [f"{' and '.join(others)}: see Runs."] if others else []
        if shown["seed"].nunique() == 1:
            said.append("One seed, so nothing is known of the spread.")
        said += [found] if (found := self.not_shown()) else []
        return " ".join([*said, *(f"Cannot be read, so not shown: {problem}." for problem in self._unread)])

    def not_shown(self) -> str:
        """What else these results hold of the case and data, in a sentence; empty where all is shown."""
        rows = self.library.table
        rows = rows[(rows["case"] == self.case) & (rows["data"] == self.data)]
        hidden = rows[~rows["run"].isin(set(self.chosen.table["run"]))]
        if hidden.empty:
            return ""
        counts = [
            f"{hidden.loc[(hidden[SETUP] == list(one)).all(axis=1), 'run'].nunique():,} of {one[1]}, {one[2]}"
            for one in setups_of(hidden)
        ]
        runs = hidden["run"].nunique()
        return f"Not shown: {runs:,} run{'s' if runs > 1 else ''} of this case and data ({'; '.join(counts)})."

    # The address

    def query(self, further: Mapping[str, Any] | None = None) -> str:
        """The choice, and further names and values, as an address's query, without what would be chosen anyhow."""
        usual: dict[str, Any] = {name: self.param[name].default for name in self.IN_ADDRESS}
        usual |= {"case": next(iter(self.param.case.objects), ""), "data": next(iter(self.param.data.objects), "")}
        usual |= {"source": next(iter(self._libraries)), "backbones": self._usual("backbones")}
        usual["presets"] = self._usual("presets")
        said = {name: getattr(self, name) for name in self.IN_ADDRESS}
        return as_query({name: value for name, value in said.items() if value != usual[name]} | dict(further or {}))

    def follow(self, query: str) -> None:
        """Choose what an address says."""
        wanted = parse_query(query)
        self._open(wanted.pop("source", None))
        usual = {name: self.param[name].default for name in (*self.ORDER, "system")}
        self._settle({**usual, **wanted})

    # Widgets

    def widget(self, name: str) -> pn.widgets.Widget:
        """The widget of one choice."""
        parameter = self.param[name]
        if isinstance(parameter, param.ListSelector):
            return pmui.MultiChoice.from_param(parameter, placeholder="all", sizing_mode="stretch_width", margin=(6, 4))
        return pmui.Select.from_param(parameter, size="small", sizing_mode="stretch_width", margin=(6, 4))


def as_query(said: Mapping[str, Any]) -> str:
    """Names and values as the query of an address: ``?case=ani1x-tz&arms=["SF-E","MF"]``, as browsers encode it."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in said.items()}
    return f"?{urlencode(texts, quote_via=quote)}" if texts else ""


def parse_query(
    query: str, of: type[param.Parameterized] = Selection, names: Sequence[str] = Selection.IN_ADDRESS
) -> dict[str, Any]:
    """What ``as_query`` wrote of some parameters; of anything else, what can be read of it."""
    found: dict[str, Any] = {}
    for name, text in parse_qsl(query.removeprefix("?")):
        if name not in names:
            continue
        usual = of.param[name].default
        if isinstance(usual, str):
            found[name] = text
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, list):
            value = [one for one in value if isinstance(one, str | int)]
        if type(value) is type(usual):  # True is an int
            found[name] = value
    return found
