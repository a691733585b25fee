"""Learning curves: errors against the number of high-level labels, or against what labels cost."""

from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
import panel as pn
import panel_material_ui as pmui
import param

from mfbench.results.curves import AGAINST, Curves, ratios
from mfbench.results.rows import NOTHING, setups_of, with_setup
from mfbench.results.scaling import Axis
from mfbench.show import scaling
from mfbench.show.facets import BESIDE, Facet, facets, settings_that_differ
from mfbench.show.legend import ArmSwitches
from mfbench.show.panels import CurvesGrid
from mfbench.show.shell import Html, View, later, serve
from mfbench.show.still import curves_picture
from mfbench.show.styles import arm_order
from mfbench.show.takeaway import TakeAway

if TYPE_CHECKING:
    from mfbench.show.paper import Figure


class LearningCurves(View):
    """Learning curves of energies and forces, side by side by whatever is chosen, and what they say in numbers."""

    choices: ClassVar = (
        *("case", "data", "backbones", "presets", "arms", "seeds"),
        *("level", "part", "quantity", "metric", "system", "source"),
    )
    own: ClassVar = ("against", "beside", "over", "arm", "other", "hidden")

    against: Any = param.Selector(default="n_high", objects={AGAINST[name]: name for name in AGAINST}, label="Against")
    beside: Any = param.Selector(default="", objects=BESIDE, check_on_set=False, label="Side by side")
    over: Any = param.Selector(default="error", objects={"errors": "error", "ratios": "ratio"}, label="Show")
    arm: Any = param.Selector(default="MF", objects=["MF"], check_on_set=False, label="Compare")
    other: Any = param.Selector(default="SF-E", objects=["SF-E"], check_on_set=False, label="with")
    hidden: list[str] = param.List(default=[], doc="Arms that the curves leave out.")  # type: ignore[assignment]

    def build(self) -> pn.viewable.Viewable:
        self.legend, self.grid, self.numbers = ArmSwitches(sizing_mode="stretch_width"), CurvesGrid(), Html()
        self.away = TakeAway("learning curves", figure=self.figure, data=self.points, margin=(0, 8, 12, 8))
        against, beside, over, arm, other = (
            pmui.Select.from_param(self.param[name], size="small", width=width, margin=(6, 4))
            for name, width in (("against", 220), ("beside", 150), ("over", 190), ("arm", 190), ("other", 190))
        )
        self.legend.param.watch(lambda event: setattr(self, "hidden", event.new), "hidden")
        self.param.watch(lambda _event: self.tell(), list(self.own))
        self.on_change(self.tell)
        return pn.Column(
            pn.FlexBox(against, beside, over, sizing_mode="stretch_width"),
            self.legend,
            self.grid,
            self.away,
            pn.FlexBox(arm, other, sizing_mode="stretch_width"),
            self.numbers,
            sizing_mode="stretch_width",
        )

    def tell(self) -> None:
        """Show what is chosen, in the figures that there are; numbers follow."""
        chosen = self.selection.chosen
        self.facets = [one for one in facets(chosen, self.beside) if len(one.table)]
        panels = [[self._curves(facet, quantity) for quantity in self.quantities] for facet in self.facets]
        every = arm_order(arm for pair in panels for one in pair for arm in one.points["arm"])
        left_out = [arm for arm in every if chosen.arms and arm not in (*chosen.arms, NOTHING)]
        arms = [arm for arm in every if arm not in left_out]
        self.param.arm.objects = self.param.other.objects = [arm for arm in arms if arm != NOTHING]
        offered = self.param.arm.objects
        lost = [name for name in ("arm", "other") if offered and getattr(self, name) not in offered]
        if lost:  # an address, or the case before, named what is not here
            usual = {name: self.param[name].default for name in lost}
            self.param.update({name: one if one in offered else offered[0] for name, one in usual.items()})
            return  # having told it again
        self.param.over.objects = {"errors": "error", f"errors over {self.other}’s": "ratio"}
        self.param.beside.objects = {**BESIDE, **{name: name for name in settings_that_differ(chosen)}}
        self.shown = [[one.without([*self.hidden, *left_out]) for one in pair] for pair in panels]
        with pn.io.hold():
            self.legend.of(arms, [one for pair in panels for one in pair], self.hidden)
            self.grid.send([facet.heading for facet in self.facets], self.shown)
        later(lambda: self.numbers.say("".join(map(self._numbers, self.facets))))

    @property
    def quantities(self) -> tuple[str, str]:
        """An energy, as chosen, and the forces."""
        return self.selection.chosen.quantity, "force"

    def points(self) -> pd.DataFrame:
        """All that is drawn: a row a point."""
        told = [
            one.points.assign(
                facet=facet.heading, quantity=one.quantity, unit=one.unit, over=one.over, against=one.against
            )
            for facet, pair in zip(self.facets, self.shown)
            for one in pair
        ]
        return pd.concat(told, ignore_index=True)

    def still(self) -> bytes | None:
        """The chosen case's curves."""
        return curves_picture(self.selection.chosen)

    def figure(self) -> "Figure":
        """The chosen case for a paper."""
        from mfbench.show import figures  # Matplotlib: when the first figure is asked for

        chosen = self.selection.chosen
        draw = figures.learning_curve if self.against == "n_high" else figures.label_cost
        setup = max(setups_of(chosen.table), key=lambda one: with_setup(chosen.table, one)["run"].nunique())
        rows = with_setup(chosen.table, setup)
        rows = rows[~rows["arm"].isin(self.hidden)]
        stored = chosen.library.predictions
        return draw(rows, chosen.case, chosen.part, chosen.metric, chosen.system, self.quantities, stored=stored)

    def _curves(self, facet: Facet, quantity: str) -> Curves:
        found = facet.curves(quantity, self.selection.chosen.system, self.against)
        if self.over == "error":
            return found
        told = [own.differences for own in facet.evidence.values()]
        return ratios(found, self.other, told[0] if len(told) == 1 else None)

    def _numbers(self, facet: Facet) -> str:
        axis: Axis = "labels" if self.against == "n_high" else "cost"
        return "".join(
            scaling.section(facet.heading, setup, own, self.quantities, self.arm, self.other, axis)
            for setup, own in facet.evidence.items()
        )


if pn.state.served:
    serve(LearningCurves, "curves")
