"""Plots of a page, changed in place: what they show is sent to them. Only pages import this: it needs panel."""

from collections.abc import Sequence
from html import escape

import holoviews as hv
import panel as pn

from mfbench.results.curves import Curves
from mfbench.show import plots
from mfbench.show.html import notes_html
from mfbench.show.shell import Html, figure

FACET_HEIGHT = 250  # px, of figures that others stand below


class CurvesPanel(pn.viewable.Viewer):
    """Learning curves of one case and quantity: heading, figure, notes. The figure is made once."""

    def __init__(
        self,
        found: Curves,
        heading: str = "",
        frame_height: int = plots.FRAME_HEIGHT,
        notes: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self._height = frame_height
        self._sent = hv.streams.Pipe(data=(found, frame_height))
        self._figure = figure(hv.DynamicMap(lambda data: plots.draw(*data), streams=[self._sent]))
        self._heading, self._notes = Html(), Html()
        self.view = pn.Column(self._heading, self._figure, self._notes, sizing_mode="stretch_width")
        self._tell(found, heading, plots.notes(found) if notes is None else notes)

    def send(
        self,
        found: Curves,
        heading: str = "",
        frame_height: int | None = None,
        notes: Sequence[str] | None = None,
    ) -> None:
        """Show other curves: as high as those before, if nothing is said; notes may stand elsewhere."""
        self._height = frame_height or self._height
        self._sent.send((found, self._height))
        self._tell(found, heading, plots.notes(found) if notes is None else notes)

    def _tell(self, found: Curves, heading: str, notes: Sequence[str]) -> None:
        self._heading.say(f"<h3>{escape(heading)}</h3>" if heading else "")
        self._heading.visible, self._figure.visible = bool(heading), not found.runs.empty
        self._notes.say(notes_html(notes))
        self._notes.visible = bool(notes)

    def __panel__(self) -> pn.viewable.Viewable:
        return self.view


class CurvesGrid(pn.viewable.Viewer):
    """Panels of learning curves: a column a facet, a row a quantity; of one facet, beside each other.

    Below each other on a narrow screen. Panels are made when they are first needed, and hidden when they are not. What
    is to be noted of all stands once, below.
    """

    def __init__(self) -> None:
        super().__init__()
        self._panels: list[CurvesPanel] = []
        self._grid, self._heading, self._notes = pn.Column(sizing_mode="stretch_width"), Html(), Html()

    def send(self, headings: Sequence[str], facets: Sequence[Sequence[Curves]]) -> None:
        """Show the curves of each facet, one for each quantity."""
        several = len(facets) > 1
        self._heading.say("" if several else f"<h3>{escape(''.join(headings))}</h3>")
        self._heading.visible = not several
        self._arrange(len(facets), max(map(len, facets), default=1))
        notes = [plots.notes(found) for pair in facets for found in pair]
        common = set.intersection(*map(set, notes)) if notes else set()
        height = FACET_HEIGHT if several else plots.FRAME_HEIGHT
        placed = [
            (found, heading if several and k == 0 else "", height)
            for heading, pair in zip(headings, facets)
            for k, found in enumerate(pair)
        ]
        while len(self._panels) < len(placed):
            self._panels.append(CurvesPanel(*placed[len(self._panels)]))
            self._grid.append(self._panels[-1].view)
        for panel, one, said in zip(self._panels, placed, notes):
            panel.send(*one, [note for note in said if note not in common])
        for k, panel in enumerate(self._panels):
            panel.view.visible = k < len(placed)
        self._notes.say(notes_html([note for said in notes[:1] for note in said if note in common]))

    def _arrange(self, facets: int, rows: int) -> None:
        columns = facets if facets > 1 else rows
        flow = f"grid-auto-flow:column;grid-template-rows:repeat({rows},auto)" if facets > 1 else ""
        narrow = ":host{display:grid!important;gap:8px 24px;grid-template-columns:minmax(0,1fr)}"
        wide = f"@media(min-width:900px){{:host{{grid-template-columns:repeat({columns},minmax(0,1fr));{flow}}}}}"
        self._grid.stylesheets = [narrow, wide]

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Column(self._heading, self._grid, self._notes, sizing_mode="stretch_width")
