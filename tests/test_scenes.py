"""Molecules with arrows: what is drawn of them, and the still picture."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from mfbench.show.scenes import CUT, INK, LONGEST, Arrows, Molecule, Scene, bonds, drawing, facing, picture

WATER = np.array([8, 1, 1])
AT = np.array([[0.0, 0.0, 0.1], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])


def water(*arrows: Arrows, title: str = "MF", note: str = "H2O, 300 K") -> Molecule:
    return Molecule(title, WATER, AT, arrows, note)


def along(axis: int, length: float, name: str = "reference", color: str = INK, thick: bool = True) -> Arrows:
    vectors = np.zeros((3, 3))
    vectors[0, axis] = length
    return Arrows(name, color, vectors, thick)


def test_the_longest_reference_arrow_sets_one_scale_for_all() -> None:
    reference, predicted = along(0, 50.0), along(0, 500.0, "SF-E", "#D55E00", False)
    scene = Scene((water(reference, predicted), water(reference)), "kcal/mol/Å")
    assert scene.scale * 50 == pytest.approx(LONGEST)
    first = scene.molecules[0]
    assert np.linalg.norm(scene.ends(first, reference)[0] - AT[0]) == pytest.approx(LONGEST)
    assert np.linalg.norm(scene.ends(first, predicted)[0] - AT[0]) == pytest.approx(CUT * LONGEST)
    assert scene.cut()
    assert not Scene((water(reference),)).cut()
    assert scene.bar == 20
    # Atoms without a force, or with one that is not a number, have no arrow.
    none = Arrows("MF", "#0072B2", np.full((3, 3), np.nan))
    np.testing.assert_array_equal(scene.ends(first, none), AT)


def test_bonds_go_by_distance() -> None:
    assert bonds(WATER, AT).tolist() == [[0, 1], [0, 2]]
    assert bonds(np.array([2]), np.zeros((1, 3))).shape == (0, 2)


@pytest.mark.parametrize("turn", range(3))
def test_what_is_drawn_is_flat_towards_us_and_turned_whole(turn: int) -> None:
    rotation = np.linalg.qr(np.random.default_rng(turn).normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    arrows = Arrows("MF", "#0072B2", np.random.default_rng(9).normal(size=(3, 3)) @ rotation.T)
    molecule = Molecule("MF", WATER, AT @ rotation.T + 5, (arrows,))
    axes = facing(molecule.positions)
    assert np.linalg.det(axes) == pytest.approx(1)
    made = drawing(Scene((molecule,)))["molecules"][0]
    drawn = np.array(made["positions"])
    assert abs(drawn[:, 2]).max() < 1e-9  # water is flat
    lengths = np.linalg.norm(np.array(made["arrows"][0]["ends"]) - drawn, axis=1)
    np.testing.assert_allclose(lengths / lengths.max(), _lengths(arrows), atol=1e-3)
    # Another orientation in space is drawn alike.
    np.testing.assert_allclose(drawn, drawing(Scene((water(),)))["molecules"][0]["positions"], atol=2e-3)


def _lengths(arrows: Arrows) -> np.ndarray:
    lengths = np.linalg.norm(arrows.vectors, axis=1)
    return lengths / lengths.max()


def test_a_drawing_is_json_and_names_arrows_and_elements_once() -> None:
    reference, mf = along(0, 1.0), along(1, 1.0, "MF", "#0072B2", False)
    made = json.loads(json.dumps(drawing(Scene((water(reference, mf), water(reference)), "meV/Å"))))
    assert [one["name"] for one in made["legend"]["arrows"]] == ["reference", "MF"]
    assert [one["name"] for one in made["legend"]["elements"]] == ["H", "O"]
    assert made["bar"]["text"].endswith(" meV/Å")
    assert made["reach"] >= LONGEST


def test_the_still_picture_holds_no_markup_of_ours() -> None:
    made = picture(Scene((water(along(0, 3.0), title="<script>", note="a & b"), water()), "eV/Å"))
    root = ElementTree.fromstring(made)
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[:2] == ["<script>", "a & b"]
    assert {"reference", "2 eV/Å", "H", "O"} <= set(texts)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 6 + 2
    assert "currentColor" in made
    assert picture(Scene(message="nothing")) == ""
