"""The claim, case by case: errors of the arms, and what they are to one another."""

from collections.abc import Sequence
from typing import ClassVar

import panel as pn
import param

from mfbench.results.curves import Curves
from mfbench.results.rows import NOTHING
from mfbench.show import glance
from mfbench.show.cards import Cards
from mfbench.show.facets import Facet, facets
from mfbench.show.html import notes_html
from mfbench.show.legend import ArmSwitches
from mfbench.show.panels import CurvesPanel
from mfbench.show.plots import notes
from mfbench.show.shell import Html, View, later, serve
from mfbench.show.still import curves_picture
from mfbench.show.styles import arm_order

FRAME = 250  # px of a figure's height: what is claimed and the curves are on one screen

SIDE = {"flex": "1 1 400px", "min-width": "0"}


class Overview(View):
    """Cards that choose the case, what is claimed of it, its curves, and a table of all numbers."""

    choices: ClassVar = ("source", "data", "backbones", "presets", "seeds", "part", "quantity", "metric", "system")

    def build(self) -> pn.viewable.Viewable:
        self.cards, self.legend = Cards(sizing_mode="stretch_width"), ArmSwitches(sizing_mode="stretch_width")
        self.heading, self.remarks, self.closing, self.nothing = Html(), Html(), Html(), Html(glance.NO_RUNS)
        self.claims: tuple[Html, ...] = (Html(), Html())
        self.panels: list[CurvesPanel] = []
        self.sides = pn.FlexBox(gap="0 28px", sizing_mode="stretch_width")
        self.table = pn.widgets.Tabulator(
            disabled=True,
            show_index=False,
            header_filters=True,
            pagination="local",
            page_size=30,
            layout="fit_data",
            sizing_mode="stretch_width",
        )
        self.results = pn.Column(
            *(self.cards, self.heading, self.sides, self.legend, self.remarks, self.table, self.closing),
            sizing_mode="stretch_width",
        )
        self.cards.param.watch(self._choose, "chosen")
        self.legend.param.watch(self._hide, "hidden")
        self.on_change(self.update)
        return pn.Column(self.nothing, self.results, sizing_mode="stretch_width")

    def update(self) -> None:
        """Show what is chosen, in the parts that there are."""
        chosen = self.selection.chosen
        self.nothing.visible, self.results.visible = chosen.table.empty, not chosen.table.empty
        if chosen.table.empty:
            return
        facet = facets(chosen)[0]
        self.heading.say(glance.heading_html(facet))
        for pane, quantity in zip(self.claims, self.quantities()):
            pane.say(glance.claims_html(facet, quantity))
        self._draw([facet.curves(quantity, chosen.system, "n_high") for quantity in self.quantities()])
        later(lambda: self._tell(facet))

    def quantities(self) -> tuple[str, str]:
        """Energies as chosen, and forces."""
        return self.selection.chosen.quantity, "force"

    def still(self) -> bytes | None:
        """The chosen case's curves."""
        return curves_picture(self.selection.chosen)

    def _draw(self, found: Sequence[Curves]) -> None:
        arms = arm_order(arm for one in found for arm in one.points["arm"])
        chosen = self.selection.chosen.arms
        hidden = [arm for arm in arms if chosen and arm not in (*chosen, NOTHING)]
        shown = [one.without(hidden) for one in found]
        for panel, one in zip(self.panels, shown):
            panel.send(one, frame_height=FRAME, notes=())
        if not self.panels:
            self.panels = [CurvesPanel(one, frame_height=FRAME, notes=()) for one in shown]
            self.sides[:] = [pn.Column(*side, styles=SIDE) for side in zip(self.claims, self.panels)]
        self.legend.of(arms, found, hidden)
        said = dict.fromkeys(note for one in shown for note in notes(one))
        self.remarks.say(glance.heads_html(facets(self.selection.chosen)[0]) + notes_html(list(said)))

    def _tell(self, facet: Facet) -> None:
        """What stands below, or is of the other cases."""
        chosen = self.selection.chosen
        cases = {case: facets(chosen.of_case(case))[0] for case in self.selection.param.case.objects}
        cards = [{"name": case, "html": glance.card_html(one, chosen.quantity)} for case, one in cases.items()]
        self.cards.param.update(cards=cards, chosen=chosen.case)
        self.table.value = glance.table(facet, chosen.system, chosen.arms, chosen.quantity)
        self.closing.say(glance.closing_html(facet, chosen.system))

    def _choose(self, event: param.parameterized.Event) -> None:
        self.selection.case = event.new

    def _hide(self, event: param.parameterized.Event) -> None:
        arms = [name for entry in self.legend.entries if (name := entry["name"]) not in (*event.new, NOTHING)]
        self.selection.arms = arms if set(event.new) - {NOTHING} else []


if pn.state.served:
    serve(Overview, "overview")
