"""A high level known for methanol alone: how far its energies of other molecules are off, and what is said of them.

The mini data have CCSD(T)*/CBS energies of all 18 molecules. Here the arms see those of methanol; the others' are the
truth that they are judged by. Atomic energies beyond methanol's come from the level below and from free atoms.

    python benchmarks/narrow_high.py --out benchmarks/results/narrow-high-cpu-DATE.json
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import budget, parser, write

import mfbench
from mfbench import resources
from mfbench.data.cases import Case
from mfbench.data.manifest import Content, Dataset, Manifest, manifest
from mfbench.data.readers import hdf5
from mfbench.data.structures import Frames, Structures

LOW, CCSD, CBS = "wb97x/6-31g*", "ccsd/cc-pvdz", "ccsd(t)*/cbs"
HIGH = (CCSD, CBS)
ARMS = ("SF-E", "MF", "MF+")
OTHERS = ("H2O", "H2CO")


def methanol_alone(path: Path, content: Content, declared: Manifest) -> Iterator[Frames]:
    """The mini data, coupled cluster for methanol alone."""
    columns = [declared.levels.index(name) for name in HIGH]
    for frames in hdf5.read_ani1x(path, content, declared):
        if frames.molecule != "CH3OH":
            frames.energies[:, columns] = np.nan
            frames = replace(frames, forces=[None if k in columns else one for k, one in enumerate(frames.forces)])
        yield frames


def narrow_case(high: str = CBS) -> Case:
    """The case of these data and a coupled-cluster level; the data are added under the name *narrow*."""
    whole = manifest("mini-ani1x")
    labels = tuple(one.model_copy(update={"n_energy": None, "n_forces": None}) for one in whole.labels)
    mine = whole.model_copy(update={"name": "narrow", "format": "own", "labels": labels})
    mfbench.register(Dataset(mine, resources.mini_data(), methanol_alone))
    rules = {"datasets": ["narrow"], "overlap": "nested", "test": 0.25, "validation": 10, "sizes": [16]}
    about = {"name": "narrow", "title": "narrow", "basis": "a high level known for methanol alone"}
    return Case.model_validate({**about, "low": LOW, "high": high, "data": {"mini": rules}})


def judged(run: Path, arm: str, truth: Structures) -> list[dict[str, Any]]:
    """Errors in eV of the energies of other molecules, a row each; all of them must be marked."""
    model, column = mfbench.load(run), truth.level_index(CBS)
    rows = []
    for name in OTHERS:
        frames = truth[(truth.molecule == truth.molecules.index(name)) & truth.energy_mask[:, column]]
        found = model.predict(frames, CBS, forces=False)
        off = np.abs(found.energies - frames.energies[:, column])
        assert all("not determined by" in text for text in found.outside)
        rows.append({"arm": arm, "molecule": name, "n": len(off), "mean": float(off.mean()), "most": float(off.max())})
        print(f"{arm}, {name}: {off.mean():.2f} eV off on average, {off.max():.2f} at most, n = {len(off)}", flush=True)
    return rows


def main() -> None:
    args = parser(__doc__, steps=True, runs="runs/narrow-high").parse_args()
    case, truth, rows = narrow_case(), mfbench.load_data("mini-ani1x", progress=False), []
    for arm in ARMS:
        settings = mfbench.experiment(case, arm, n_high=16, threads=1, optimisation=budget(args))
        rows += judged(mfbench.run(settings, args.runs, device="cpu"), arm, truth)
    write(args.out, units="eV", rows=rows)


if __name__ == "__main__":
    main()
