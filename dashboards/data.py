"""Data: what each dataset holds, how far its levels are apart, and its structures. ``panel serve dashboards/*.py``."""

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any, ClassVar, NamedTuple

import holoviews as hv
import pandas as pd
import panel as pn
import panel_material_ui as pmui
import param

from mfbench.data import contents
from mfbench.data.cases import Case, case, case_names
from mfbench.data.catalogue import Checked, Info, info, listing
from mfbench.data.datasets import DataRequest
from mfbench.data.samples import CHECKED, Sample, at_hand, check, request_of
from mfbench.errors import UserError
from mfbench.show import labels, manifests
from mfbench.show.aside import aside
from mfbench.show.glossary import glossary_html
from mfbench.show.molecule import Molecules
from mfbench.show.shell import Html, View, figure, serve
from mfbench.show.words import level_label

NONE = pd.DataFrame({"low": [], "high": [], "gap": []}, dtype=float)

OF_CASE = ""  # the dataset that is the case's, or its level where the data have it

WIDTH = {"flex": "1 1 380px", "min-width": "0"}

_TEXT = {"textTransform": "none", "fontSize": "14px", "whiteSpace": "nowrap"}
PLAIN = _TEXT | {"& .MuiToggleButton-root": _TEXT}

LOOKS = {"overlaid": "over", "side by side": "beside", "all levels": "all"}


class Wanted(NamedTuple):
    """Data, and the two levels of them to compare."""

    request: DataRequest
    low: str
    high: str


def looked(wanted: Wanted) -> contents.Contents | str:
    """What data hold; or why that cannot be looked at."""
    try:
        return contents.look(*wanted)
    except (UserError, OSError) as error:
        return str(error)


