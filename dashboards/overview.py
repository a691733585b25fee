"""The claim, case by case: errors of the arms and what they are to one another. ``panel serve dashboards/*.py``."""

from html import escape
from typing import ClassVar

import panel as pn
import param

from mfbench.results.curves import Curves, curves
from mfbench.results.rows import NOTHING, setups_of
from mfbench.results.schema import CONVENTION, METRICS, QUANTITIES
from mfbench.show.cards import Cards
from mfbench.show.glance import card_html, claims_html, foreign_heads, glance_table, heads_html
from mfbench.show.glossary import CASES, why
from mfbench.show.legend import ArmSwitches
from mfbench.show.panels import CurvesPanel
from mfbench.show.selection import Chosen
from mfbench.show.shell import Html, View, serve
from mfbench.show.styles import arm_order
from mfbench.show.words import CLAIM, GAP_CONVENTION, INFERRED, levels_label, n_low_text, seeds_text

FRAME = 210  # px of a figure's height: claims and curves are on one screen

WITHOUT_RUNS = (
    "<h2>No finished runs here</h2>"
    "<p>Make some; they appear here by themselves:</p>"
    "<ul><li><code>mfbench demo</code> trains the arms on all three cases (some minutes)</li>"
    "<li><code>mfbench run ani1x-tz --arm MF --n-high 50</code> trains one</li></ul>"
    "<p>Runs kept elsewhere: start with <code>mfbench serve --runs FOLDER</code>, or set <code>MFBENCH_RUNS</code> "
    "before. Or choose other results at the left.</p>"
)


class Overview(View):
    """Three cards that choose the case, what is claimed of it, its curves, and a table of all numbers."""

    choices: ClassVar = ("source", "data", "backbones", "presets", "seeds", "part", "quantity", "metric", "system")
    own: ClassVar = ("hidden",)

    hidden: list[str] = param.List(default=[], doc="Arms that the curves leave out.")  # type: ignore[assignment]

    def build(self) -> pn.viewable.Viewable:
        self.cards = Cards(sizing_mode="stretch_width")
        self.heading, self.notes, self.badges, self.nothing = Html(), Html(), Html(), Html(WITHOUT_RUNS)
        self.claims = Html(), Html()
        self.panels: list[CurvesPanel] = []
        self.legend = ArmSwitches(sizing_mode="stretch_width")
        self.table = pn.widgets.Tabulator(
            disabled=True,
            show_index=False,
            header_filters=True,
            pagination="local",
            page_size=30,
            layout="fit_data_table",
            sizing_mode="stretch_width",
            theme="simple",
        )
        self._sides = pn.FlexBox(gap="4px 28px", sizing_mode="stretch_width")
        self.everything = pn.Column(
            self.cards,
            self.heading,
            self._sides,
            self.legend,
            self.badges,
            self.table,
            self.notes,
            sizing_mode="stretch_width",
        )
        body = pn.Column(self.nothing, self.everything, sizing_mode="stretch_width")
        self.cards.param.watch(lambda event: setattr(self.selection, "case", event.new), "chosen")
        self.legend.param.watch(lambda event: setattr(self, "hidden", event.new), "hidden")
        self.param.watch(lambda _event: self._draw(), "hidden")
        self.on_change(self.tell)
        return body

    def tell(self) -> None:
        """All of it again, as chosen."""
        chosen = self.selection.chosen
        empty = chosen.table.empty
        with pn.io.hold():
            self.nothing.visible, self.everything.visible = empty, not empty
            if empty:
                return
            self.cards.param.update(cards=self._cards(chosen), chosen=chosen.case)
            self.heading.say(heading_html(chosen))
            for pane, quantity in zip(self.claims, self.quantities):
                pane.say(claims_html(chosen.evidence, quantity))
            self._draw()
            foreign = foreign_heads(chosen.recipe, chosen.case, chosen.part)
            self.badges.say(heads_html(foreign))
            self.table.value = glance_table(chosen.evidence, chosen.system, chosen.arms, foreign, chosen.quantity)
            self.notes.say(notes_html(chosen))

    @property
    def quantities(self) -> tuple[str, str]:
        """An energy, as chosen, and the forces."""
        return self.selection.chosen.quantity, "force"

    def curves(self, quantity: str) -> Curves:
        """What is drawn of a quantity: all chosen arms, and what predicting nothing gives."""
        chosen = self.selection.chosen
        rows, metric = chosen.recipe, chosen.metric
        spread = chosen.evidence.summary if metric in METRICS else None
        found = curves(rows, chosen.case, quantity, metric, chosen.system, chosen.part, spread=spread)
        if metric in METRICS and (zero := chosen.evidence.zero.get(quantity)) and len(found.runs):
            found = found.with_line(NOTHING, zero * QUANTITIES[quantity].factor(chosen.system))
        return found

    def _draw(self) -> None:
        found = [self.curves(quantity) for quantity in self.quantities]
        arms = arm_order(arm for one in found for arm in one.points["arm"])
        hidden = [arm for arm in self.hidden if arm in arms]
        shown = [one.without(hidden) for one in found]
        if not self.panels:
            self.panels = [CurvesPanel(one, frame_height=FRAME) for one in shown]
            styles = {"flex": "1 1 400px", "min-width": "0"}
            self._sides[:] = [pn.Column(*side, styles=styles) for side in zip(self.claims, self.panels)]
        else:
            for panel, one in zip(self.panels, shown):
                panel.send(one)
        self.legend.of(arms, found, hidden)

    def _cards(self, chosen: Chosen) -> list[dict[str, str]]:
        found = []
        for case in self.selection.param.case.objects:
            one = chosen.of_case(case)
            rows = one.table
            own = card_html(case, one.evidence if len(rows) else None, _levels(one), chosen.quantity)
            found.append({"name": case, "html": own})
        return found


def _levels(chosen: Chosen) -> str:
    return levels_label(chosen.table if len(chosen.table) else chosen.library.table, chosen.case)


def heading_html(chosen: Chosen) -> str:
    """What is shown of which runs, with the case in plain words behind a ``?``."""
    rows = chosen.recipe
    data, backbone, preset = setups_of(rows)[0]
    others = [setup for setup in setups_of(chosen.table) if setup != (data, backbone, preset)]
    facts = [f"data {data}", f"network {backbone}", f"preset {preset}", n_low_text(rows), seeds_text(rows)]
    also = f" Also chosen, and in Learning curves: {', '.join(' '.join(one[1:]) for one in others)}." if others else ""
    own = "" if chosen.metric in METRICS else " Ratios and intervals are of the MAE."
    plain = why(f"{CASES.get(chosen.case, '')} {INFERRED}", chosen.case)
    return f'<p class="facts">{escape("; ".join(facts))}.{escape(also + own)}{plain}</p>'


def notes_html(chosen: Chosen) -> str:
    """What a reader of all this must know."""
    nothing = (
        "zero: the error of predicting no forces, and each molecule's mean energy; total energies have no such number."
        if chosen.evidence.zero
        else "The error of predicting nothing is not known, for no run's predictions are at hand."
    )
    return f'<p class="soft">{escape(" ".join((CLAIM, CONVENTION, GAP_CONVENTION, nothing)))}</p>'


if pn.state.served:
    serve(Overview, "overview")
