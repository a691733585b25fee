"""What an address says: of the view itself, beside the choice of results."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("panel", reason="panel is not installed")

import panel as pn
import param

from mfbench.errors import UserError
from mfbench.results.library import Library
from mfbench.show import shell
from mfbench.show.selection import Selection
from mfbench.show.shell import View, _keep_in_address, libraries


class Example(View):
    molecule = param.String(default="")
    look: Any = param.Selector(default="beside", objects=["beside", "over"])
    row = param.Integer(default=0, bounds=(0, 9))

    own: ClassVar = ("molecule", "look", "row")

    def build(self) -> pn.viewable.Viewable:
        self.built_with = self.molecule, self.look, self.row
        return pn.Column()


class Location(param.Parameterized):
    search = param.String()


@pytest.fixture
def selection() -> Selection:
    return Selection(libraries(), "?source=arms")


def test_a_view_is_built_with_what_its_address_says(selection: Selection) -> None:
    view = Example(selection, "?molecule=CH4%20%26%20co&look=over&row=3&system=meV")
    assert view.built_with == ("CH4 & co", "over", 3)
    assert view.query() == "?source=arms&molecule=CH4%20%26%20co&look=over&row=3"
    assert Example(selection, row=4).built_with == ("", "beside", 4)


@pytest.mark.parametrize("query", ["look=elsewhere", "row=10", "row=true", "row=x", f"row={'[' * 9999}", "other=1"])
def test_what_is_no_such_value_is_left_out(selection: Selection, query: str) -> None:
    assert Example(selection, f"?{query}").query() == "?source=arms"


@pytest.fixture
def unreadable(tmp_path: Path) -> Mapping[str, Callable[[], Library]]:
    """Results beside a folder of runs that is none."""
    (tmp_path / "<b>").write_text("")
    return libraries(tmp_path / "<b>")


@pytest.mark.parametrize("query", ["", "?source=runs"])
def test_an_unreadable_folder_hides_no_other_results(
    query: str, unreadable: Mapping[str, Callable[[], Library]]
) -> None:
    selection = Selection(unreadable, query)
    first = list(unreadable)[1]
    assert (selection.source, selection.library) == (first, Library.shipped(first))
    assert len(selection.chosen.table)
    assert "Cannot be read, so not shown: " in selection.status()
    assert "Not a directory" in selection.status()


def test_choosing_an_unreadable_folder_shows_what_can_be_read(
    unreadable: Mapping[str, Callable[[], Library]],
) -> None:
    said: list[str] = []
    selection = Selection(unreadable, f"?source={list(unreadable)[1]}")
    assert "Cannot be read" not in selection.status()
    selection.param.watch(lambda _event: said.append(selection.status()), "chosen")
    selection.source = "runs"
    assert selection.library.label.startswith("Shipped")
    assert selection.source == list(unreadable)[1]
    assert "Not a directory" in said[-1]
    with pytest.raises(UserError, match="Not a directory"):
        Selection({"runs": unreadable["runs"]})


def test_a_page_shows_other_results_than_an_unreadable_folder(
    unreadable: Mapping[str, Callable[[], Library]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "libraries", lambda: unreadable)
    monkeypatch.setattr(shell, "_read", {shell.runs_folder()})
    pages: list[Any] = []
    monkeypatch.setattr(shell.pmui.Page, "servable", lambda page: pages.append(page))
    shell.serve(Example, "overview")
    assert "Cannot be read, so not shown: " in pages[0].main[0][-1].object
    assert "/&lt;b&gt;: " in pages[0].main[0][-1].object
    monkeypatch.setattr(shell, "libraries", lambda: {"runs": unreadable["runs"]})
    shell.serve(Example, "overview")
    assert "These results cannot be read" in pages[1].main[0][-1].object
    assert "<b>" not in pages[1].main[0][-1].object


def test_view_and_address_follow_each_other(selection: Selection) -> None:
    view, location = Example(selection), Location(search="?source=arms")
    _keep_in_address(view, location)
    view.row = 7
    selection.system = "meV"
    assert location.search == "?source=arms&system=meV&row=7"
    location.search = "?source=arms&look=over"
    assert (view.look, view.row, selection.system) == ("over", 0, "kcal/mol")
