"""Errors and learning curves of all cases, read from run folders. ``panel serve dashboards/*.py``."""

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import holoviews as hv
import pandas as pd
import panel as pn
import param

from mfbench import resources
from mfbench.errors import UserError
from mfbench.results.folder import METRICS_FILE
from mfbench.results.reference import REFERENCES, reference_table
from mfbench.results.rows import cases as cases_of
from mfbench.results.rows import setups_of, with_setup
from mfbench.results.runs import read_runs
from mfbench.results.schema import CONVENTION, METRICS, QUANTITIES, UNIT_SYSTEMS, empty_table, metrics_of
from mfbench.show import plots
from mfbench.show.html import STYLE, card_html, errors_html, gaps_html, spread_html
from mfbench.show.styles import INK
from mfbench.show.tables import gap_table, spread_table
from mfbench.show.words import GAP_CONVENTION, INFERRED, levels_label, metric_labels, seeds_text

TITLE = "mfbench: errors and learning curves"
ALL = "all cases"
PART_CHOICES = {"New geometries (test)": "test", "New molecules (unseen)": "unseen"}
ACCENT = INK
CODE_STYLE = f"code {{ color: {INK} !important; background: #eef1f4; padding: 2px 6px; border-radius: 4px }}"
HELP_STYLE = {"font-size": "17px", "line-height": "1.6", "padding": "12px 8px"}

pn.extension()


def runs_folder() -> str:
    """Where the run folders are, unless the person says otherwise: MFBENCH_RUNS, else ``runs``."""
    return os.environ.get("MFBENCH_RUNS", "runs")


def shipped_results() -> dict[str, str]:
    """This project's own results that ship with this copy, by what they are: names of ``REFERENCES``."""
    there = [name for name in REFERENCES if (resources.references() / name / METRICS_FILE).is_file()]
    return {f"Shipped: {REFERENCES[name]}": name for name in there}


