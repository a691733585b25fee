"""What an address says: of the view itself, beside the choice of results."""

from typing import Any, ClassVar

import pytest

pytest.importorskip("panel", reason="panel is not installed")

import panel as pn
import param

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


def test_view_and_address_follow_each_other(selection: Selection) -> None:
    view, location = Example(selection), Location(search="?source=arms")
    _keep_in_address(view, location)
    view.row = 7
    selection.system = "meV"
    assert location.search == "?source=arms&system=meV&row=7"
    location.search = "?source=arms&look=over"
    assert (view.look, view.row, selection.system) == ("over", 0, "kcal/mol")
