"""Parts of pages that change in place, and choose test structures: plots, and a table of the worst."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, ClassVar

import holoviews as hv
import pandas as pd
import panel as pn
import param
from bokeh.models.widgets.tables import NumberFormatter

from mfbench.results.schema import QUANTITIES
from mfbench.show import parity
from mfbench.show.words import pretty_unit


@dataclass(frozen=True, eq=False)
class Shown:
    """What a parity plot shows."""

    found: pd.DataFrame  # of ``parity.pairs``
    quantity: str = "force"
    system: str = "kcal/mol"
    level: str = ""  # of the reference, as people call it


class Live(pn.viewable.Viewer):
    """A plot in a page that another of its kind replaces in place."""

    def __init__(self, plot: hv.Element, **params: Any) -> None:
        super().__init__(**params)
        self._plot = hv.streams.Pipe(data=plot)
        self.pane = _pane(hv.DynamicMap(lambda data: data, streams=[self._plot]))

    @property
    def plot(self) -> hv.Element:
        """What is shown."""
        return self._plot.data

    def draw(self, plot: hv.Element) -> None:
        """Show another."""
        self._plot.send(plot)

    def __panel__(self) -> pn.pane.HoloViews:
        return self.pane


def _pane(plot: hv.DynamicMap) -> pn.pane.HoloViews:
    return pn.pane.HoloViews(plot, linked_axes=False, sizing_mode="stretch_width")


class ParityPlot(pn.viewable.Viewer):
    """Predicted against reference: it changes in place, can be zoomed into, and tells whose point was chosen."""

    structure: Any = param.Integer(default=-1, doc="Index of what is marked, in the case's data; -1 for nothing.")

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self._shown = hv.streams.Pipe(data=Shown(parity.pairs({}, "", "", "force")))
        self._marked = hv.streams.Pipe(data=-1, rename={"data": "structure"})
        self._window = hv.streams.RangeXY()
        image = hv.DynamicMap(self._image, streams=[self._shown, self._window])
        self._window.source = image
        tap = hv.streams.SingleTap(source=image)
        tap.add_subscriber(self._tapped)
        points = hv.DynamicMap(lambda data: parity.points(data.found), streams=[self._shown])
        frame = hv.DynamicMap(
            lambda data: parity.diagonal(data.found, data.quantity, data.system, data.level), streams=[self._shown]
        )
        ring = hv.DynamicMap(
            lambda data, structure: parity.ring(data.found, structure), streams=[self._shown, self._marked]
        )
        self.pane = _pane(frame * image * points * ring)

    @property
    def found(self) -> pd.DataFrame:
        """All values that are shown."""
        return self._shown.data.found

    def draw(self, shown: Shown) -> None:
        """Show other values; the window is then all of them."""
        self._window.reset()
        self._shown.send(shown)

    @param.depends("structure", watch=True)
    def _mark(self) -> None:
        self._marked.send(self.structure)

    def _seen(self, x_range: Any, y_range: Any) -> parity.Window:
        if x_range is None or y_range is None:
            return parity.limits(self.found)
        return x_range[0], y_range[0], x_range[1], y_range[1]

    def _image(self, data: Shown, x_range: Any, y_range: Any) -> hv.RGB:
        return parity.image(data.found, self._seen(x_range, y_range))

    def _tapped(self, x: float | None, y: float | None) -> None:
        if x is None or y is None:
            return
        window = self._seen(self._window.x_range, self._window.y_range)
        chosen = parity.nearest(self.found, x, y, window)
        if chosen is not None:
            self.structure = chosen

    def __panel__(self) -> pn.pane.HoloViews:
        return self.pane


class WorstTable(pn.viewable.Viewer):
    """Structures, the worst first, with what each run makes of them; a row that is clicked is the one chosen."""

    structure: Any = param.Integer(default=-1, doc="Index of what is chosen, in the case's data; -1 for nothing.")

    TITLES: ClassVar = {
        "structure": "Structure",
        "molecule": "Molecule",
        "temperature": "T (K)",
        "distance": "Distance (Å)",
        "shown": "3-D",
    }

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.place = pn.Column(sizing_mode="stretch_width")
        self.found = pd.DataFrame()  # what is shown, its columns as they were given
        self._runs: tuple[str, ...] = ()
        self.table = pn.widgets.Tabulator(pd.DataFrame())

    def draw(self, found: pd.DataFrame, runs: Sequence[str], system: str) -> None:
        """Show other structures.

        Args:
            found: of ``structures.worst``.
            runs: their names in it.
        """
        self.found = found
        numbered = {f"{run} {what}": f"{what}{k}" for k, run in enumerate(runs) for what in ("energy", "force")}
        rows = found.rename(columns=numbered)
        titles = dict(self.TITLES)
        for what, label in (("energy", "Energy error"), ("force", "Force RMSE")):
            unit = pretty_unit(QUANTITIES[what].shown[system])
            titles |= {f"{what}{k}": f"{label} ({unit})" for k in range(len(runs))}
        if tuple(runs) != self._runs:
            self._runs = tuple(runs)
            self.table = self._made(rows, titles)
            self.place[:] = [self.table]
        else:
            self.table.param.update(value=rows, titles=titles)
        self._select()

    def _made(self, rows: pd.DataFrame, titles: dict[str, str]) -> pn.widgets.Tabulator:
        # Tabulator takes the titles of groups for HTML.
        groups = {escape(run): [f"energy{k}", f"force{k}"] for k, run in enumerate(self._runs)}
        errors = [column for own in groups.values() for column in own]
        digits = NumberFormatter(format="0,0.00", nan_format="–", text_align="right")
        whole = NumberFormatter(format="0", nan_format="–", text_align="right")
        table = pn.widgets.Tabulator(
            rows,
            titles=titles,
            groups=groups,
            formatters={
                **dict.fromkeys(("structure", "temperature"), whole),
                **dict.fromkeys(["distance", *errors], digits),
                "shown": {"type": "tickCross", "crossElement": False},
            },
            widths={"structure": 98, "molecule": 110, "temperature": 70, "distance": 100, "shown": 58}
            | dict.fromkeys(errors, 128),
            configuration={"columnDefaults": {"headerWordWrap": True}},
            show_index=False,
            disabled=True,
            selectable=1,
            layout="fit_data",
            height=340,
            sizing_mode="stretch_width",
        )
        table.on_click(self._clicked)
        return table

    def _clicked(self, event: Any) -> None:
        self.structure = int(self.table.value["structure"].iat[event.row])

    @param.depends("structure", watch=True)
    def _select(self) -> None:
        if "structure" in self.table.value:
            rows = (self.table.value["structure"] == self.structure).to_numpy().nonzero()[0]
            self.table.selection = [int(row) for row in rows]

    def __panel__(self) -> pn.Column:
        return self.place
