"""Training: how errors fell, of finished trainings and of those that go on. ``panel serve dashboards/*.py``."""

import asyncio
from typing import Any, ClassVar

import pandas as pd
import panel as pn
import panel_material_ui as pmui
import param

from mfbench.errors import UserError
from mfbench.show.entries import progress_html
from mfbench.show.histories import AGAINST, OTHERS, draw, levels_of, lines, whole
from mfbench.show.html import arm_html, key_html
from mfbench.show.linked import Live
from mfbench.show.shell import Html, View, serve
from mfbench.show.styles import arm_order
from mfbench.show.words import level_label

FIGURES = ("energy", "force", *OTHERS)

AT_WORK = "at work"  # instead of a size and seed: the runs that are being trained

MOST = 12  # runs at once

NONE = "<p>No run of these was trained here, or its history was not kept.</p>"

LIVE, IDLE = 2.0, 10.0  # s between looks: while a run trains, and while none does


class Training(View):
    """Histories of the runs of one size and seed, or of all that are being trained, which it follows."""

    choices: ClassVar = ("source", "case", "data", "arms", "system")
    own: ClassVar = ("group", "against")

    group: Any = param.Selector(default="", objects={"": ""}, check_on_set=False, label="Runs of")
    against: Any = param.Selector(default="step", objects={text: key for key, text in AGAINST.items()}, label="Against")

    def build(self) -> pn.viewable.Viewable:
        self.said, self.legend = Html(), Html()
        nothing = lines({}, {}, "energy", "kcal/mol")
        self.figures = {what: Live(draw(nothing, [], what)) for what in FIGURES}
        self._seen: Any = None  # of what is shown
        self._settling = False
        self.on_change(self.update)
        self.param.watch(self._changed, list(self.own))
        if pn.state.curdoc is not None and pn.state.curdoc.session_context is not None:
            pn.state.add_periodic_callback(self._look, period=int(1000 * LIVE))  # type: ignore[arg-type]
        widgets = [
            pmui.Select.from_param(self.param[name], size="small", width=width, margin=(6, 4))
            for name, width in (("group", 340), ("against", 160))
        ]
        return pn.Column(
            pn.FlexBox(*widgets, sizing_mode="stretch_width"),
            self.legend,
            pn.FlexBox(
                *(pn.Column(one, styles={"flex": "1 1 400px", "min-width": "0"}) for one in self.figures.values()),
                sizing_mode="stretch_width",
            ),
            self.said,
            sizing_mode="stretch_width",
        )

    def _changed(self, *_events: Any) -> None:
        if not self._settling:
            self.update()

    # What is shown

    def update(self) -> None:
        """Show the histories that are chosen, in the figures that there are."""
        library, system = self.selection.library, self.selection.system
        self._seen = (library, library.entries_version)
        entries = self._entries()
        self._offer(entries)
        runs = self._chosen(entries)
        histories: dict[str, pd.DataFrame] = {}
        for run in runs["run"]:
            try:
                history = library.history(run)
            except UserError:  # the page of runs tells what is wrong with it
                continue
            if len(history):
                histories[run] = whole(history)
        arms, levels = dict(zip(runs["run"], runs["arm"])), levels_of(histories)
        for what, figure in self.figures.items():
            figure.draw(draw(lines(histories, arms, what, system, self.against), levels, what, system, self.against))
        names = "".join(f"<li>{arm_html(arm)}</li>" for arm in arm_order(arms[run] for run in histories))
        key = key_html([level_label(level) for level in levels])
        self.legend.say(f'<ul class="arms">{names}</ul>{key}' if histories else NONE)
        self.said.say(progress_html(runs, histories))

    def _entries(self) -> pd.DataFrame:
        """All runs of the case and data; of the chosen arms, if any are."""
        entries, chosen = self.selection.library.entries, self.selection
        keep = entries["state"] != "broken"
        for name in ("case", "data"):
            if wanted := getattr(chosen, name):
                keep &= (entries[name] == wanted) | entries["running"]
        if chosen.arms:
            keep &= entries["arm"].isin(chosen.arms)
        return entries[keep]

    def _offer(self, entries: pd.DataFrame) -> None:
        """Offer the sizes and seeds that there are."""
        pairs = entries[["n_high", "seed"]].dropna().drop_duplicates().sort_values(["n_high", "seed"])
        sized = pairs[pairs["n_high"] > 0] if (pairs["n_high"] > 0).any() else pairs
        groups = {f"{n:,} high-level structures, seed {seed}": f"{n}/{seed}" for n, seed in sized.to_numpy().tolist()}
        groups |= {"all that are being trained": AT_WORK} if entries["running"].any() else {}
        self._settling = True
        self.param.group.objects = groups or {"": ""}
        if self.group not in groups.values():
            self.group = next(reversed(groups.values()), "")
        self._settling = False

    def _chosen(self, entries: pd.DataFrame) -> pd.DataFrame:
        """The runs of the chosen group, in the order of their arms; those without a size are of every size."""
        if self.group == AT_WORK:
            found = entries[entries["running"]]
        else:
            n_high, _, seed = self.group.partition("/")
            found = entries[
                entries["n_high"].astype("str").isin([n_high, "0"]) & (entries["seed"].astype("str") == seed)
            ]
        order = arm_order(found["arm"])
        return found.sort_values("arm", key=lambda arms: arms.map(order.index)).head(MOST)

    # What goes on

    async def _look(self) -> None:
        """Show what has been trained since, beside the server's loop; seldom, while nothing is."""
        library = self.selection.library
        age = LIVE / 2 if library.entries["running"].any() else IDLE
        try:
            await asyncio.to_thread(library.refresh, age)
        except UserError:  # it is gone: what was there stays on the page
            return
        if self._seen == (library, library.entries_version):
            return
        if not self.selection.refresh():
            self.update()


if pn.state.served:
    serve(Training, "training")
