"""Writers of all formats that are read: those of the published datasets, made of the mini data, and people's own."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mfbench import resources, units
from mfbench.data.datasets import DataRequest
from mfbench.data.structures import Structures

MINI = resources.mini_data()
FRAMES, TRAIN, TEST = 120, 70, 30  # of each rMD17 molecule; rows of each official split

# Published formats


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
            for key, more in (("npno_ccsd(t)_tz.corr_energy", 1.2), ("tpno_ccsd(t)_dz.corr_energy", 1.005)):
                made[key] = more * made["npno_ccsd(t)_dz.corr_energy"][()]
            made["wb97x_dz.dipole"] = np.zeros((n, 3), np.float32)
            made["wb97x_dz.cm5_charges"] = np.zeros((n, atoms), np.float32)


def write_group(path: Path, name: str = "H2O") -> Path:
    """An HDF5 file with one group of the mini data."""
    with h5py.File(MINI / "mini-ani1x.h5") as source, h5py.File(path, "w") as file:
        source.copy(name, file)
    return path


def npz_bytes(arrays: dict[str, NDArray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def write_rmd17(path: Path, members: list[dict[str, Any]]) -> None:
    """Every molecule is methanol under another name, each with frames of its own."""
    with np.load(MINI / "mini_methanol_rmd17.npz") as archive:
        whole = dict(archive)
    # The older level is another one, and near: GFN2-xTB's, which stand there, are not.
    mean = whole["energies"].mean()
    whole |= {"old_energies": mean + 1.02 * (whole["energies"] - mean), "old_forces": 1.02 * whole["forces"]}
    with tarfile.open(path, "w:bz2") as archive:
        begin = 0
        for member in members:
            if named := member.get("index_of"):
                order = np.random.default_rng(int(named[-1])).permutation(FRAMES)
                rows = order[:TRAIN] if named.startswith("train") else order[TRAIN : TRAIN + TEST]
                raw = "".join(f"{row}\n" for row in rows).encode()
            else:
                chosen = slice(begin, begin + FRAMES)
                raw = npz_bytes({k: v if k == "nuclear_charges" else v[chosen] for k, v in whole.items()})
                begin += FRAMES
            info = tarfile.TarInfo(member["path"])
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))


def write_md17_cc(path: Path, members: list[dict[str, Any]], first: int) -> None:
    """Coupled-cluster frames of methanol, which recur, turned, in the rMD17-like file."""
    pieces = []
    for name in ("train", "test"):
        with np.load(MINI / f"methanol_ccsd-{name}.npz") as archive:
            pieces.append({key: archive[key] for key in ("E", "F", "R", "z")})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, piece, count in zip(members, pieces, (120, 40)):
            chosen = slice(first * count, (first + 1) * count)
            archive.writestr(member["path"], npz_bytes({k: v if k == "z" else v[chosen] for k, v in piece.items()}))


def write_sgdml(path: Path, spoilt: str = "") -> None:
    """A copy of the mini coupled-cluster file with sGDML's fingerprint, and perhaps a key changed afterwards."""
    with np.load(MINI / "methanol_ccsd-train.npz") as archive:
        arrays = {name: archive[name] for name in ("z", "R", "E", "F")}
    total = hashlib.md5()
    for name in ("z", "R", "E", "F"):
        total.update(hashlib.md5(arrays[name].ravel()).digest())
    if spoilt:
        was = arrays[spoilt]
        arrays[spoilt] = was + (np.arange(was.size) == 7).reshape(was.shape) * 1e-3
    np.savez(path, **arrays, md5=np.array(total.hexdigest().encode()))


# Formats of people's own data


def write_own(path: Path, count: int = 300) -> None:
    """People's own data as extended xyz: methanol at two levels, one in eV with forces, one in Hartree without."""
    whole = DataRequest(("mini-rmd17-methanol", "mini-md17cc-methanol")).load()
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


Frame = tuple[Atoms, dict[str, Any], dict[str, Any]]  # atoms, scalars and arrays


def structures_as_atoms(source: Structures) -> list[Frame]:
    """Atoms, scalars and arrays of each structure; a missing label is a missing key."""
    made = []
    for s in range(len(source)):
        atoms = slice(*source.offsets[s : s + 2])
        scalars = {"molecule": source.molecules[source.molecule[s]], "split": "test" if s % 4 == 0 else "train"}
        arrays = {}
        for k, name in enumerate(("dft", "cc")):
            if source.energy_mask[s, k]:
                scalars[f"{name}_energy"] = float(source.energies[s, k])
            if source.force_mask[s, k]:
                arrays[f"{name}_forces"] = source.forces[k, atoms].astype(float)
        made.append((Atoms(source.numbers[atoms], source.positions[atoms].astype(float)), scalars, arrays))
    return made


def frames_to_extxyz(path: Path, frames: Iterable[Frame]) -> None:
    made = []
    for atoms, scalars, arrays in frames:
        one = atoms.copy()
        one.info.update(scalars)
        for key, value in arrays.items():
            one.new_array(key, value)
        made.append(one)
    ase.io.write(path, made, format="extxyz")


def frames_to_ase(path: Path, frames: Iterable[Frame]) -> None:
    with ase.db.connect(path) as database:
        for atoms, scalars, arrays in frames:
            text = {key: value for key, value in scalars.items() if isinstance(value, str)}
            numbers = {key: value for key, value in scalars.items() if not isinstance(value, str)}
            database.write(atoms, key_value_pairs=text, data=numbers | arrays)


def write_extxyz(path: Path, source: Structures) -> None:
    frames_to_extxyz(path, structures_as_atoms(source))


def write_ase(path: Path, source: Structures) -> None:
    frames_to_ase(path, structures_as_atoms(source))


def write_hdf5(path: Path, source: Structures) -> None:
    with h5py.File(path, "w") as file:
        file["numbers"], file["positions"] = source.numbers, source.positions.astype(float)
        file["n_atoms"] = source.n_atoms
        file["molecule"] = [source.molecules[k] for k in source.molecule]
        file["split"] = ["test" if s % 4 == 0 else "train" for s in range(len(source))]
        for k, name in enumerate(("dft", "cc")):
            labelled = np.repeat(source.force_mask[:, k], source.n_atoms)[:, None]
            file[f"{name}_energy"] = np.where(source.energy_mask[:, k], source.energies[:, k], np.nan)
            file[f"{name}_forces"] = np.where(labelled, source.forces[k], np.nan)