class Data(View):
    """What data hold: those of the chosen case, or one dataset."""

    choices: ClassVar = ("case", "data", "system")
    own: ClassVar = ("dataset", "low", "high", "molecule", "number", "look")

    dataset: Any = param.Selector(default=OF_CASE, objects=[OF_CASE], check_on_set=False, label="Dataset")
    low: Any = param.Selector(default=OF_CASE, objects=[OF_CASE], check_on_set=False, label="Low level")
    high: Any = param.Selector(default=OF_CASE, objects=[OF_CASE], check_on_set=False, label="High level")
    molecule: Any = param.Selector(default="", objects=[""], check_on_set=False, label="Molecule")
    number: Any = param.Integer(default=1, bounds=(1, None), label="Structure")
    look: Any = param.Selector(default="over", objects=LOOKS, label="Forces")

    def build(self) -> pn.viewable.Viewable:
        self.found: contents.Contents | None = None
        self._settling = False
        self._widgets: dict[str, pn.widgets.Widget] = {}
        self._wanted: Wanted | None = None
        self._drawn: Sample | None = None
        self._entries, self._infos = listing(), dict[str, Info]()
        self._names = {one.name: one.name for one in self._entries}
        self._cases = {name: case(name) for name in case_names()}
        self.head, self.gap, self.levels, self.place, self.sizes, self.checks = (Html() for _ in range(6))
        self.cases, self.declared, self.others = Html(), Html(), Html()
        self.molecules = Molecules()
        self.energy_plot, self.force_plot, self.atoms_plot, self.temperature_plot = (
            hv.streams.Pipe(data=plot)
            for plot in (labels.energy_plot(NONE), labels.force_plot(NONE), labels.counts_plot(), labels.counts_plot())
        )
        self.panes = [
            figure(hv.DynamicMap(lambda data: data, streams=[pipe]))
            for pipe in (self.energy_plot, self.force_plot, self.atoms_plot, self.temperature_plot)
        ]
        energies, forces, atoms, temperatures = self.panes
        self.slider = pmui.IntSlider(label="Structure", start=1, end=2, sizing_mode="stretch_width", margin=(0, 12))
        self.slider.param.watch(lambda event: self.param.update(number=event.new), "value")
        steps = [
            pmui.Button(label=name, variant="text", on_click=partial(self._step, by), margin=(4, 0), sx=PLAIN)
            for name, by in (("Previous", -1), ("Next", 1))
        ]
        self.steps = pn.Row(steps[0], self.slider, steps[1], sizing_mode="stretch_width")
        self.check = pmui.Button(label="Check these data", variant="outlined", on_click=self._check)
        self.browser = _column(
            pn.FlexBox(
                self._select("molecule", width=150),
                pmui.RadioButtonGroup.from_param(self.param.look, label="", size="small", margin=(6, 4), sx=PLAIN),
                gap="0 8px",
            ),
            self.steps,
            self.molecules,
            self.place,
        )
        self.first = _beside(self.browser, _column(self.gap, energies, forces))
        self.further = _column(Html("<h2>Molecules</h2>"), _beside(_column(self.sizes), _column(atoms, temperatures)))
        self.param.watch(self._chosen, ["dataset", "low", "high", "molecule", "number", "look"])
        self.on_change(self._load)
        return pn.Column(
            self.head,
            self.first,
            Html("<h2>Labels</h2>"),
            self.levels,
            Html("<h2>The cases: what is cheap and what is dear</h2>"),
            self.cases,
            self.further,
            Html("<h2>Licence, citation, files</h2>"),
            self.declared,
            Html("<h2>Checks</h2>"),
            self.check,
            self.checks,
            Html("<h2>All datasets</h2>"),
            self.others,
            Html(f"<h2>Ten words</h2>{glossary_html()}"),
            sizing_mode="stretch_width",
        )

    def controls(self) -> list[pn.viewable.Viewable]:
        case, data, system = super().controls()
        return [case, data, *(self._select(name, sizing_mode="stretch_width") for name in self.own[:3]), system]

    def _select(self, name: str, **params: Any) -> pn.widgets.Widget:
        self._widgets[name] = pmui.Select.from_param(self.param[name], size="small", margin=(6, 4), **params)
        return self._widgets[name]

    # What is shown

    @property
    def system(self) -> str:
        """The unit system that is shown."""
        return self.selection.chosen.system

    def _case(self) -> tuple[Case, str]:
        """The chosen case and data; of results whose case is not known here, or of none, the first that there is."""
        chosen = self.selection.chosen
        found = self._cases.get(chosen.case) or next(iter(self._cases.values()))
        known = chosen.data in (*found.data, *found.aliases)
        return found, found.choice_name(chosen.data) if known else next(iter(found.data))

    def _chosen(self, *events: Any) -> None:
        if self._settling:
            return
        if {event.name for event in events} & {"dataset", "low", "high"}:
            self._load()
        elif self.found is not None:
            self._offer_structures(self.found)
            self._draw_structure(self.found)

    def _load(self) -> None:
        """Other data: say what is declared of them, then look at them."""
        of, data = self._case()
        title = f"{of.name}, {data} data"
        self._offer("dataset", {f"of the case ({title})": OF_CASE, **self._names})
        request = request_of(of, data) if self.dataset == OF_CASE else DataRequest((self.dataset,))
        wanted = Wanted(request, self.low or of.low, self.high or of.high_of(data))
        if self._wanted is None or request != self._wanted.request:
            self.checks.say("")
        self._wanted = wanted
        self._infos |= {name: info(name) for name in request.datasets if name not in self._infos}
        self.cases.say(manifests.cases_html(list(self._cases.values()), of.name))
        self.others.say(manifests.datasets_html(self._entries, request.datasets))
        self.declared.say("".join(map(manifests.declared_html, self.infos)))
        self._offer_check()
        self._title = title if self.dataset == OF_CASE else self.dataset
        if all(at_hand(one.declared) for one in self.infos):
            aside(partial(looked, wanted), partial(self._show, wanted))
        else:
            self._show(wanted, "")

    @property
    def infos(self) -> list[Info]:
        """What is declared of the datasets that are shown."""
        return [self._infos[name] for name in self._wanted.request.datasets] if self._wanted else []

    def _show(self, wanted: Wanted, found: contents.Contents | str) -> None:
        """Show what was looked at, unless something else is wanted by now."""
        if wanted != self._wanted:
            return
        self.found = None if isinstance(found, str) else found
        self.first.visible = self.further.visible = self.found is not None
        said = f"<p>{escape(found)}</p>" if isinstance(found, str) and found else ""
        sample = None if self.found is None else self.found.sample
        self.head.say(manifests.head_html(self._title, self.infos, sample) + said)
        table = None if self.found is None else self.found.levels
        self.levels.say(manifests.labels_html(self.infos, table, self.system))
        if self.found is not None:
            self._draw(self.found)

    def _draw(self, found: contents.Contents) -> None:
        held, levels = found.sample.structures, {level_label(name): name for name in found.sample.structures.levels}
        self._offer("low", {f"usual: {level_label(found.low)}": OF_CASE, **levels})
        self._offer("high", {f"usual: {level_label(found.high)}": OF_CASE, **levels})
        names = {name: "" if name == self._largest(found) else name for name in found.molecules["molecule"]}
        self._offer("molecule", names)
        self._offer_structures(found)
        self.gap.say(
            f"<h2>From {escape(level_label(found.low))} to {escape(level_label(found.high))}</h2>"
            + manifests.gap_html(found.energies, found.forces, found.low, found.high, self.system)
        )
        self.energy_plot.send(labels.energy_plot(found.energies, self.system))
        self.force_plot.send(labels.force_plot(found.forces, self.system))
        known = held.temperature[held.temperature > 0]
        if found.sample is not self._drawn:
            self._drawn = found.sample
            self.atoms_plot.send(labels.counts_plot(held.n_atoms, "Atoms of a molecule"))
            self.temperature_plot.send(labels.counts_plot(known, "Temperature (K)", 50))
        counts = [len(found.energies), len(found.forces), len(held), len(known)]
        for pane, count in zip(self.panes, counts):
            pane.visible = count > 0
        self.sizes.say(manifests.molecules_html(found.molecules, found.energies, self.system))
        self._draw_structure(found)

    def _offer(self, name: str, choices: Mapping[str, Any]) -> None:
        """Offer choices; what was chosen stays where it is still there."""
        self._settling = True
        try:
            kept = getattr(self, name) if getattr(self, name) in choices.values() else self.param[name].default
            self.param[name].objects = dict(choices)
            setattr(self, name, kept)
            if name in self._widgets:  # what the same value is called may have changed
                self._widgets[name].param.trigger("value")
        finally:
            self._settling = False

    # One structure

    def _largest(self, found: contents.Contents) -> str:
        """The molecule that is shown unless another is chosen."""
        return str(found.molecules["molecule"].iloc[int(found.molecules["atoms"].argmax())])

    def _geometries(self, found: contents.Contents) -> Sequence[int]:
        name = self.molecule or self._largest(found)
        return contents.geometries(found.sample.structures, name, (found.low, found.high)).tolist()

    def _offer_structures(self, found: contents.Contents) -> None:
        count = len(self._geometries(found))
        self._settling = True
        try:
            self.number = self.number if self.number <= count else 1
            self.slider.param.update(start=1, end=max(2, count), value=self.number)
            self.steps.visible = count > 1
        finally:
            self._settling = False

    def _step(self, by: int, _event: Any) -> None:
        if self.found is not None:
            self.number = (self.number - 1 + by) % len(self._geometries(self.found)) + 1

    def _draw_structure(self, found: contents.Contents) -> None:
        held, ids = found.sample.structures, self._geometries(found)
        geometry, both = ids[self.number - 1], (found.low, found.high)
        colors = {name: labels.COLORS[role] for role, name in (("low", found.low), ("high", found.high))}
        levels = held.levels if self.look == "all" else both
        over = self.look == "over"
        self.browser.styles = WIDTH | {
            "flex": f"1 1 {380 if over else 700}px"
        }  # molecules beside each other need a line
        self.molecules.draw(labels.labels_scene(held, geometry, levels, colors, over, self.system))
        row = next(iter(contents.of_geometry(held, geometry).values()), None)
        at = "" if row is None else held.where(row) + (f", {t:g} K" if (t := held.temperature[row]) > 0 else "")
        place = f"Structure {self.number:,} of {len(ids):,}: {at}"
        table = labels.labels_table(held, geometry, found.low, self.system)
        self.place.say(manifests.structure_html(table, place, found.low, self.system))

    # Checks

    def _offer_check(self) -> None:
        """Checks of what is small are made here; of large data they take hours, and are the command line's."""
        small = all(at_hand(one.declared) and (one.declared.n_structures or 0) <= CHECKED for one in self.infos)
        self.check.visible = small
        if not small:
            commands = " ".join(f"<code>mfbench data check {escape(one.declared.name)}</code>" for one in self.infos)
            self.checks.say(f"<p>{commands} checks hashes, counts, units, forces and gaps.</p>")

    def _check(self, _event: Any) -> None:
        wanted, far = self._wanted, [0, 0]
        if wanted is None:
            return

        def told(done: int, total: int | None) -> None:
            far[:] = done, total or 0

        def work() -> list[Checked] | str:
            try:
                return [check(name, told) for name in wanted.request.datasets]
            except (UserError, OSError) as error:
                return str(error)

        def then(found: list[Checked] | str) -> None:
            self.check.disabled = False
            if wanted.request == (self._wanted and self._wanted.request):
                said = f"<p>{escape(found)}</p>" if isinstance(found, str) else ""
                made = [] if isinstance(found, str) else found
                self.checks.say(said + "".join(manifests.findings_html(one.name, one.findings) for one in made))

        self.check.disabled = True
        self.checks.say("<p>Checking hashes, counts, units, forces and gaps ...</p>")
        aside(work, then, lambda: self.checks.say(f"<p>Checking: {_far(*far)} ...</p>"))


def _far(done: int, total: int) -> str:
    return f"{done:,} of {total:,} structures" if done < total else f"fits to {total:,} structures"


def _column(*parts: pn.viewable.Viewable | pn.viewable.Viewer) -> pn.Column:
    return pn.Column(*parts, sizing_mode="stretch_width", styles=WIDTH)


def _beside(*columns: pn.Column) -> pn.FlexBox:
    """Columns beside each other, below each other on a phone."""
    return pn.FlexBox(*columns, gap="8px 24px")


if pn.state.served:
    serve(Data, "data")