class Overview(pn.viewable.Viewer):
    """One page over a results table; everything a person can choose is a parameter."""

    source: Any = param.Selector(default="runs", objects={"Run folders": "runs"}, label="Results")
    folder = param.String(constant=True, precedence=-1, doc="Of run folders: fixed at the start, as pages are public.")
    reload = param.Event(label="Reload")
    case: Any = param.Selector(default=ALL, objects=[ALL], label="Case")
    setup: Any = param.Selector(objects=[], label="Data · network · preset")
    part: Any = param.Selector(default="test", objects=PART_CHOICES, label="Judged on")
    metric: Any = param.Selector(
        default="mae",
        objects=metric_labels(METRICS),
        label="Metric of the curves",
    )
    energy: Any = param.Selector(
        default="energy",
        objects={q.label: name for name, q in QUANTITIES.items() if name != "force"},
        label="Energy of the curves",
    )
    system: Any = param.Selector(default="kcal/mol", objects=list(UNIT_SYSTEMS), label="Unit of energy")
    table = param.DataFrame(default=empty_table(), precedence=-1)
    problem = param.String(precedence=-1, doc="What went wrong while reading, for people.")

    def __init__(self, **params: Any) -> None:
        super().__init__(**{"folder": runs_folder(), **params})
        self.param.source.objects = {"Run folders": "runs", **shipped_results()}
        self._read()

    # State

    @param.depends("source", "reload", watch=True)
    def _read(self) -> None:
        """Read the table again; what was chosen stays chosen where it still exists."""
        table, problem = empty_table(), ""
        try:
            if self.source == "runs":
                found = read_runs(Path(self.folder).expanduser())
                table, problem = found.table, "; ".join(found.problems)
            else:
                table = reference_table(self.source)
        except (UserError, OSError) as error:
            problem = str(error)
        self._offer("case", [ALL, *cases_of(table)])
        self._offer("metric", metric_labels(metrics_of(table)))
        self._offer("setup", {" · ".join(s): s for s in setups_of(table)})
        self.param.update(table=table, problem=problem)

    def _offer(self, name: str, choices: list[str] | Mapping[str, str | tuple[str, ...]]) -> None:
        values = list(choices.values()) if isinstance(choices, Mapping) else choices
        self.param[name].objects = choices
        if getattr(self, name) not in values:
            setattr(self, name, values[0] if values else None)

    def chosen_table(self) -> pd.DataFrame:
        """The rows of the chosen data, backbone and preset."""
        return with_setup(self.table, self.setup) if self.setup else self.table

    def measured(self) -> str:
        """The metric of gaps and ratios: the one that is chosen, or the MAE where that is no error of mfbench's."""
        return self.metric if self.metric in METRICS else "mae"

    def chosen_cases(self) -> list[str]:
        """The chosen case, or all."""
        there = cases_of(self.chosen_table())
        return there if self.case == ALL else [case for case in there if case == self.case]

    # Views

    def curves(self, case: str) -> hv.Layout:
        """Energy and force learning curves of a case, as chosen."""
        rows = self.chosen_table()
        return plots.case_panel(rows, case, self.metric, self.system, self.part, self.energy)

    def tables(self, case: str) -> str:
        """The errors and the gap closed of a case, as HTML."""
        rows = self.chosen_table()
        gaps = gap_table(rows, case, self.part, self.system, self.measured())
        gap = gaps_html([(case, gaps)], self.system, self.measured())
        found = spread_table(rows, case, self.part, self.system, self.measured())
        spread = spread_html(found, self.system, self.measured())
        return errors_html(rows, case, self.part, self.system) + spread + gap

    def status(self) -> str:
        """One line: what is shown, and from where."""
        runs = self.table.loc[self.table["n"] > 0, "run"].nunique()
        where = f"in {self.folder}" if self.source == "runs" else "shipped with mfbench"
        devices = ", ".join(sorted(set(self.table["device"]) - {""}))
        seeds = seeds_text(self.table)
        if self.table["seed"].nunique() == 1:
            seeds += " only, so nothing is known of the spread"
        left_out = f" Left out, for they cannot be read: {self.problem}." if self.problem else ""
        return f"{runs} finished run{'s' if runs != 1 else ''} {where}; {seeds}; {devices}.{left_out}"

    def help(self) -> str:
        """What to do when there is nothing to show (Markdown)."""
        if self.problem:
            return f"### These results cannot be read\n\n{self.problem}"
        shipped = (
            "Meanwhile, *Shipped* at the left shows this project's own results, with the device that they were made on."
            if shipped_results()
            else "This copy of mfbench ships no results to look at meanwhile."
        )
        return (
            f"### No finished runs in `{self.folder}`\n\n"
            "Make some, then press *Reload*:\n\n"
            "- `mfbench demo` trains the arms on all three cases (some minutes)\n"
            "- `mfbench run ani1x-tz --arm MF --n-high 50` trains one\n\n"
            "Runs kept elsewhere: start with `mfbench serve --runs FOLDER`, or set `MFBENCH_RUNS` before.\n\n"
            f"{shipped}"
        )

    @param.depends("table", "problem", "case", "setup", "part", "metric", "energy", "system")
    def main(self) -> pn.Column:
        """The page without its widgets."""
        if self.table.empty:
            return pn.Column(pn.pane.Markdown(self.help(), styles=HELP_STYLE, stylesheets=[CODE_STYLE], max_width=760))
        rows, cases = self.chosen_table(), self.chosen_cases()
        cards = "".join(card_html(rows, case, self.part, self.measured()) for case in cases)
        views: list[pn.viewable.Viewable] = [
            _html(f'<p class="soft">{escape(self.status())}</p><div class="cards">{cards}</div>')
        ]
        for case in cases:
            heading = f"{case}: {levels_label(rows, case)}"
            views += [
                _html(f"<h2>{escape(heading)}</h2>"),
                _side_by_side(self.curves(case)),
                _html(self.tables(case)),
            ]
        notes = f"{CONVENTION} {GAP_CONVENTION} {INFERRED}"
        views.append(_html(f'<p class="soft">{escape(notes)}</p>'))
        return pn.Column(*views, sizing_mode="stretch_width")

    def controls(self) -> pn.Param:
        """The widgets."""
        return pn.Param(
            self,
            parameters=[
                "source",
                "reload",
                "case",
                "setup",
                "part",
                "metric",
                "energy",
                "system",
            ],
            widgets={
                "source": {"type": pn.widgets.RadioBoxGroup},
                "reload": {"type": pn.widgets.Button, "color": "primary"},
            },
            show_name=False,
            sizing_mode="stretch_width",
        )

    def __panel__(self) -> pn.Row:
        return pn.Row(self.controls(), self.main)

    def page(self) -> pn.template.BootstrapTemplate:
        """The whole page; its template loads nothing from elsewhere."""
        return pn.template.BootstrapTemplate(
            title=TITLE,
            sidebar=[self.controls()],
            main=[pn.panel(self.main, loading_indicator=True)],
            header_background=ACCENT,
            sidebar_width=356,
        )


def _html(content: str) -> pn.pane.HTML:
    return pn.pane.HTML(f'<div class="mfb">{content}</div>', stylesheets=[STYLE], sizing_mode="stretch_width")


def _side_by_side(layout: hv.Layout) -> pn.FlexBox:
    """The layout's elements beside each other, below each other on a narrow screen."""
    panes = [
        pn.pane.HoloViews(
            element, linked_axes=False, sizing_mode="stretch_width", styles={"flex": "1 1 420px", "min-width": "0"}
        )
        for element in layout
    ]
    return pn.FlexBox(*panes, gap="8px 32px", sizing_mode="stretch_width")


if pn.state.served:
    Overview().page().servable()
