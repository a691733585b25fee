"""Learning curves: errors against the number of high-level labels, or against what labels cost."""

from typing import Any

import panel as pn
import panel_material_ui as pmui
import param

from mfbench.results.curves import AGAINST, Curves, ratios
from mfbench.results.scaling import Axis
from mfbench.show import scaling
from mfbench.show.facets import BESIDE, Facet, facets, settings_that_differ
from mfbench.show.legend import ArmSwitches
from mfbench.show.panels import CurvesGrid
from mfbench.show.shell import Html, View, later, serve
from mfbench.show.styles import arm_order


class LearningCurves(View):
    """Learning curves of energies and forces, side by side by whatever is chosen, and what they say in numbers."""

    choices = (
        *("case", "data", "backbones", "presets", "arms", "seeds"),
        *("level", "part", "quantity", "metric", "system", "source"),
    )
    own = ("against", "beside", "over", "arm", "other")

    against: Any = param.Selector(
        default="n_high", objects={text: key for key, text in AGAINST.items()}, label="Against"
    )
    beside: Any = param.Selector(default="", objects=BESIDE, check_on_set=False, label="Side by side")
    over: Any = param.Selector(default="error", objects={"errors": "error", "ratios": "ratio"}, label="Show")
    arm: Any = param.Selector(default="MF", objects=["MF"], check_on_set=False, label="Compare")
    other: Any = param.Selector(default="SF-E", objects=["SF-E"], check_on_set=False, label="with")

    def build(self) -> pn.viewable.Viewable:
        self.legend, self.grid, self.numbers = ArmSwitches(sizing_mode="stretch_width"), CurvesGrid(), Html()
        against, beside, over, arm, other = (
            pmui.Select.from_param(self.param[name], size="small", width=width, margin=(6, 4))
            for name, width in (("against", 220), ("beside", 150), ("over", 190), ("arm", 190), ("other", 190))
        )
        self.on_change(self.update)
        self.param.watch(lambda _event: self.update(), list(self.own))
        self.legend.param.watch(self._hide, "hidden")
        return pn.Column(
            pn.FlexBox(against, beside, over, sizing_mode="stretch_width"),
            self.legend,
            self.grid,
            pn.FlexBox(arm, other, sizing_mode="stretch_width"),
            self.numbers,
            sizing_mode="stretch_width",
        )

    def update(self) -> None:
        """Show what is chosen, in the figures that there are."""
        chosen = self.selection.chosen
        found = facets(chosen, self.beside)
        arms = arm_order([arm for facet in found for arm in facet.table["arm"].unique()])
        self._offer(arms)
        hidden = [arm for arm in arms if chosen.arms and arm not in chosen.arms]
        panels = [[self._curves(facet, quantity) for quantity in self.quantities()] for facet in found]
        self.legend.of(arms, [one for pair in panels for one in pair], hidden)
        shown = [[one.without(hidden) for one in pair] for pair in panels]
        self.grid.send([facet.heading for facet in found], shown)
        later(lambda: self.numbers.say("".join(map(self._numbers, found))))

    def quantities(self) -> tuple[str, str]:
        """Energies as chosen, and forces."""
        return self.selection.chosen.quantity, "force"

    def _curves(self, facet: Facet, quantity: str) -> Curves:
        found = facet.curves(quantity, self.selection.chosen.system, self.against)
        if self.over == "error":
            return found
        told = [own.differences for own in facet.evidence.values()]
        return ratios(found, self.other, told[0] if len(told) == 1 else None)

    def _numbers(self, facet: Facet) -> str:
        axis: Axis = "labels" if self.against == "n_high" else "cost"
        return "".join(
            scaling.section(facet.heading, setup, own, self.quantities(), self.arm, self.other, axis)
            for setup, own in facet.evidence.items()
        )

    def _offer(self, arms: list[str]) -> None:
        self.param.arm.objects = self.param.other.objects = arms
        self.param.over.objects = {"errors": "error", f"errors over {self.other}’s": "ratio"}
        differing = {name: name for name in settings_that_differ(self.selection.chosen)}
        self.param.beside.objects = {**BESIDE, **differing}

    def _hide(self, event: param.parameterized.Event) -> None:
        arms = [arm for arm in (entry["name"] for entry in self.legend.entries) if arm not in event.new]
        self.selection.arms = [] if not event.new else arms


if pn.state.served:
    serve(LearningCurves, "curves")
