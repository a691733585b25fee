"""Plots of a page, changed in place: what they show is sent to them. Only pages import this: it needs panel."""

from html import escape

import holoviews as hv
import panel as pn

from mfbench.results.curves import Curves
from mfbench.show import plots
from mfbench.show.html import STYLE, notes_html


class CurvesPanel(pn.viewable.Viewer):
    """Learning curves of one case and quantity: heading, figure, notes; the figure is made once."""

    def __init__(self, found: Curves, frame_height: int = plots.FRAME_HEIGHT) -> None:
        super().__init__()
        self._sent = hv.streams.Pipe(data=found)
        curves = hv.DynamicMap(lambda data: plots.draw(data, frame_height), streams=[self._sent])
        self._figure = pn.pane.HoloViews(curves, linked_axes=False, sizing_mode="stretch_width")
        self._heading, self._notes = (pn.pane.HTML(stylesheets=[STYLE], sizing_mode="stretch_width") for _ in range(2))
        self._column = pn.Column(self._heading, self._figure, self._notes, sizing_mode="stretch_width")
        self._tell("", found)

    def send(self, found: Curves, heading: str = "") -> None:
        """Show other curves."""
        self._sent.send(found)
        self._tell(heading, found)

    def _tell(self, heading: str, found: Curves) -> None:
        self._heading.object = f'<div class="mfb"><h3>{escape(heading)}</h3></div>' if heading else ""
        self._heading.visible, self._figure.visible = bool(heading), not found.runs.empty
        self._notes.object = f'<div class="mfb">{notes_html(plots.notes(found))}</div>'

    def __panel__(self) -> pn.viewable.Viewable:
        return self._column
