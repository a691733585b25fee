"""The page around a view: navigation, choices, light and dark, a switch for lectures, the state in the address."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import panel as pn
import panel_material_ui as pmui
import param
from holoviews.plotting.bokeh.callbacks import Callback
from panel.custom import JSComponent

from mfbench import resources
from mfbench.errors import UserError
from mfbench.results.folder import METRICS_FILE
from mfbench.results.library import Library
from mfbench.results.reference import REFERENCES
from mfbench.results.runs import Told
from mfbench.show.aside import aside
from mfbench.show.html import STYLE
from mfbench.show.selection import Selection, parse_query
from mfbench.show.still import with_picture
from mfbench.show.styles import INK

# Pages by the name of their file, in the order of the navigation.
PAGES = {
    "overview": "Overview",
    "curves": "Learning curves",
    "inside": "Inside a run",
    "training": "Training",
    "data": "Data",
    "runs": "Runs",
}

RUNS = "runs"  # the folder's name among the results that can be chosen

SIDEBAR = 272  # px

# Labels above widgets are of 14 px, like the least of all texts; the gap in the frame that they stand in is as wide.
_COMPONENTS = {
    "MuiAppBar": {"styleOverrides": {"root": {"backgroundColor": INK, "color": "#ffffff"}}},
    "MuiInputLabel": {"styleOverrides": {"shrink": {"transform": "translate(14px, -10px) scale(0.88)"}}},
    "MuiOutlinedInput": {"styleOverrides": {"notchedOutline": {"fontSize": "1.17em"}}},
    "MuiChip": {"styleOverrides": {"label": {"fontSize": "14px"}}},
}
THEME = {
    "light": {"palette": {"primary": {"main": INK}}, "components": _COMPONENTS},
    "dark": {"palette": {"primary": {"main": "#9db2c7"}}, "components": _COMPONENTS},
}

CSS = """
@media (prefers-color-scheme: dark) { html:not(.mfb-light), html:not(.mfb-light) body { background: #121212 } }
@media print {
  header, nav, .MuiDrawer-root { display: none !important }
  html, body, main, .main-content, main > div, body > div { height: auto !important; overflow: visible !important }
}
"""


class Bar(JSComponent):
    """The navigation, and what is the browser's alone: light or dark (the system's, or as switched), the lecture."""

    pages: list[dict[str, str]] = param.List(default=[], doc="title and href of each.")  # type: ignore[assignment]
    current = param.String(doc="href of the page that is shown.")

    _esm = Path(__file__).with_name("bar.js")
    _stylesheets: ClassVar = [Path(__file__).with_name("bar.css").read_text()]


class View(pn.viewable.Viewer):
    """What a page shows: parts that follow a selection. A page, a notebook and a test show the same one.

    A view builds its parts once and changes them in place, when ``selection.chosen`` changes.
    """

    selection: Selection = param.ClassSelector(class_=Selection, constant=True)  # type: ignore[assignment]

    choices: ClassVar[Sequence[str]] = ()  # of the selection's, that stand at the left
    own: ClassVar[Sequence[str]] = ()  # parameters of the view itself that its address keeps, too

    def __init__(self, selection: Selection | None = None, query: str = "", **params: Any) -> None:
        """``query``: of an address, for what is the view's own; what is no such value is left out."""
        super().__init__(selection=selection or Selection(libraries()), **params)
        self._choose_own(parse_query(query, type(self), self.own))
        self.body = self.build()

    def build(self) -> pn.viewable.Viewable:
        """What is shown, beside the choices."""
        raise NotImplementedError

    def controls(self) -> list[pn.viewable.Viewable]:
        """The widgets at the left."""
        return [self.selection.widget(name) for name in self.choices]

    def on_change(self, show: Callable[[], None]) -> None:
        """Call a function now, and each time that something else is chosen."""
        self.selection.param.watch(lambda _event: show(), "chosen")
        show()

    def query(self) -> str:
        """What is shown, as the query of an address."""
        values = {name: getattr(self, name) for name in self.own}
        return self.selection.query({k: value for k, value in values.items() if value != self.param[k].default})

    def follow(self, query: str) -> None:
        """Show what an address says."""
        self.selection.follow(query)
        usual = {name: self.param[name].default for name in self.own}
        self._choose_own(usual | parse_query(query, type(self), self.own))

    def _choose_own(self, values: Mapping[str, Any]) -> None:
        with param.parameterized.batch_call_watchers(self):
            for name, value in values.items():
                with suppress(ValueError):
                    setattr(self, name, value)

    def still(self) -> bytes | None:
        """A picture (PNG) of what is shown, for where nothing is alive; None where there is none."""
        return None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        shown = super()._repr_mimebundle_(include, exclude)
        if not isinstance(shown, tuple) or (picture := self.still()) is None:
            return shown
        data, metadata = shown
        return with_picture(data, picture), metadata

    def __panel__(self) -> pn.viewable.Viewable:
        return pn.Row(
            pn.Column(*self.controls(), width=SIDEBAR, stylesheets=[STYLE]), self.body, sizing_mode="stretch_width"
        )


# Results that can be chosen


def runs_folder() -> Path:
    """Where the run folders are: MFBENCH_RUNS, else ``runs``. Fixed at the start, as pages are public."""
    return Path(os.environ.get("MFBENCH_RUNS", "runs")).expanduser()


def libraries(folder: str | Path | None = None) -> Mapping[str, Callable[[], Library]]:
    """What can be shown by its name: a folder of runs, and this project's own results that ship with this copy."""
    there = [name for name in REFERENCES if (resources.references() / name / METRICS_FILE).is_file()]
    of_folder = partial(Library.of_folder, runs_folder() if folder is None else folder)
    return {RUNS: of_folder, **{name: partial(Library.shipped, name) for name in there}}


def open_runs(told: Told) -> Library:
    """Read the folder of runs, if this process has not yet; see ``Library.of_folder``."""
    library = Library.of_folder(runs_folder(), told)
    _read.add(runs_folder())
    return library


# Pages


def figure(plot: Any, **params: Any) -> pn.pane.HoloViews:
    """A plot in a page: as wide as its place, axes its own. Give a DynamicMap for one that changes in place."""
    return pn.pane.HoloViews(plot, linked_axes=False, sizing_mode="stretch_width", **params)


def later(show: Callable[[], None]) -> None:
    """Show something after what is shown so far has gone to the browser; at once where there is none."""
    document = pn.state.curdoc
    if document is not None and document.session_context is not None:
        document.add_next_tick_callback(show)
    else:
        show()


class Html(pn.pane.HTML):
    """A piece of HTML in a page, dressed as all are; what comes from disk must be escaped in it."""

    def __init__(self, content: str = "", **params: Any) -> None:
        super().__init__(stylesheets=[STYLE], sizing_mode="stretch_width", **params)
        self.say(content)

    def say(self, content: str) -> None:
        """Show another."""
        self.object = f'<div class="mfb">{content}</div>'


def serve(view: type[View], name: str) -> None:
    """Show a view as the page of that name (see ``PAGES``) of a panel server."""
    pn.extension()
    location = pn.state.location
    bar = Bar(
        pages=[{"title": title, "href": page} for page, title in PAGES.items()],
        current=name,
        sizing_mode="stretch_width",
    )
    # Panel's own max-height would end what stands here at the window's lower edge, and lay the rest over it.
    main = pn.Column(sizing_mode="stretch_width", margin=(4, 16, 24, 16), styles={"max-height": "none"})
    page = pmui.Page(
        title="mfbench",
        meta_title=f"{PAGES[name]} · mfbench",
        header=[bar],
        sidebar=[],
        main=[main],
        sidebar_width=SIDEBAR,
        sidebar_resizable=False,
        raw_css=[CSS],
        theme_config=THEME,
        site_url="overview",
        busy_indicator=None,  # it would tell of all sessions' work
    )
    _forget_busy(page)
    pn.state.on_session_destroyed(_forget_callbacks)

    def fill() -> None:
        query = location.search if location else ""
        selection = Selection(libraries(), query)
        shown = view(selection, query)
        page.sidebar = shown.controls()
        status = Html()
        shown.on_change(lambda: status.say(f'<p class="soft">{escape(selection.status())}</p>'))
        main[:] = [shown.body, status]
        if location is not None:
            _keep_in_address(shown, location)

    if runs_folder() in _read:
        fill()
    else:
        said = Html("<p>Reading the runs ...</p>")
        main[:] = [said]
        pn.state.onload(partial(_fill_later, fill, said))
    page.servable()


_read: set[Path] = set()  # folders that this process has read: to look at them again takes no time


def _fill_later(fill: Callable[[], None], said: Html) -> None:
    """Open the results beside the server's loop, saying how far that is, then fill the page."""
    progress = [0, 0]

    def told(done: int, total: int) -> None:
        progress[:] = done, total

    def work() -> str:
        try:
            open_runs(told)
        except UserError as error:
            return str(error)
        return ""

    def tell() -> None:
        if progress[1]:
            said.say(f"<p>Reading the runs: {progress[0]:,} of {progress[1]:,}</p>")

    def then(problem: str) -> None:
        if problem:
            said.say(f"<h2>These results cannot be read</h2><p>{escape(problem)}</p>")
        else:
            fill()

    aside(work, then, tell)


def _forget_busy(page: pmui.Page) -> None:
    """A page follows ``busy`` of Panel's state, which outlives the session and would keep all of it in memory."""
    for watcher in list(pn.state.param.watchers["busy"]["value"]):
        if getattr(getattr(watcher.fn, "__self__", None), "self", None) is page:
            pn.state.param.unwatch(watcher)


def _forget_callbacks(context: Any) -> None:
    """HoloViews keeps what answers to taps and zooms in a table of all sessions, and with it all of an ended one."""
    held = Callback._callbacks
    for key in [key for key, one in held.items() if one.plot.document is context._document]:
        held.pop(key, None)


def _keep_in_address(view: View, location: Any) -> None:
    """The address says what is shown, and what it says is shown: links, bookmarks, and the browser's way back."""

    def say(*_events: Any) -> None:
        if location.search != (query := view.query()):
            location.search = query

    def follow(event: Any) -> None:
        if event.new != view.query():
            view.follow(event.new)

    view.selection.param.watch(say, "chosen")
    if view.own:
        view.param.watch(say, list(view.own))
    location.param.watch(follow, "search")
