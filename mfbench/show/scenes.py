"""Molecules with arrows at their atoms: what is drawn of them, and a still picture for where nothing can move."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfbench.data.bonds import bonded, in_radii
from mfbench.elements import COVALENT_RADII, SYMBOLS

Array = NDArray[np.float64]

INK = ""  # colour of arrows that are as dark, or as light, as text on the page is

# Of balls, after Corey, Pauling and Koltun, as pale as light and dark grounds both bear.
_COLORS = {
    1: "#cfd6dd", 6: "#566472", 7: "#5b7fe0", 8: "#e0564f", 9: "#7fc97a",
    14: "#d8b88f", 15: "#f0913a", 16: "#dcc43c", 17: "#3fae49", 35: "#a6493c",
}  # fmt: skip

_OTHER_COLOR = "#b07ab8"

BALL, STICK = 0.42, 0.1  # radii: of a ball in covalent radii, and of a stick in Angstrom

THICK, THIN = 0.11, 0.055  # radii of arrows, Angstrom: thick ones let what is inside show

LONGEST = 1.5  # Angstrom: the longest of the first molecule's first arrows

CUT = 2.0  # an arrow is drawn no longer than this many times that

SHORTEST = 0.06  # Angstrom: what is shorter is no arrow any more


@dataclass(frozen=True)
class Arrows:
    """A vector at every atom."""

    name: str
    color: str  # of CSS, or ``INK``
    vectors: Array  # (N, 3) in the scene's unit
    thick: bool = False  # and translucent, so that thin arrows along them are seen


@dataclass(frozen=True)
class Molecule:
    """One molecule of a scene."""

    title: str
    numbers: NDArray[np.integer]  # (N,)
    positions: Array  # (N, 3) Angstrom
    arrows: Sequence[Arrows] = ()
    note: str = ""  # below the title


@dataclass(frozen=True)
class Scene:
    """Molecules beside each other, their arrows at one scale."""

    molecules: Sequence[Molecule] = ()
    unit: str = ""  # of the arrows, as people read it
    message: str = ""  # why there is nothing to see
    scale: float = field(init=False)  # Angstrom drawn per unit of the arrows

    def __post_init__(self) -> None:
        lengths = [_longest(arrows.vectors) for molecule in self.molecules for arrows in molecule.arrows]
        longest = next((one for one in lengths if one > 0), 1.0)
        object.__setattr__(self, "scale", LONGEST / longest)

    @property
    def bar(self) -> float:
        """A round number of the unit whose arrow is some 1 Angstrom long."""
        target = 1 / self.scale
        decade = 10 ** np.floor(np.log10(target))
        return float(decade * max(step for step in (1, 2, 5) if step * decade <= target * (1 + 1e-9)))

    def ends(self, molecule: Molecule, arrows: Arrows) -> Array:
        """Where the arrows end, (N, 3) Angstrom; at their atoms where they are too short to be drawn."""
        drawn = np.nan_to_num(arrows.vectors * self.scale)
        length = np.linalg.norm(drawn, axis=1, keepdims=True)
        drawn = drawn * np.minimum(1, CUT * LONGEST / np.maximum(length, 1e-12)) * (length >= SHORTEST)
        return molecule.positions + drawn

    def cut(self) -> bool:
        """Whether some arrow is drawn shorter than it is."""
        return any(
            _longest(arrows.vectors) * self.scale > CUT * LONGEST for one in self.molecules for arrows in one.arrows
        )


def _longest(vectors: Array) -> float:
    return float(np.nan_to_num(np.linalg.norm(vectors, axis=1)).max(initial=0.0))


def bonds(numbers: NDArray[np.integer], positions: Array) -> NDArray[np.int64]:
    """Pairs of bonded atoms, (B, 2), by distance."""
    if len(numbers) < 2:
        return np.zeros((0, 2), np.int64)
    square = np.square(positions[:, None] - positions).sum(-1)
    np.fill_diagonal(square, np.inf)
    return np.argwhere(np.triu(bonded(in_radii(numbers[None], square[None]))[0]))


def facing(positions: Array) -> Array:
    """A rotation (3, 3) that lays the longest extent of a molecule along x and the shortest along the line of sight."""
    centred = positions - positions.mean(0)
    axes = np.linalg.svd(centred, full_matrices=True)[2]
    # An axis has no sense: the first atom that is off the middle decides, so that like geometries lie alike.
    along = centred @ axes.T
    for k in range(2):
        off = along[np.abs(along[:, k]) > 0.1, k]
        axes[k] *= -1 if len(off) and off[0] < 0 else 1
    axes[2] = np.cross(axes[0], axes[1])
    return axes


def color_of(number: int) -> str:
    """The colour of an element's balls."""
    return _COLORS.get(number, _OTHER_COLOR)


