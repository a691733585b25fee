"""Runs: every run, finished, unfinished or broken; one in full, or two compared. ``panel serve dashboards/*.py``."""

import os
from html import escape
from typing import Any, ClassVar

import panel as pn
import panel_material_ui as pmui
import param
from bokeh.models.widgets.tables import NumberFormatter

from mfbench.errors import UserError
from mfbench.show.command import Command
from mfbench.show.entries import MARKS, STATES, TITLES, apart_html, rows_of, run_html
from mfbench.show.shell import RUNS, Html, View, serve
from mfbench.study.command import command

HOW = "<p>Choose a run to see it in full, and a second one to compare the two; choose it again to let it go.</p>"

PAGE_SIZE = 10

WIDTHS = {"shown": 44, "state": 104, "case": 104, "data": 100, "arm": 120, "n_high": 74, "seed": 70}
WIDTHS |= {"backbone": 104, "preset": 120, "steps": 140, "seconds": 96, "finished": 150, "run": 420, "problem": 400}


def may_delete() -> bool:
    """Whether the server lets people delete runs: `mfbench serve --may-delete`, which shows them to nobody else."""
    return os.environ.get("MFBENCH_MAY_DELETE") == "1"


class Runs(View):
    """A table of all runs, and below it what is chosen there."""

    choices: ClassVar = ("source", "system")
    own: ClassVar = ("run", "compared")

    run = param.String(doc="That is shown in full, or compared.")
    compared = param.String(doc="That it is compared with.")

    def build(self) -> pn.viewable.Viewable:
        self.said, self.detail, self.command = Html(), Html(), Command(sizing_mode="stretch_width")
        self.making = pn.Column(Html("<h3>The command that makes it, or continues it</h3>"), self.command)
        self._seen: Any = None  # of what the table shows
        self.table = self._table()
        again = pmui.Button(label="Look again", color="primary", variant="outlined", on_click=lambda _: self._look())
        self.delete = pmui.Button(label="Delete this run", color="error", variant="outlined")
        self.delete.on_click(lambda _event: self._ask(True))
        sure = pmui.Button(label="Delete it for good", color="error", size="small", on_click=lambda _: self._delete())
        keep = pmui.Button(
            label="Keep it", color="primary", variant="outlined", size="small", on_click=lambda _: self._ask(False)
        )
        self.asking = pn.Row(sure, keep, visible=False)
        self.param.watch(lambda *_: self._show(), ["run", "compared"])
        self.on_change(self._look)
        return pn.Column(
            pn.Row(self.said, again),
            self.table,
            self.detail,
            self.making,
            self.delete,
            self.asking,
            sizing_mode="stretch_width",
        )

    def _table(self) -> pn.widgets.Tabulator:
        whole = NumberFormatter(format="0,0", nan_format="–", text_align="right")
        texts = [name for name in TITLES if name not in ("shown", "state", "seconds")]
        table = pn.widgets.Tabulator(
            rows_of(self.selection.library.entries[:0]),
            titles=TITLES,
            formatters=dict.fromkeys(("n_high", "seed", "seconds"), whole),
            widths=WIDTHS,
            header_filters={name: {"type": "input", "func": "like", "placeholder": "filter"} for name in texts}
            | {"state": {"type": "list", "func": "=", "values": ["", *STATES]}},
            pagination="remote",
            page_size=PAGE_SIZE,
            show_index=False,
            disabled=True,
            selectable=False,
            layout="fit_data",
            sizing_mode="stretch_width",
            stylesheets=[".tabulator .tabulator-header-filter :is(input, select) { font-size: 14px }"],
        )
        table.on_click(lambda event: self.choose(str(table.value["run"].iat[event.row])))
        return table

    # What is shown

    def _look(self) -> None:
        """Read again what was changed, and show it."""
        library = self.selection.library
        try:
            library.refresh(age=1.0)
        except UserError as error:
            self.said.say(f"<p>{escape(str(error))}</p>")
            return
        remarks = "".join(f"<li>{escape(one)}</li>" for one in library.remarks)
        about = f"Remarks on these results ({len(library.remarks):,})"
        self.said.say(f"<details><summary>{about}</summary><ul>{remarks}</ul></details>" if remarks else "")
        if self._seen != (library, library.entries_version):
            self._seen = (library, library.entries_version)
            self.table.value = rows_of(library.entries, (self.run, self.compared))
        self._show()

    def choose(self, run: str) -> None:
        """Show a run, beside the one that is shown; or no longer."""
        chosen = [one for one in (self.run, self.compared) if one]
        chosen = [one for one in chosen if one != run] if run in chosen else [*chosen[-1:], run]
        self.param.update(run=chosen[0] if chosen else "", compared=chosen[1] if len(chosen) > 1 else "")

    def _show(self) -> None:
        library, system = self.selection.library, self.selection.system
        names = self.table.value["run"]
        there = set(names)
        run, other = (one if one in there else "" for one in (self.run, self.compared))
        self._mark((run, other))
        self.detail.say(
            apart_html(library, run, other, system) if run and other else run_html(library, run, system) if run else HOW
        )
        self.making.visible = bool(run) and not other
        self.delete.visible = self.making.visible and may_delete() and self.selection.source == RUNS
        self._ask(False)
        if self.making.visible:
            self._say_command(run)

    def _mark(self, chosen: tuple[str, str]) -> None:
        """Mark what is chosen, where it is not marked yet."""
        rows = self.table.value
        marks = rows["run"].map(dict(zip(chosen, MARKS))).fillna("")
        changed = [(int(k), marks.iloc[k]) for k in (marks != rows["shown"]).to_numpy().nonzero()[0]]
        if changed:
            self.table.patch({"shown": changed})

    def _say_command(self, run: str) -> None:
        try:
            said = self.selection.library.settings(run)
            text, why = (command(said), "") if said else ("", "Its settings are not kept.")
        except UserError as error:
            text, why = "", str(error)
        self.command.param.update(text=text, why=why)

    # Deleting

    def _ask(self, asking: bool) -> None:
        self.asking.visible = asking
        self.delete.disabled = asking

    def _delete(self) -> None:
        """Delete the run that is shown, if people may."""
        if not (may_delete() and self.delete.visible and self.asking.visible):
            return
        try:
            self.selection.library.remove(self.run)
        except (UserError, OSError) as error:
            self.detail.say(f"<p>{escape(str(error))}</p>")
            self._ask(False)
            return
        self.run = ""
        self.selection.refresh()
        self._look()


if pn.state.served:
    serve(Runs, "runs")
