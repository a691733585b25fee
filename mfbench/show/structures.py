"""Single test structures, as several runs predict them: the worst first, and each with its forces as arrows."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mfbench.results.predictions import MAX_POSITIONS, Predictions
from mfbench.results.rows import HORIZONTAL, base_arm
from mfbench.results.schema import QUANTITIES
from mfbench.results.structures import structure_errors
from mfbench.show.scenes import INK, Arrows, Molecule, Scene
from mfbench.show.styles import arm_order, arm_style
from mfbench.show.words import level_label, number, pretty_unit

Runs = Mapping[str, Predictions]  # by their names, those of arms

MOST = 200  # rows of a table of the worst

PLACE = ("structure", "molecule", "temperature", "distance")

USUAL = ("SF-E", "MF", "SF-EF")  # arms that are put beside each other unless others are asked for

NO_POSITIONS = (
    f"The positions of this structure are not kept: a run keeps those of at most {MAX_POSITIONS:,} test structures, "
    "drawn by a recorded seed."
)


def beside(table: pd.DataFrame, n_high: int, seed: int, arms: Sequence[str] = ()) -> dict[str, str]:
    """Runs that can stand beside each other: of one number of high-level structures and one seed.

    Args:
        table: rows of the results table, of one case and its data.
        arms: those that are asked for, or none for the usual ones; arms whose number of high-level structures is no
            choice (SF-low, the oracle) are there whatever it is.

    Returns:
        Runs by name: the arm, with network and preset where there are several. Of runs that differ in the number of
        low-level structures alone, that with most.
    """
    keys = ["arm", "backbone", "preset"]
    fixed = table["arm"].map(base_arm).isin(HORIZONTAL)
    rows = table[((table["n_high"] == n_high) | fixed) & (table["seed"] == seed)].sort_values(
        ["split_seed", "n_low"], ascending=[True, False], kind="stable"
    )
    rows = rows.drop_duplicates(keys)
    there = arm_order(rows["arm"])
    wanted = [one for one in there if one in (arms or USUAL)] or there[:3]
    made = {}
    for arm in wanted:
        own = rows[rows["arm"] == arm]
        for run, backbone, preset in own[["run", "backbone", "preset"]].itertuples(index=False):
            more = [one for one, kind in ((backbone, "backbone"), (preset, "preset")) if own[kind].nunique() > 1]
            made[f"{arm} ({', '.join(more)})" if more else arm] = run
    return made


def worst(runs: Runs, level: str, part: str, first: str, system: str = "kcal/mol") -> pd.DataFrame:
    """The structures of a part that a run predicts worst, with what the other runs make of them.

    Worst by the RMSE of their force components; where no structure has reference forces, by their relative energy.

    Args:
        first: the run whose errors decide.

    Returns:
        At most ``MOST`` rows; columns of ``PLACE``, shown (whether positions are kept), and for each run
        ``<run> energy`` (its error) and ``<run> force`` (its RMSE), in the units shown.
    """
    tables = {name: structure_errors(one, level, part).set_index("structure") for name, one in runs.items()}
    decides = tables[first]["force"].fillna(-1.0)
    if not (decides >= 0).any():
        decides = tables[first]["energy_relative"].abs().fillna(-1.0)
    order = decides.sort_values(ascending=False, kind="stable").index[:MOST]
    made = tables[first].loc[order, ["molecule", "temperature", "distance", "shown"]].reset_index()
    for name, table in tables.items():
        own = table.reindex(order)
        energy = own["energy"].fillna(own["energy_relative"])  # total energies of another level's head say nothing
        made[f"{name} energy"] = energy.to_numpy() * QUANTITIES["energy"].factor(system)
        made[f"{name} force"] = own["force"].to_numpy() * QUANTITIES["force"].factor(system)
    return made


def place_text(predictions: Predictions, structure: int) -> str:
    """``CH3CHO, 600 K, 0.21 Å from what was trained on; structure 1,234``."""
    row = predictions.row(structure)
    if row is None:
        return f"structure {structure:,}"
    said = [predictions.molecules[predictions.molecule[row]]]
    if predictions.temperature[row] > 0:
        said.append(f"{predictions.temperature[row]:g} K")
    if predictions.distance is not None and np.isfinite(predictions.distance[row]):
        said.append(f"{predictions.distance[row]:.2f} Å from what was trained on")
    return f"{', '.join(said)}; structure {structure:,}"


def structure_scene(runs: Runs, structure: int, level: str, system: str = "kcal/mol") -> Scene:
    """One structure as each run predicts it: forces as arrows on those of the reference, all at one scale."""
    quantity = QUANTITIES["force"]
    unit, factor = pretty_unit(quantity.shown[system]), quantity.factor(system)
    molecules = []
    for name, p in runs.items():
        row = p.row(structure)
        positions = None if row is None else p.positions_of(row)
        if row is None or positions is None:
            continue
        atoms, column = p.atoms(row), p.levels.index(level)
        predicted = p.force_predicted[atoms, column].astype(np.float64) * factor
        arrows = [Arrows(name, arm_style(name).color, predicted)]
        note = f"no reference forces at {level_label(level)}"
        if p.force_mask[row, column]:
            reference = p.force_reference[atoms, column].astype(np.float64) * factor
            arrows.insert(0, Arrows(f"{level_label(level)} reference", INK, reference, thick=True))
            note = f"force RMSE {number(float(np.sqrt(np.square(predicted - reference).mean())))} {unit}"
        molecules.append(Molecule(name, p.numbers[atoms], positions, tuple(arrows), note))
    return Scene(tuple(molecules), unit, "" if molecules else NO_POSITIONS)
