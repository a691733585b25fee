"""Scans of bonds and torsions, where runs were checked: the energy along each, run beside run."""

from collections.abc import Mapping

import holoviews as hv
import numpy as np
import pandas as pd

from mfbench.results.schema import QUANTITIES
from mfbench.show.parity import FRAME
from mfbench.show.styles import arm_style

COORDINATES = {"bond": "Bond length (Å)", "torsion": "Torsion, from the start (°)"}


def scanned(scans: Mapping[str, pd.DataFrame], level: str) -> dict[str, tuple[str, str, str]]:
    """What was scanned at a level in any run: (molecule, kind, atoms) by what people call it."""
    found: dict[str, tuple[str, str, str]] = {}
    for table in scans.values():
        own = table[table["level"] == level]
        for molecule, kind, atoms in own[["molecule", "kind", "atoms"]].drop_duplicates().itertuples(index=False):
            found[f"{molecule}, {kind} {atoms}"] = (molecule, kind, atoms)
    return found


def scan_curves(
    scans: Mapping[str, pd.DataFrame], level: str, which: tuple[str, str, str] | None, system: str = "kcal/mol"
) -> hv.Path:
    """The energy along one scan, from its lowest, a line a run; no lines where nothing is chosen."""
    factor = QUANTITIES["energy"].factor(system)
    lines = []
    for name, table in scans.items():
        own = (
            table[(table["level"] == level) & (table[["molecule", "kind", "atoms"]] == list(which or ())).all(axis=1)]
            if which
            else table.head(0)
        )
        if len(own):
            energy = (own["energy"] - own["energy"].min()).to_numpy() * factor
            lines.append({"x": own["coordinate"].to_numpy(), "y": energy, "run": name, "color": arm_style(name).color})
    highest = max((float(np.nanmax(one["y"])) for one in lines), default=1.0)
    return hv.Path(lines, ["x", "y"], ["run", "color"]).opts(
        backend="bokeh",
        color="color",
        line_width=3,
        xlabel=COORDINATES[which[1]] if which else "",
        ylabel=f"Energy ({QUANTITIES['energy'].shown[system]})",
        ylim=(-0.03 * highest, 1.05 * highest),
        tools=["hover"],
        hover_tooltips=[("", "@run")],
        **{**FRAME, "frame_height": 300},
    )
