"""Small files in the schemas of the published datasets, made of the mini data, and manifests that declare them.

What differs from the shipped manifests is what must: addresses, sizes, hashes, counts and probes. Formats, keys,
levels, units, members and named sets stay, so that a test which passes here reads the published files.
"""

import copy
import io
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
import yaml
from numpy.typing import NDArray

from mfbench import resources, units
from mfbench.data import datasets
from mfbench.files import sha256

MINI = resources.mini_data()
FRAMES, TRAIN, TEST = 120, 70, 30  # of each rMD17 molecule; rows of each official split


def write_ani1x(path: Path) -> None:
    """The keys of the release: half of the frames have coupled-cluster energies, four fifths the large basis."""
    rng = np.random.default_rng(0)
    with h5py.File(MINI / "mini-ani1x.h5") as source, h5py.File(path, "w") as file:
        for name, group in source.items():
            made = file.create_group(name)
            n, atoms = group["coordinates"].shape[:2]
            coupled, large = rng.random(n) < 0.5, rng.random(n) < 0.8
            for key in group:
                if key.startswith(("gfn2", "ccsd_dz")) or key in ("temperature", "ccsd(t)_cbs.forces"):
                    continue
                value = group[key][()]
                if key.startswith(("hf", "mp2", "ccsd(t)")):
                    value = np.where(coupled, value, np.nan)
                if key.startswith("wb97x_tz"):
                    value = np.where(large.reshape(n, *[1] * (value.ndim - 1)), value, np.nan).astype(value.dtype)
                made[key.replace("ccsd(t)_dz", "npno_ccsd(t)_dz")] = value
            for key in ("npno_ccsd(t)_tz.corr_energy", "tpno_ccsd(t)_dz.corr_energy"):
                made[key] = made["npno_ccsd(t)_dz.corr_energy"][()]
            made["wb97x_dz.dipole"] = np.zeros((n, 3), np.float32)
            made["wb97x_dz.cm5_charges"] = np.zeros((n, atoms), np.float32)


def _npz(arrays: dict[str, NDArray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def write_rmd17(path: Path, members: list[dict[str, Any]]) -> None:
    """Every molecule is methanol under another name, each with frames of its own."""
    with np.load(MINI / "mini_methanol_rmd17.npz") as archive:
        whole = dict(archive)
    whole |= {"old_energies": whole["energies"], "old_forces": whole["forces"]}  # which are GFN2-xTB's there
    with tarfile.open(path, "w:bz2") as archive:
        begin = 0
        for member in members:
            if named := member.get("index_of"):
                order = np.random.default_rng(int(named[-1])).permutation(FRAMES)
                rows = order[:TRAIN] if named.startswith("train") else order[TRAIN : TRAIN + TEST]
                raw = "".join(f"{row}\n" for row in rows).encode()
            else:
                chosen = slice(begin, begin + FRAMES)
                raw = _npz({k: v if k == "nuclear_charges" else v[chosen] for k, v in whole.items()})
                begin += FRAMES
            info = tarfile.TarInfo(member["path"])
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))


def write_md17_cc(path: Path, members: list[dict[str, Any]], first: int) -> None:
    """Coupled-cluster frames of methanol, which recur, turned, in the rMD17-like file."""
    parts = []
    for name in ("train", "test"):
        with np.load(MINI / f"methanol_ccsd-{name}.npz") as archive:
            parts.append({key: archive[key] for key in ("E", "F", "R", "z")})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, part, count in zip(members, parts, (120, 40)):
            chosen = slice(first * count, (first + 1) * count)
            archive.writestr(member["path"], _npz({k: v if k == "z" else v[chosen] for k, v in part.items()}))


def make(folder: Path, manifests: Path, url: str) -> dict[str, Path]:
    """Write the files to a folder, and a folder of manifests and cases that take them from a server.

    Args:
        url: address of the folder on the server.

    Returns:
        The files by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(resources.manifests(), manifests)
    declared = {
        name: yaml.safe_load((manifests / f"{name}.yaml").read_text()) for name in ("ani1x", "rmd17", "md17-cc")
    }
    write_ani1x(folder / "ani1x-release.h5")
    write_rmd17(folder / "rmd17.tar.bz2", declared["rmd17"]["files"][0]["members"])
    for k, file in enumerate(declared["md17-cc"]["files"]):
        write_md17_cc(folder / file["name"], file["members"], k)
    for name, content in declared.items():
        content.pop("probes")
        content.pop("n_structures")
        content["n_molecules"] = {"ani1x": 18, "rmd17": 10, "md17-cc": 5}[name]
        for labels in content["labels"]:
            labels.pop("n_energy", None)
            labels.pop("n_forces", None)
        for file in content["files"]:
            path = folder / file["name"]
            file["urls"] = [f"{url}/{file['name']}"]
            if file.get("sha256"):
                file |= {"sha256": sha256(path), "bytes": path.stat().st_size}
            for member in file.get("members", ()):
                member.pop("n_structures", None)
                member.pop("md5", None)
        (manifests / f"{name}.yaml").write_text(yaml.safe_dump(content))
    smaller = {"test": 0.25, "validation": 20, "max_test": 50, "sizes": [40]}
    for name in ("ani1ccx", "ani1x-tz", "rmd17-cc"):
        path = manifests / "cases" / f"{name}.yaml"
        content = yaml.safe_load(path.read_text())
        for key, rules in content["data"].items():
            if key != "mini":
                rules |= copy.deepcopy(smaller)
                if "unseen_molecules" in rules:
                    rules["unseen_molecules"] = 3
                if "high_pool" in rules:
                    rules["high_pool"] = 60
        path.write_text(yaml.safe_dump(content))
    return {path.name: path for path in folder.iterdir()}


def write_own(path: Path, count: int = 300) -> None:
    """People's own data as extended xyz: methanol at two levels, one in eV with forces, one in Hartree without."""
    whole = datasets.load_joined(("mini-rmd17-methanol", "mini-md17cc-methanol"))
    low, high = whole.level_index("pbe/def2-svp"), whole.level_index("ccsd/cc-pvdz")
    coupled = {int(g): float(e) for g, e in zip(whole.geometry[1200:], whole.energies[1200:, high])}
    frames = []
    for s in np.flatnonzero(np.isin(whole.geometry, list(coupled)) & whole.energy_mask[:, low])[:count]:
        atoms = slice(*whole.offsets[s : s + 2])
        frame = ase.Atoms(whole.numbers[atoms], whole.positions[atoms])
        energy = coupled[int(whole.geometry[s])] / units.HARTREE
        frame.info |= {"pbe_energy": float(whole.energies[s, low]), "ccsd_energy": energy, "molecule": "methanol"}
        frame.new_array("pbe_forces", whole.forces[low, atoms].astype(float))
        frames.append(frame)
    ase.io.write(path, frames, format="extxyz")