def drawing(scene: Scene) -> dict[str, Any]:
    """The scene as the browser draws it: JSON, all in Angstrom, each molecule centred and laid out by ``facing``."""
    molecules = []
    reach = 1.0
    for one in scene.molecules:
        turn, middle = facing(one.positions).T, one.positions.mean(0)
        positions = (one.positions - middle) @ turn
        pairs = bonds(one.numbers, one.positions)
        reach = max(reach, float(np.abs(positions[:, :2]).max(initial=0.0)) + 0.4)
        sets = []
        for arrows in one.arrows:
            ends = (scene.ends(one, arrows) - middle) @ turn
            reach = max(reach, float(np.abs(ends[:, :2]).max(initial=0.0)) + 0.1)
            sets.append(
                {"color": arrows.color, "thick": arrows.thick, "radius": THICK if arrows.thick else THIN}
                | {"ends": ends.round(3).tolist()}
            )
        molecules.append(
            {
                "title": one.title,
                "note": one.note,
                "positions": positions.round(3).tolist(),
                "colors": [color_of(int(z)) for z in one.numbers],
                "symbols": [SYMBOLS.get(int(z), "X") for z in one.numbers],
                "radii": (BALL * COVALENT_RADII[one.numbers]).round(3).tolist(),
                "bonds": pairs.tolist(),
                "arrows": sets,
            }
        )
    return {
        "molecules": molecules,
        "reach": round(reach, 3),
        "stick": STICK,
        "legend": legend(scene),
        "bar": {"length": round(scene.bar * scene.scale, 4), "text": f"{scene.bar:g} {scene.unit}"},
        "message": scene.message,
        "cut": f"longer than {CUT * LONGEST / scene.scale:.3g} {scene.unit}: cut" if scene.cut() else "",
    }


def legend(scene: Scene) -> dict[str, list[dict[str, Any]]]:
    """What arrows and elements there are, each once."""
    arrows = {a.name: {"name": a.name, "color": a.color, "thick": a.thick} for m in scene.molecules for a in m.arrows}
    present = sorted({int(z) for one in scene.molecules for z in one.numbers})
    return {
        "arrows": list(arrows.values()),
        "elements": [{"name": SYMBOLS.get(z, "X"), "color": color_of(z)} for z in present],
    }


# Still


WIDTH, HEIGHT = 360, 300  # px of one molecule in a picture


def picture(scene: Scene) -> str:
    """The scene as SVG, text in the colour of what is around it; empty text of one without molecules."""
    if not scene.molecules:
        return ""
    made = drawing(scene)
    per_angstrom = 0.5 * (HEIGHT - 64) / made["reach"]
    views = [_still(one, k, per_angstrom, made) for k, one in enumerate(made["molecules"])]
    width, height = WIDTH * len(views), HEIGHT + 34
    names = "; ".join(f"{m['title']} {m['note']}".strip() for m in made["molecules"])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" style="max-width:{width}px;width:100%"'
        f' font-family="sans-serif" font-size="15" fill="currentColor" role="img" aria-label="{escape(names)}">'
        f"{''.join(views)}{_key(made, per_angstrom)}</svg>"
    )


