"""Labels at two levels of theory: plots (DataFrame -> HoloViews element) and one structure's forces as arrows."""

from collections.abc import Mapping, Sequence

import holoviews as hv
import numpy as np
import pandas as pd
from holoviews.plotting import bokeh as _bokeh_backend  # noqa: F401  (loads the backend)
from numpy.typing import ArrayLike, NDArray

from mfbench.data.contents import of_geometry, onto
from mfbench.data.structures import Structures
from mfbench.results.schema import QUANTITIES
from mfbench.show.parity import FRAME
from mfbench.show.plots import dress
from mfbench.show.scenes import INK, Arrows, Molecule, Scene
from mfbench.show.words import level_label, number, pretty_unit

# Of the low level, the high one, and what is between them: no arm’s colours, of different lightness.
COLORS = {"low": "#4A98E0", "high": "#D23C55", "gap": "#AA9A12"}

_FRAME = FRAME | {"frame_height": 200, "toolbar": "right", "active_tools": [], "hooks": [dress]}

_BINS = 8  # a decade


def energy_plot(apart: pd.DataFrame, system: str = "kcal/mol") -> hv.Polygons:
    """How large energies are at the low level, and how much smaller what the high level adds, on a logarithmic axis.

    Args:
        apart: of ``contents.energies_apart``.
    """
    quantity = QUANTITIES["energy_per_atom"]
    unit, factor = quantity.shown[system], quantity.factor(system)
    values = {name: np.abs(apart[name].to_numpy()) * factor for name in ("low", "gap")}
    return _humps(values, f"Energy beyond free atoms ({unit})", "Structures (%)")


def force_plot(apart: pd.DataFrame, system: str = "kcal/mol") -> hv.Polygons:
    """How large the forces on atoms are at two levels, and their difference, on a logarithmic axis.

    Args:
        apart: of ``contents.forces_apart``.
    """
    quantity = QUANTITIES["force"]
    unit, factor = pretty_unit(quantity.shown[system]), quantity.factor(system)
    values = {name: apart[name].to_numpy() * factor for name in ("low", "high", "gap")}
    return _humps(values, f"Force on an atom ({unit})", "Atoms (%)")


def _humps(values: Mapping[str, NDArray[np.float64]], x_label: str, y_label: str) -> hv.Polygons:
    """Distributions of positive values as steps, in bins of equal width on a logarithmic axis."""
    positive = {name: found[found > 0] for name, found in values.items()}
    every = np.concatenate([np.zeros(0), *positive.values()])
    low, high = np.quantile(every, [0.002, 1.0]) if len(every) else (0.1, 10.0)
    first, last = np.floor(np.log10(low) * _BINS), np.ceil(np.log10(high) * _BINS)
    edges = 10 ** (np.arange(first, max(last, first + 1) + 1) / _BINS)
    shapes = []
    for name, found in positive.items():
        if len(found):
            share = 100 * np.histogram(found, edges)[0] / len(values[name])
            x, y = np.repeat(edges, 2), np.concatenate([[0.0], np.repeat(share, 2), [0.0]])
            shapes.append({"x": x, "y": y, "which": name, "color": COLORS[name]})
    return hv.Polygons(shapes, ["x", "y"], ["which", "color"]).opts(
        backend="bokeh",
        color="color",
        fill_alpha=0.22,
        line_color="color",
        line_width=3,
        logx=True,
        xformatter="%g",
        xlim=(float(edges[0]), float(edges[-1])),
        ylim=(0, None),
        xlabel=x_label,
        ylabel=y_label,
        **_FRAME,
    )


def counts_plot(values: ArrayLike = (), label: str = "", width: float = 1.0) -> hv.Histogram:
    """How many structures there are of each value: numbers of atoms, or temperatures in steps of ``width``."""
    places = np.round(np.asarray(values, float) / width).astype(np.int64)
    least = int(places.min()) if len(places) else 0
    counts = np.bincount(places - least) if len(places) else np.zeros(1, np.int64)
    edges = width * (least + np.arange(len(counts) + 1) - 0.5)
    return hv.Histogram((edges, counts), kdims=["value"], vdims=["count"]).opts(
        backend="bokeh",
        color="#7d8b99",
        line_color=None,
        xlabel=label,
        ylabel="Structures",
        ylim=(0, None),
        **_FRAME,
    )


