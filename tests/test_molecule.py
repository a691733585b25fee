"""The component that shows molecules: what it hands to the browser."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("panel", reason="panel is not installed")

import mfbench.show
from mfbench.show.molecule import LIBRARY, Molecules
from mfbench.show.scenes import Molecule, Scene

FOLDER = Path(mfbench.show.__file__).parent
HYDROGEN = Molecule("MF", np.array([1, 1]), np.array([[0.0, 0, 0], [0.74, 0, 0]]))


def test_a_page_of_a_server_gets_an_address_and_others_the_library() -> None:
    assert Molecules._render_esm(server=True) == "./components/mfbench.show.molecule/Molecules/_bundle_path/molecule.js"
    whole = Molecules._render_esm()
    assert whole.startswith((FOLDER / LIBRARY).read_text("utf-8"))
    assert "import {" not in whole  # what it needs is in it
    # Where a server's page finds the library, from the address above.
    statement = (FOLDER / "molecule.js").read_text("utf-8").partition("\n")[0]
    assert statement == f'import {{createViewer}} from "../_js/{LIBRARY}"'


def test_the_library_is_as_it_was_published() -> None:
    digest = hashlib.sha256((FOLDER / LIBRARY).read_bytes()).hexdigest()
    assert digest == "95513f6494717cc82fb2ba4d264f29b7ef189a31d4ece36a38d1f9666bf6d427"
    assert "University of Pittsburgh" in (FOLDER / "vendor/3Dmol-LICENSE.txt").read_text("utf-8")


def test_another_scene_takes_the_place_of_the_first() -> None:
    shown = Molecules(Scene((HYDROGEN,)))
    assert len(shown.drawing["molecules"]) == 1
    seen = []
    shown.param.watch(lambda *events: seen.append({event.name for event in events}), ["drawing", "picture"])
    shown.draw(Scene((HYDROGEN, HYDROGEN)))
    assert seen == [{"drawing", "picture"}]  # at once
    assert shown.picture.count("<circle") == 4 + 1
    shown.draw(Scene(message="positions are kept for at most 2,000 test structures"))
    assert shown.drawing["molecules"] == []
    assert "2,000" in shown.drawing["message"]