def _still(one: dict[str, Any], at: int, per_angstrom: float, made: dict[str, Any]) -> str:
    """One molecule, what is further away first."""
    middle = np.array([WIDTH * (at + 0.5), 48 + 0.5 * (HEIGHT - 64)])

    def place(point: Sequence[float]) -> tuple[float, float]:
        x, y = middle + per_angstrom * np.array([point[0], -point[1]])
        return round(float(x), 1), round(float(y), 1)

    positions = one["positions"]
    pieces: list[tuple[float, str]] = []
    for a, b in one["bonds"]:
        half = [(p + q) / 2 for p, q in zip(positions[a], positions[b])]
        for k in (a, b):
            (x1, y1), (x2, y2) = place(positions[k]), place(half)
            width = 2 * made["stick"] * per_angstrom
            line = f'<path d="M{x1} {y1}L{x2} {y2}" stroke="{one["colors"][k]}" stroke-width="{width:.1f}"/>'
            pieces.append((min(positions[k][2], half[2]) - 0.01, line))
    for k, position in enumerate(positions):
        x, y = place(position)
        ball = f'<circle cx="{x}" cy="{y}" r="{one["radii"][k] * per_angstrom:.1f}" fill="{one["colors"][k]}"/>'
        pieces.append((position[2], ball.replace("/>", ' stroke="#3e4c59" stroke-width="0.7"/>')))
    pieces.sort(key=lambda piece: piece[0])
    arrows = [_arrow(place(a), place(b), s) for s in one["arrows"] for a, b in zip(positions, s["ends"]) if a != b]
    heads = (
        f'<text x="{middle[0]}" y="18" text-anchor="middle" font-weight="600">{escape(one["title"])}</text>'
        f'<text x="{middle[0]}" y="38" text-anchor="middle">{escape(one["note"])}</text>'
    )
    return heads + "".join(text for _, text in pieces) + "".join(arrows)


def _arrow(start: tuple[float, float], end: tuple[float, float], style: dict[str, Any]) -> str:
    """A flat arrow."""
    a, b = np.array(start), np.array(end)
    length = float(np.linalg.norm(b - a))
    if length < 2:  # it comes straight at us
        return ""
    along = (b - a) / length
    across = np.array([-along[1], along[0]])
    width = 5.0 if style["thick"] else 2.4
    head = min(2.6 * width, 0.6 * length)
    neck = b - head * along
    tip = [b, neck + 0.55 * head * across, neck - 0.55 * head * across]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in tip)
    color = style["color"] or "currentColor"
    return (
        f'<g fill="{color}" stroke="none" opacity="{0.5 if style["thick"] else 1}">'
        f'<path d="M{a[0]:.1f} {a[1]:.1f}L{neck[0]:.1f} {neck[1]:.1f}" stroke="{color}" '
        f'stroke-width="{width}"/><polygon points="{points}"/></g>'
    )


def _key(made: dict[str, Any], per_angstrom: float) -> str:
    """The line below: the arrows, their scale, the elements."""
    x, y = 12.0, HEIGHT + 18
    parts = []
    for one in made["legend"]["arrows"]:
        parts.append(_arrow((x, y - 5), (x + 26, y - 5), one))
        parts.append(f'<text x="{x + 32}" y="{y}">{escape(one["name"])}</text>')
        x += 46 + 8 * len(one["name"])
    if made["legend"]["arrows"]:
        length = made["bar"]["length"] * per_angstrom
        ends = f"M{x:.1f} {y - 9}v8m0-4h{length:.1f}m0-4v8"
        parts.append(f'<path d="{ends}" fill="none" stroke="currentColor" stroke-width="1.5"/>')
        parts.append(f'<text x="{x + length + 6:.1f}" y="{y}">{escape(made["bar"]["text"])}</text>')
        x += length + 20 + 8 * len(made["bar"]["text"])
    for one in made["legend"]["elements"]:
        parts.append(f'<circle cx="{x + 6:.1f}" cy="{y - 5}" r="6" fill="{one["color"]}" stroke="#3e4c59"/>')
        parts.append(f'<text x="{x + 16:.1f}" y="{y}">{escape(one["name"])}</text>')
        x += 40
    if made["cut"]:
        parts.append(f'<text x="{x:.1f}" y="{y}">{escape(made["cut"])}</text>')
    return "".join(parts)