# One structure


def labels_table(structures: Structures, geometry: int, low: str, system: str = "kcal/mol") -> pd.DataFrame:
    """A geometry's labels, a row a level that has one, in the units shown.

    Args:
        low: the level that forces are compared with.

    Returns:
        Columns level, total (eV), relative (energy beside the mean of the molecule's structures), force (root mean
        square of the components) and apart (that of the difference to the low level's); NaN where there is none.
    """
    rows = of_geometry(structures, geometry)
    energy, force = (QUANTITIES[name].factor(system) for name in ("energy", "force"))
    found = []
    forces = {name: _forces(structures, row, name, rows.get(low, row)) for name, row in rows.items()}
    for name, row in rows.items():
        k = structures.level_index(name)
        alike = (structures.molecule == structures.molecule[row]) & structures.energy_mask[:, k]
        total = structures.energies[row, k] if structures.energy_mask[row, k] else np.nan
        mine, lows = forces[name], forces.get(low)
        found.append(
            {
                "level": name,
                "total": total,
                "relative": (total - structures.energies[alike, k].mean()) * energy if alike.any() else np.nan,
                "force": _rms(mine) * force,
                "apart": np.nan if mine is None or lows is None else _rms(mine - lows) * force,
            }
        )
    return pd.DataFrame(found)


def labels_scene(
    structures: Structures,
    geometry: int,
    levels: Sequence[str],
    colors: Mapping[str, str],
    over: bool = False,
    system: str = "kcal/mol",
) -> Scene:
    """A geometry with its forces at some levels as arrows, a molecule a level or all on one.

    Args:
        levels: those shown, where there are labels; the first is drawn thick where all are on one.
        colors: of their arrows; of others, those of text.
        over: on one molecule; a level whose file holds its atoms in another order has no arrows then.
    """
    quantity = QUANTITIES["force"]
    unit, factor = pretty_unit(quantity.shown[system]), quantity.factor(system)
    rows = {name: row for name, row in of_geometry(structures, geometry).items() if name in levels}
    rows = {name: rows[name] for name in levels if name in rows}
    if not rows:
        return Scene(message="This structure has no label at these levels.")
    first = next(iter(rows.values()))
    atoms = structures.atoms_of(np.array([first]))
    numbers, positions = structures.numbers[atoms], structures.positions[atoms].astype(np.float64)
    arrows, notes = dict[str, Arrows](), dict[str, str]()
    for name, row in rows.items():
        forces = _forces(structures, row, name, first)
        notes[name] = "no forces at this level"
        if forces is not None:
            thick = over and name == levels[0]
            arrows[name] = Arrows(level_label(name), colors.get(name, INK), forces * factor, thick)
            notes[name] = f"forces of {number(_rms(forces) * factor)} {unit}"
    if over:
        title = " and ".join(one.name for one in arrows.values()) or "no forces at these levels"
        return Scene((Molecule(title, numbers, positions, tuple(arrows.values())),), unit)
    each = [
        Molecule(level_label(name), numbers, positions, (arrows[name],) if name in arrows else (), notes[name])
        for name in rows
    ]
    return Scene(tuple(each), unit)


def _forces(structures: Structures, row: int, level: str, frame: int) -> NDArray[np.float64] | None:
    """Forces at a level, (N, 3), in the frame of another structure of the geometry; None where there are none."""
    k = structures.level_index(level)
    turns, fit = onto(structures, np.array([frame]), np.array([row]))
    if not structures.force_mask[row, k] or not fit[0]:
        return None
    turned: NDArray[np.float64] = (
        structures.forces[k, structures.atoms_of(np.array([row]))].astype(np.float64) @ turns[0]
    )
    return turned


def _rms(forces: NDArray[np.float64] | None) -> float:
    return float("nan") if forces is None else float(np.sqrt(np.square(forces).mean()))
