"""The dashboards' pages in notebooks."""

import importlib.util
import inspect
from functools import lru_cache
from pathlib import Path

from mfbench import resources
from mfbench.errors import unknown
from mfbench.show.selection import Selection
from mfbench.show.shell import PAGES, RUNS, View, libraries


def dashboard(name: str, runs: str | Path | None = None, query: str = "") -> View:
    """A page of the dashboards, for a notebook: call ``panel.extension()`` before it is shown.

    Args:
        name: ``overview``, ``curves``, ``inside``, ``training``, ``data`` or ``runs``.
        runs: folder of run folders; where none is given, as for ``mfbench serve``: MFBENCH_RUNS, else ``runs``.
        query: of a page's address, which says what is chosen: ``?case=ani1x-tz&system=meV``.

    Returns:
        The page: its ``selection`` is what is chosen, and can be changed.

    Raises:
        UserError: there is no such page, or the folder cannot be read.
    """
    pages = {path.stem: path for path in resources.dashboards().glob("*.py")}
    if name not in pages:
        raise unknown("page", name, [one for one in PAGES if one in pages])
    found = libraries(runs)
    if runs is not None:
        found[RUNS]()  # what was asked for by name is not replaced by other results
    return _view(pages[name])(Selection(found, query), query)


@lru_cache
def _view(page: Path) -> type[View]:
    """The view that a page's file defines."""
    spec = importlib.util.spec_from_file_location(f"mfbench_page_{page.stem}", page)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    views = [one for one in vars(module).values() if inspect.isclass(one) and issubclass(one, View)]
    (own,) = [one for one in views if one.__module__ == spec.name]
    return own
