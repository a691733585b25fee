"""Scans of bonds and torsions, where runs were checked: the energy along each, run beside run."""

from collections.abc import Mapping

import holoviews as hv
import pandas as pd

from mfbench.results.schema import QUANTITIES
from mfbench.show.parity import FRAME, lines

COORDINATES = {"bond": "Bond length (Å)", "torsion": "Torsion, from the start (°)"}


_KINDS = {"run": str, "coordinate": float, "energy": float}


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
) -> hv.Segments:
    """The energy along one scan, from its lowest, a line a run; no lines where nothing is chosen."""
    factor, frames = QUANTITIES["energy"].factor(system), []
    for name, table in scans.items():
        own = table[(table[["level", "molecule", "kind", "atoms"]] == [level, *(which or ("", "", ""))]).all(axis=1)]
        energy = (own["energy"] - own["energy"].min()) * factor
        frames.append(pd.DataFrame({"run": name, "coordinate": own["coordinate"], "energy": energy}).astype(_KINDS))
    found = pd.concat([pd.DataFrame(columns=list(_KINDS)).astype(_KINDS), *frames], ignore_index=True)
    highest = found["energy"].max() if len(found) else 1.0
    return lines(found, "coordinate", "energy").opts(
        backend="bokeh",
        xlabel=COORDINATES[which[1]] if which else "",
        ylabel=f"Energy ({QUANTITIES['energy'].shown[system]})",
        ylim=(-0.03 * highest, 1.05 * highest),
        hover_tooltips=[("", "@run")],
        **{**FRAME, "frame_height": 300},
    )
