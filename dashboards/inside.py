"""Inside a run: predicted against reference, and the molecules behind the points. ``panel serve dashboards/*.py``."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, ClassVar

import pandas as pd
import panel as pn
import panel_material_ui as pmui
import param

from mfbench.errors import UserError
from mfbench.results.groups import GROUPINGS
from mfbench.results.predictions import Predictions
from mfbench.results.rows import setups_of
from mfbench.results.schema import METRICS, QUANTITIES
from mfbench.show.distributions import distribution, dots, ecdf, grouped
from mfbench.show.html import arm_html, physical_html
from mfbench.show.linked import Live, ParityPlot, Shown, WorstTable
from mfbench.show.molecule import Molecules
from mfbench.show.parity import pairs
from mfbench.show.scans import scan_curves, scanned
from mfbench.show.scenes import Scene
from mfbench.show.shell import Html, View, serve
from mfbench.show.structures import MOST, beside, place_text, structure_scene, worst
from mfbench.show.tables import physical_table
from mfbench.show.takeaway import TakeAway
from mfbench.show.words import PART_LABELS, level_label

NONE = "There are no finished runs here to look into."
NOT_CHECKED = "These runs were not checked: <code>mfbench check RUN</code> tries their dynamics, frequencies and scans."


class Inside(View):
    """Runs of one size and seed beside each other: all that they predict, and one structure's forces as arrows."""

    choices: ClassVar = ("source", "case", "data", "arms", "backbones", "presets", "level", "part", "system")
    own: ClassVar = ("n_high", "seed", "first", "predicted", "by", "structure")

    n_high: Any = param.Selector(objects=[0], check_on_set=False, label="High-level structures")
    seed: Any = param.Selector(objects=[0], check_on_set=False, label="Seed")
    first: Any = param.Selector(objects=[""], check_on_set=False, label="Worst first, of")
    predicted: Any = param.Selector(
        default="force", objects={QUANTITIES[name].label: name for name in reversed(QUANTITIES)}, label=""
    )
    by: Any = param.Selector(default="element", objects={by.capitalize(): by for by in GROUPINGS}, label="")
    scan: Any = param.Selector(objects={"none": None}, label="Scan")
    structure: Any = param.Integer(default=-1, doc="What is chosen: its index in the case's data; -1 for nothing.")

    def build(self) -> pn.viewable.Viewable:
        self._runs: Mapping[str, Predictions] = {}
        self._scans: Mapping[str, pd.DataFrame] = {}
        self._settling = False
        self.said, self.place, self.worse, self.grouping, self.checks = (Html() for _ in range(5))
        self.parity, self.worst, self.molecules = ParityPlot(), WorstTable(), Molecules()
        self.errors = Live(ecdf(pairs({}, "", "", "force"), "force"))
        self.groups = Live(dots(self._grouped(), "element", "force", "mae"))
        self.curves = Live(scan_curves({}, "", None))
        self.param.watch(self._chosen, ["n_high", "seed", "first", "predicted", "by", "scan", "structure"])
        for part in (self.parity, self.worst):
            part.param.watch(lambda event: self.param.update(structure=event.new), "structure")
        self.on_change(self._follow)
        takes = [
            TakeAway("parity", data=lambda: self.parity.found),
            TakeAway("worst", data=lambda: self.worst.found, address=False),
            TakeAway("distribution", data=lambda: distribution(self.parity.found), address=False),
            TakeAway("groups", data=self._grouped, address=False),
        ]
        return pn.Column(
            self.said,
            _beside(
                [_toggle(self.param.predicted), self.parity, takes[0]],
                [self.place, self.molecules],
            ),
            pn.Column(
                self.worse, self.worst, takes[1], visible=self.param.first.rx() != "", sizing_mode="stretch_width"
            ),
            _beside(
                [Html("<h2>How errors are distributed</h2>"), self.errors, takes[2]],
                [Html("<h2>What errors depend on</h2>"), _toggle(self.param.by), self.grouping, self.groups, takes[3]],
            ),
            self.checks,
            pn.Column(
                pmui.Select.from_param(self.param.scan, size="small", max_width=400),
                self.curves,
                visible=self.param.scan.rx.is_not(None),
                sizing_mode="stretch_width",
            ),
            sizing_mode="stretch_width",
        )

    def controls(self) -> list[pn.viewable.Viewable]:
        own = [
            pmui.Select.from_param(self.param[name], size="small", sizing_mode="stretch_width", margin=(6, 4))
            for name in ("n_high", "seed", "first")
        ]
        return [*own, *super().controls()]

    # What is shown

    @property
    def level(self) -> str:
        """The level that is judged at."""
        return self.selection.chosen.level or next((one.levels[-1] for one in self._runs.values()), "")

    def _follow(self) -> None:
        """Another choice of results: offer the sizes and seeds that there are, and keep what was chosen."""
        table = self.selection.chosen.table
        sizes = sorted({int(n) for n in table["n_high"] if n > 0}) or [0]
        seeds = sorted({int(seed) for seed in table["seed"]}) or [0]
        if self.n_high not in sizes or self.seed not in seeds:
            places = [(size, seed) for size in reversed(sizes) for seed in seeds]
            size, seed = next((place for place in places if self._read(*place)[0]), places[0])
            self._offer("n_high", sizes, size)
            self._offer("seed", seeds, seed)
        self._offer("n_high", sizes, self.n_high)
        self._offer("seed", seeds, self.seed)
        self._load()

    def _offer(self, name: str, choices: Sequence[Any] | Mapping[str, Any], usual: Any) -> None:
        """Offer choices; what was chosen stays where it is still there."""
        self._settling = True
        try:
            self.param[name].objects = choices
            if getattr(self, name) not in (choices.values() if isinstance(choices, Mapping) else choices):
                setattr(self, name, usual)
        finally:
            self._settling = False

    def _read(self, n_high: int, seed: int) -> tuple[dict[str, Predictions], dict[str, str]]:
        """The predictions of runs beside each other, and all those runs, by name."""
        chosen, found = self.selection.chosen, dict[str, Predictions]()
        runs = beside(chosen.table, n_high, seed, chosen.arms)
        for name, run in runs.items():
            try:
                predictions = chosen.library.predictions(run)
            except (UserError, OSError):  # the page of runs tells what is wrong with it
                continue
            if predictions is not None and (not chosen.level or chosen.level in predictions.levels):
                found[name] = predictions
        return found, runs

    def _load(self) -> None:
        """Other runs: read them, and show all of them."""
        self._runs, runs = self._read(self.n_high, self.seed)
        self._scans = {name: self.selection.chosen.library.scans(runs[name]) for name in self._runs}
        self._offer("first", list(self._runs) or [""], next(iter(self._runs), ""))
        which = scanned(self._scans, self.level)
        self._offer("scan", which or {"none": None}, next(iter(which.values()), None))
        rows = self.selection.chosen.table
        rows = rows[rows["run"].isin(list(runs.values()))]
        names = " &nbsp; ".join(map(arm_html, self._runs))
        about = f"{self.n_high:,} high-level structures, seed {self.seed}; judged on {PART_LABELS[self.part]}"
        lacking = {name: run for name, run in runs.items() if name not in self._runs}
        notes = " ".join(_lacking(name, rows[rows["run"] == run]) for name, run in lacking.items())
        self.said.say(f"<p>{names} &nbsp; {escape(f'{about}. {notes}' if runs else NONE)}</p>")
        tables = [physical_table(rows, self.selection.case, setup) for setup in setups_of(rows)]
        said = "".join(map(physical_html, tables)) or f'<p class="soft">{NOT_CHECKED}</p>'
        self.checks.say(f"<h2>Physical checks</h2>{said}")
        self._draw_values()
        self._draw_worst()
        self._draw_scan()
        self._draw_structure()

    @property
    def part(self) -> str:
        """The part that is judged on."""
        return self.selection.chosen.part

    @property
    def system(self) -> str:
        """The unit system that is shown."""
        return self.selection.chosen.system

    @property
    def metric(self) -> str:
        """The metric of groups: the one chosen, where it can be worked out from single structures."""
        metric = self.selection.chosen.metric
        return metric if metric in METRICS else "mae"

    def _chosen(self, *events: Any) -> None:
        if self._settling:
            return
        changed = {event.name for event in events}
        if changed & {"n_high", "seed"}:
            self._follow()
            return
        if "predicted" in changed:
            self._draw_values()
        elif "by" in changed:
            self._draw_groups()
        if "first" in changed:
            self._draw_worst()
        if "scan" in changed:
            self._draw_scan()
        if "structure" in changed:
            self._draw_structure()

    def _draw_values(self) -> None:
        found = pairs(self._runs, self.level, self.part, self.predicted, self.system)
        self.parity.draw(Shown(found, self.predicted, self.system, level_label(self.level)))
        self.errors.draw(ecdf(found, self.predicted, self.system))
        self._draw_groups()

    def _grouped(self) -> pd.DataFrame:
        return grouped(self._runs, self.by, self.level, self.part, self.predicted, self.metric, self.system)

    def _draw_groups(self) -> None:
        table = self._grouped()
        self.grouping.say(f'<p class="soft">{escape(table.attrs.get("reason", ""))}</p>' if table.empty else "")
        self.groups.draw(dots(table, self.by, self.predicted, self.metric, self.system))

    def _draw_worst(self) -> None:
        if not self._runs:
            self._offer_structure(pd.DataFrame({"structure": [], "shown": []}))
            return
        table = worst(self._runs, self.level, self.part, self.first, self.system)
        self.worst.draw(table, list(self._runs), self.system)
        some = f", the {MOST:,} worst" if len(table) == MOST else ""
        self.worse.say(f"<h2>Structures, those first that {arm_html(self.first)} predicts worst{some}</h2>")
        self._offer_structure(table)

    def _offer_structure(self, table: pd.DataFrame) -> None:
        """Keep the structure that was chosen; else the worst whose positions are kept."""
        if any(one.row(self.structure) is not None for one in self._runs.values()):
            return
        there = table.loc[table["shown"].astype(bool), "structure"]
        self.structure = int(there.iloc[0]) if len(there) else -1

    def _draw_scan(self) -> None:
        if not len(self.curves.plot) and self.scan is None:
            return
        self.curves.draw(scan_curves(self._scans, self.level, self.scan, self.system))

    def _draw_structure(self) -> None:
        self.parity.structure = self.worst.structure = self.structure
        if self.structure < 0 or not self._runs:
            self.place.say("")
            self.molecules.draw(Scene())
            return
        self.place.say(f"<p>{escape(place_text(next(iter(self._runs.values())), self.structure))}</p>")
        self.molecules.draw(structure_scene(self._runs, self.structure, self.level, self.system))


def _lacking(name: str, rows: pd.DataFrame) -> str:
    """Why a run's predictions are not there, given its rows of the results table."""
    remarks = [remark for remark in rows["remark"].unique() if remark]
    if (rows["n"] == 0).all() and remarks:
        return f"{name}: {remarks[0]}."
    return f"{name}: no predictions of single structures are kept."


def _toggle(parameter: param.Parameter) -> pmui.RadioButtonGroup:
    texts = {"& .MuiToggleButton-root": {"textTransform": "none", "fontSize": "15px", "lineHeight": 1.3, "py": "4px"}}
    return pmui.RadioButtonGroup.from_param(parameter, size="small", margin=(2, 4), sx=texts)


def _beside(*columns: Sequence[Any]) -> pn.FlexBox:
    """Columns beside each other, below each other on a phone."""
    styles = {"flex": "1 1 340px", "min-width": "0"}
    return pn.FlexBox(*(pn.Column(*one, sizing_mode="stretch_width", styles=styles) for one in columns), gap="8px 24px")


if pn.state.served:
    serve(Inside, "inside")
