"""Plots of a page, changed in place: what they show is sent to them. Only pages import this: it needs panel."""

from collections.abc import Sequence
from html import escape

import holoviews as hv
import panel as pn

from mfbench.results.curves import Curves
from mfbench.show import plots
from mfbench.show.html import notes_html
from mfbench.show.shell import Html, figure


class CurvesPanel(pn.viewable.Viewer):
    """Learning curves of one case and quantity: heading, figure, notes. The figure is made once."""

    def __init__(self, found: Curves, heading: str = "", frame_height: int = plots.FRAME_HEIGHT) -> None:
        super().__init__()
        self._sent = hv.streams.Pipe(data=(found, frame_height))
        self._figure = figure(hv.DynamicMap(lambda data: plots.draw(*data), streams=[self._sent]))
        self._heading, self._notes = Html(), Html()
        self._column = pn.Column(self._heading, self._figure, self._notes, sizing_mode="stretch_width")
        self._tell(found, heading)

    def send(self, found: Curves, heading: str = "", frame_height: int = plots.FRAME_HEIGHT) -> None:
        """Show other curves."""
        self._sent.send((found, frame_height))
        self._tell(found, heading)

    def _tell(self, found: Curves, heading: str) -> None:
        self._heading.say(f"<h3>{escape(heading)}</h3>" if heading else "")
        self._heading.visible, self._figure.visible = bool(heading), not found.runs.empty
        self._notes.say(notes_html(plots.notes(found)))

    def __panel__(self) -> pn.viewable.Viewable:
        return self._column


class CurvesGrid(pn.viewable.Viewer):
    """Panels of learning curves: a column a facet, a row a quantity; of one facet, beside each other.

    Below each other on a narrow screen. Panels are made when they are first needed, and hidden when they are not.
    """

    def __init__(self) -> None:
        super().__init__()
        self._panels: list[CurvesPanel] = []
        self._grid = pn.Column(sizing_mode="stretch_width")

    def show_all(self, headings: Sequence[str], facets: Sequence[Sequence[Curves]]) -> None:
        """Show the curves of each facet, one for each quantity."""
        rows = max(map(len, facets), default=1)
        columns = len(facets) if len(facets) > 1 else rows
        height = plots.FRAME_HEIGHT if len(facets) < 2 else 260
        placed = [
            (found, heading if k == 0 else "", height)
            for heading, pair in zip(headings, facets)
            for k, found in enumerate(pair)
        ]
        for panel, one in zip(self._panels, placed):
            panel.send(*one)
        self._panels += [CurvesPanel(*one) for one in placed[len(self._panels) :]]
        flow = f"grid-auto-flow:column;grid-template-rows:repeat({rows},auto)" if len(facets) > 1 else ""
        base = ":host{display:grid!important;gap:8px 24px;grid-template-columns:minmax(0,1fr)}"
        wide = f"@media(min-width:900px){{:host{{grid-template-columns:repeat({columns},minmax(0,1fr));{flow}}}}}"
        self._grid.stylesheets = [base, wide]
        if len(self._grid) < len(self._panels):
            self._grid.objects = [panel.__panel__() for panel in self._panels]
        for k, shown in enumerate(self._grid):
            shown.visible = k < len(placed)

    def __panel__(self) -> pn.viewable.Viewable:
        return self._grid
