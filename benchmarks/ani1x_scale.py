"""Full-size evidence without the network: the steps from the ANI-1x release to a device, on a synthetic twin.

The twin has the release's HDF5 schema (3,114 groups, 4,956,005 conformers, some 5.59 GB, NaN where the release has
not computed), random geometries and plausible numbers: it measures readers, it teaches nothing. Every step runs in
a process of its own. Wall and processor time are of the step alone, without imports; the peak is the resident
memory of the whole process, imports included (given beside it), the page cache not.

    python benchmarks/ani1x_scale.py --fraction 0.01
    python benchmarks/ani1x_scale.py --repeats 3 --folder /scratch --out benchmarks/results/ani1x-scale-DATE.json
    python benchmarks/ani1x_scale.py --raw /scratch/ani1x-release.h5 --only plain-read convert

``--raw`` takes a file made before (by ``--keep``), or the release itself; the peers' parts are made all the same. A
peer that cannot be imported is a row that says so; one installed beside this environment is found with PYTHONPATH.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

# The release: 10.1038/s41597-020-0473-z, figshare 10.6084/m9.figshare.10047041.v1.
CONFORMERS = 4_956_005
GROUPS = 3_114
WITH_CC = 489_571
BYTES = 5_590_846_027
NAME = "ani1x-release.h5"

# Aggregates of 1,000 conformers of the release (ani1x_truncated_1000.xyz; 15.04 +- 0.17 atoms on average):
# atoms from, to, conformers of 1,000, different formulas among them of 449.
SIZES = (
    (2, 6, 30, 12),
    (7, 9, 65, 37),
    (10, 11, 156, 60),
    (12, 13, 219, 68),
    (14, 15, 164, 56),
    (16, 17, 131, 53),
    (18, 19, 88, 40),
    (20, 23, 65, 49),
    (24, 29, 53, 45),
    (30, 39, 22, 22),
    (40, 63, 7, 7),
)
COMPOSITION = {"H": 0.48, "C": 0.31, "N": 0.13, "O": 0.09}  # share of the atoms, same source
# Share of conformers with wB97X/def2-TZVPP, same source: 921 of 1,000.
SHARE_TZ = 0.921
# Of 96 conformers of the first 50 formulas (ani1x_50formulas.h5), 88 have a dipole and 60 a quadrupole.
SHARE_DIPOLE, SHARE_QUADRUPOLE = 0.917, 0.625
# Spread of the conformers a formula: 1,000 drawn at random then show some 449 formulas, as in the sample.
SPREAD = 0.6

HARTREE = 27.211386245988  # eV, CODATA 2018
# Ha a heavy atom, of the size seen in the samples: correlation energies, and Hartree-Fock above CCSD(T)*/CBS.
CORRELATION = {
    "mp2_dz.corr_energy": -0.134,
    "mp2_tz.corr_energy": -0.162,
    "mp2_qz.corr_energy": -0.172,
    "npno_ccsd(t)_dz.corr_energy": -0.146,
    "npno_ccsd(t)_tz.corr_energy": -0.174,
    "tpno_ccsd(t)_dz.corr_energy": -0.146,
}
HF = {"hf_dz.energy": 0.19, "hf_tz.energy": 0.182, "hf_qz.energy": 0.18}
CC_KEY = "ccsd(t)_cbs.energy"
ENERGIES = ("wb97x_dz.energy", "wb97x_tz.energy", CC_KEY, *HF, *CORRELATION)
FORCES = ("wb97x_dz.forces", "wb97x_tz.forces")
# Mean and spread of the values an atom that only fill the file.
FILLERS = {
    "wb97x_dz.cm5_charges": (0.0, 0.2),
    "wb97x_dz.hirshfeld_charges": (0.0, 0.15),
    "wb97x_tz.mbis_charges": (0.0, 0.4),
    "wb97x_tz.mbis_dipoles": (0.05, 0.02),
    "wb97x_tz.mbis_octupoles": (1.0, 0.2),
    "wb97x_tz.mbis_quadrupoles": (0.2, 0.05),
    "wb97x_tz.mbis_volumes": (30.0, 5.0),
}
BYTES_ATOM, BYTES_CONFORMER = 12 * 3 + 4 * len(FILLERS), 8 * len(ENERGIES) + 4 * (3 + 6 + 3)
OVERHEAD = 10_750  # bytes of HDF5's own a group

SLAB_ATOMS = 1 << 18  # atoms that are made at a time
LOW, TZ, CC = "wb97x/6-31g*", "wb97x/def2-tzvpp", "ccsd(t)*/cbs"
PAIRS = {"CC": (LOW, CC), "TZ": (LOW, TZ)}
PEER_KEYS = ("wb97x_dz.energy", "wb97x_dz.forces", CC_KEY)  # what the pair of levels LOW, CC holds
LIMIT_RATIO, LIMIT_PEAK = 3.0, 2 << 30  # of conversion: times plain reading and writing; bytes


# ---------------------------------------------------------------------------------------------- the synthetic twin


@dataclass(frozen=True)
class Group:
    """One formula: atoms of each element in the order C, H, N, O; conformers; how many have CCSD(T)*/CBS."""

    atoms: tuple[int, int, int, int]
    conformers: int
    with_cc: int

    @property
    def name(self) -> str:
        """As the release writes it, ``C10H10N2O1``."""
        return _name(self.atoms)


def _name(atoms: tuple[int, ...]) -> str:
    return "".join(f"{symbol}{count}" for symbol, count in zip("CHNO", atoms) if count)


def plan(fraction: float) -> list[Group]:
    """The groups of the file, or of a smaller one with as large groups; the same at every call."""
    rng = np.random.default_rng(20)
    formulas = _formulas(rng)
    size = np.array([sum(atoms) for atoms in formulas])
    weight = np.exp(_likeness(formulas) + rng.normal(0, SPREAD, len(formulas)))
    for first, last, conformers, _ in SIZES:
        mine = (size >= first) & (size <= last)
        weight[mine] *= conformers / weight[mine].sum()
    if fraction < 1:
        by_size = np.lexsort(([_name(atoms) for atoms in formulas], size))
        kept = by_size[np.linspace(0, GROUPS - 1, max(12, round(GROUPS * fraction))).round().astype(int)]
        # Whatever the part, it begins with the group that the whole begins with: some readers look at that one.
        kept[len(kept) // 2] = min(range(GROUPS), key=lambda k: _name(formulas[k]))
        kept = np.unique(kept)
        formulas, size, weight = [formulas[k] for k in kept], size[kept], weight[kept]
    # A slight tilt towards large molecules (the sample's mean allows for it) gives the release's bytes.
    mean = ((BYTES - GROUPS * OVERHEAD) / CONFORMERS - BYTES_CONFORMER) / BYTES_ATOM
    low, high = -0.5, 0.5
    for _ in range(60):
        tilt = (low + high) / 2
        tilted = weight * np.exp(tilt * size)
        low, high = (tilt, high) if (tilted * size).sum() / tilted.sum() < mean else (low, tilt)
    conformers = _apportion(tilted, round(CONFORMERS * fraction))
    marks = np.round(np.cumsum(conformers) * (WITH_CC / CONFORMERS))
    with_cc = np.diff(marks, prepend=0).astype(int)
    groups = [Group(*values) for values in zip(formulas, conformers.tolist(), with_cc.tolist())]
    return sorted(groups, key=lambda group: group.name)


def _likeness(formulas: list[tuple[int, int, int, int]]) -> NDArray[np.float64]:
    """Logarithm of how well a formula's composition agrees with the sample's."""
    atoms = np.array(formulas)
    off = (atoms / atoms.sum(1, keepdims=True) - [COMPOSITION[symbol] for symbol in "CHNO"]) / [0.1, 0.1, 0.08, 0.08]
    return -0.5 * np.square(off).sum(1)


def _formulas(rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """3,114 different formulas with an even number of electrons, by size as in the sample."""
    room, want = {}, {}
    for first, last, _, formulas in SIZES:
        # Within the last, wide bin, ever fewer.
        shape = np.exp(-(np.arange(first, last + 1) - first) / (6 if last == 63 else 1e9))
        for n, share in zip(range(first, last + 1), shape / shape.sum()):
            room[n] = _possible(n)
            want[n] = max(1.0, GROUPS * formulas / 449 * share)
    total, counts = 0, dict.fromkeys(room, 0)
    while total < GROUPS:  # small molecules are soon exhausted; what they lack goes to the others
        free = [n for n in room if counts[n] < len(room[n])]
        extra = _apportion(np.array([want[n] for n in free]), GROUPS - total, least=0)
        for n, more in zip(free, extra):
            counts[n] = min(counts[n] + int(more), len(room[n]))
        total = sum(counts.values())
    chosen: list[tuple[int, int, int, int]] = []
    for n, possible in room.items():
        score = _likeness(possible) + rng.gumbel(size=len(possible))
        chosen += [possible[k] for k in np.argsort(-score)[: counts[n]]]
    return chosen


def _possible(n: int) -> list[tuple[int, int, int, int]]:
    """Formulas of n atoms, a fifth of them hydrogen or more, with an even number of electrons."""
    return [
        (c, h, nitrogen, n - c - h - nitrogen)
        for c in range(n + 1)
        for h in range(-(-n // 5), min(n - c, n - 1) + 1)
        for nitrogen in range(n - c - h + 1)
        if h <= 2 * c + nitrogen + 4 and (h + nitrogen) % 2 == 0
    ]


def _apportion(weight: NDArray, total: int, least: int = 1) -> NDArray[np.int64]:
    """Whole numbers in proportion to weights, that sum to a total."""
    exact = weight / weight.sum() * (total - least * len(weight))
    whole = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: total - least * len(weight) - whole.sum()]] += 1
    return whole + least


def write_release(path: Path, groups: list[Group], atoms: dict[str, dict[str, float]]) -> None:
    """Write the file in the release's schema, uncompressed and contiguous, some conformers at a time.

    Args:
        atoms: energies in Ha of isolated atoms, element -> key.
    """
    with h5py.File(path, "w") as file:
        for group in groups:
            _write_group(file.create_group(group.name), group, atoms)


def _write_group(target: h5py.Group, group: Group, atoms: dict[str, dict[str, float]]) -> None:
    rng = np.random.Generator(np.random.SFC64([20, zlib.crc32(group.name.encode())]))
    n = sum(group.atoms)
    heavy = n - group.atoms[1]
    base = {key: sum(k * atoms[s][key] for s, k in zip("CHNO", group.atoms)) for key in (*ENERGIES[:2], CC_KEY)}
    binding = n * np.clip(rng.normal(4.2, 0.3), 3.6, 5.0) / HARTREE  # the sample: 4.16 +- 0.36 eV an atom
    grid = _grid(n)[rng.permutation(n)]
    labelled = np.zeros(group.conformers, bool)
    labelled[rng.permutation(group.conformers)[: group.with_cc]] = True
    target["atomic_numbers"] = np.repeat(np.array([6, 1, 7, 8], np.uint8), group.atoms)
    data: dict[str, h5py.Dataset] = {}
    step = max(1, SLAB_ATOMS // n)
    for begin in range(0, group.conformers, step):
        count = min(step, group.conformers - begin)

        def put(key: str, values: NDArray, missing: NDArray | None = None, rows: slice = slice(begin, begin + count)):
            if missing is not None:
                values[missing] = np.nan
            if key not in data:
                data[key] = target.create_dataset(key, (group.conformers, *values.shape[1:]), values.dtype)
            data[key][rows] = values

        def normal(*shape: int) -> NDArray[np.float32]:
            return rng.standard_normal(shape, np.float32)

        no_tz, no_cc = rng.random(count) > SHARE_TZ, ~labelled[begin : begin + count]
        # At least 1.3 - 2 * 0.25 Angstrom apart, no two alike.
        put("coordinates", grid + 0.5 * (rng.random((count, n, 3), np.float32) - np.float32(0.5)))
        forces = normal(count, n, 3) * np.float32(1 / HARTREE)  # 1 eV/Angstrom
        forces -= forces.mean(1, keepdims=True)
        put("wb97x_dz.forces", forces)
        put("wb97x_tz.forces", np.float32(0.98) * forces + np.float32(0.05) * np.roll(forces, 1, 1), no_tz)
        bound = binding + n * rng.normal(0, 0.05, count) / HARTREE
        put("wb97x_dz.energy", base["wb97x_dz.energy"] - bound)
        put("wb97x_tz.energy", base["wb97x_tz.energy"] - bound * rng.normal(1.0, 1e-3, count), no_tz)
        high = base[CC_KEY] - bound * rng.normal(1.0, 2e-3, count)
        put(CC_KEY, high.copy(), no_cc)
        for key, a_heavy_atom in HF.items():
            put(key, high + heavy * a_heavy_atom, no_cc)
        for key, a_heavy_atom in CORRELATION.items():
            put(key, heavy * a_heavy_atom * rng.normal(1.0, 1e-3, count), no_cc)
        for key, (mean, spread) in FILLERS.items():
            put(key, mean + np.float32(spread) * normal(count, n), no_tz if "_tz." in key else None)
        put("wb97x_dz.dipole", normal(count, 3), rng.random(count) > SHARE_DIPOLE)
        put("wb97x_dz.quadrupole", normal(count, 6), rng.random(count) > SHARE_QUADRUPOLE)
        put("wb97x_tz.dipole", normal(count, 3), no_tz)


def _grid(n: int) -> NDArray[np.float32]:
    """The n points of a cubic grid, 1.3 Angstrom apart, that are nearest to its centre, (n, 3)."""
    side = int(np.ceil(n ** (1 / 3) - 1e-9)) + 1
    points = np.stack(np.meshgrid(*3 * [np.arange(side) - (side - 1) / 2], indexing="ij"), -1).reshape(-1, 3)
    nearest = np.argsort(np.square(points).sum(1), kind="stable")[:n]
    return (1.3 * points[nearest]).astype(np.float32)


# ------------------------------------------------------------------------------------------------- the steps, timed


@dataclass(frozen=True)
class Done:
    """What a step did: structures, bytes of arrays (or of the file), and what to know about it."""

    structures: int
    bytes: int
    note: str = ""


Timed = Callable[[], Done]  # a step: imports and looks first, untimed, and returns what is timed


def isolated_atoms() -> dict[str, dict[str, float]]:
    """Energies of free atoms in Hartree, as they come with the mini data: element -> key of the file -> energy."""
    from mfbench import resources

    return json.loads((resources.mini_data() / "isolated_atoms.json").read_text())


def generate(out: str, fraction: float) -> Timed:
    """Write the twin."""
    atoms = isolated_atoms()

    def timed() -> Done:
        groups = plan(fraction)
        write_release(Path(out), groups, atoms)
        total, size = sum(g.conformers for g in groups), Path(out).stat().st_size
        mean = sum(g.conformers * sum(g.atoms) for g in groups) / total
        note = f"{len(groups):,} groups, {size:,} bytes, {mean:.2f} atoms, CC for {sum(g.with_cc for g in groups):,}"
        return Done(total, size, note)

    return timed


def _shapes(path: str | Path) -> NDArray[np.int64]:
    """Conformers and atoms of each group, (G, 2)."""
    with h5py.File(path, "r") as file:
        return np.array([group["coordinates"].shape[:2] for group in file.values()])


def _needed_bytes(path: str) -> int:
    """Bytes of the arrays that conversion needs, without opening each."""
    conformers, atoms = _shapes(path).T
    an_atom, a_conformer = 4 * 3 * (1 + len(FORCES)), 8 * len(ENERGIES)
    return int((conformers * (atoms * an_atom + a_conformer) + atoms).sum())


def _needed(path: str) -> Iterator[dict[str, NDArray]]:
    """The arrays that conversion needs, of one group after the other."""
    with h5py.File(path, "r") as file:
        for group in file.values():
            yield {key: group[key][()] for key in ("atomic_numbers", "coordinates", *ENERGIES, *FORCES)}


def plain_read(raw: str) -> Timed:
    """Read the arrays that conversion needs, keep nothing."""

    def timed() -> Done:
        structures = size = 0
        for arrays in _needed(raw):
            structures += len(arrays["coordinates"])
            size += sum(array.nbytes for array in arrays.values())
        return Done(structures, size)

    return timed


def plain_copy(raw: str, out: str, layout: str = "contiguous") -> Timed:
    """Read the arrays that conversion needs, append each to a flat array of another file."""

    def timed() -> Done:
        shapes = _shapes(raw)
        structures, atoms = int(shapes[:, 0].sum()), int(shapes.prod(1).sum())
        size = 0
        with h5py.File(out, "w") as file:

            def flat(key: str, rows: int, dtype: Any, *width: int) -> None:
                chunks = {"chunks": ((1 << 20) // (np.dtype(dtype).itemsize * max(1, *width, 1)), *width)}
                file.create_dataset(key, (rows, *width), dtype, **(chunks if layout == "chunked" else {}))

            flat("atomic_numbers", atoms, np.uint8)
            for key in ("coordinates", *FORCES):
                flat(key, atoms, np.float32, 3)
            for key in ENERGIES:
                flat(key, structures, np.float64)
            data = dict(file.items())
            frame = atom = 0
            for arrays in _needed(raw):
                count, n, _ = arrays["coordinates"].shape
                arrays["atomic_numbers"] = np.tile(arrays["atomic_numbers"], count)
                for key, array in arrays.items():
                    if key in ENERGIES:
                        data[key][frame : frame + count] = array
                    else:
                        width = array.shape[2:]
                        data[key][atom : atom + count * n] = array.reshape(-1, *width)
                    size += array.nbytes
                frame, atom = frame + count, atom + count * n
        return Done(structures, size, f"{layout} layout, {Path(out).stat().st_size:,} bytes written")

    return timed


def _declared(raw: Path) -> Any:
    """The shipped manifest, for this file; its hash is not checked here, so that none is given that means something.

    The counts of labels are the release's for a file as large as the release, else not known.
    """
    from mfbench.data.manifest import DataFile, manifest

    release = manifest("ani1x")
    shapes = _shapes(raw)
    structures = int(shapes[:, 0].sum())
    counts = {"n_structures": structures, "n_molecules": len(shapes)}
    if structures != CONFORMERS:
        unknown = {"n_energy": None, "n_forces": None}
        counts["labels"] = tuple(one.model_copy(update=unknown) for one in release.labels)
    files = (DataFile(name=raw.name, bytes=raw.stat().st_size, sha256="0" * 64),)
    return release.model_copy(update={**counts, "files": files})


# The calls into mfbench under test, one function each.


def convert(raw: str, out: str) -> Timed:
    """mfbench's conversion: index of recurring geometries and checks included."""
    from mfbench.data import datasets

    declared, size = _declared(Path(raw)), _needed_bytes(raw)
    last: dict[str, float] = {}

    def progress(doing: str, done: int, total: int | None) -> None:
        last[doing] = time.perf_counter()

    def timed() -> Done:
        begin = time.perf_counter()
        written = datasets.convert(declared, [Path(raw)], Path(out), progress)
        marks = [begin, *last.values(), time.perf_counter()]
        stages = zip([*last, "the rest (ids, checks, flush)"], np.diff(marks))
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages)
        return Done(declared.n_structures, size, f"{parts}; {written.stat().st_size:,} bytes written")

    return timed


def load(converted: str, levels: list[str], labelled: str | None = None) -> Timed:
    """mfbench's loading of two levels to memory, of all structures or of those with an energy at a level."""
    from mfbench.data import store
    from mfbench.data.manifest import LabelKind
    from mfbench.data.subset import Subset

    kinds = (LabelKind(level=labelled, label="energy"),) if labelled else ()
    subset = Subset(labelled=kinds) if kinds else None

    def timed() -> Done:
        loaded = store.read(Path(converted), tuple(levels), subset)
        fields = (loaded.numbers, loaded.positions, loaded.offsets, loaded.energies, loaded.energy_mask)
        size = sum(array.nbytes for array in (*fields, loaded.force_mask, loaded.geometry, loaded.row))
        # Forces of a level without any take no memory.
        return Done(len(loaded), size + loaded.forces[0].nbytes * int(loaded.force_mask.any(0).sum()))

    return timed


def load_device(converted: str, levels: list[str]) -> Timed:
    """mfbench's loading of two levels straight to torch tensors on the CPU."""
    import torch

    from mfbench.data.store import Reader
    from mfbench.learning.device import DeviceStructures

    def timed() -> Done:
        with Reader(Path(converted), tuple(levels)) as reader:
            device = DeviceStructures(reader.read(), torch.device("cpu"))
            tensors = [device.atoms._numbers, device.atoms._positions, device._energies, *device._forces.values()]
            return Done(len(device.atoms.n_atoms), sum(tensor.nbytes for tensor in tensors))

    return timed


def read_directly(raw: str) -> Timed:
    """mfbench's reading of the raw file, all levels, without a converted file, as it does with small ones."""
    from mfbench.data.reading import read

    declared, size = _declared(Path(raw)), _needed_bytes(raw)
    return lambda: Done(len(read(declared, [Path(raw)])), size)


def _arrays_of(file: h5py.File, levels: list[str]) -> list[h5py.Dataset]:
    """The arrays of a converted file that loading some levels needs."""
    top = [data for data in file.values() if isinstance(data, h5py.Dataset)]
    groups = [group for group in file["labels"].values() if group.attrs["level"] in levels]
    return [data for data in (*top, *(one for group in groups for one in group.values())) if data.dtype.kind != "O"]


def bytes_h5py(converted: str, levels: list[str]) -> Timed:
    """Read the arrays of two levels with plain h5py, each whole, and keep them."""

    def timed() -> Done:
        with h5py.File(converted, "r") as file:
            structures = len(file["offsets"]) - 1
            arrays = [data[()] for data in _arrays_of(file, levels)]
        return Done(structures, sum(array.nbytes for array in arrays), f"{len(arrays)} arrays")

    return timed


def bytes_plain(converted: str, levels: list[str]) -> Timed:
    """Read the bytes that hold the arrays of two levels with plain system calls, and keep them."""
    with h5py.File(converted, "r") as file:
        structures = len(file["offsets"]) - 1
        extents = [sorted(_extents(data)) for data in _arrays_of(file, levels)]

    def timed() -> Done:
        kept, descriptor = [], os.open(converted, os.O_RDONLY)
        for pieces in extents:
            kept.append(np.empty(sum(size for _, size in pieces), np.uint8))
            begin = 0
            for offset, size in pieces:
                _read_fully(descriptor, memoryview(kept[-1])[begin : begin + size], offset)
                begin += size
        os.close(descriptor)
        return Done(structures, sum(array.nbytes for array in kept), f"{sum(map(len, extents)):,} extents")

    return timed


def _extents(data: h5py.Dataset) -> list[tuple[int, int]]:
    """Where an array's bytes are in its file: offset and size."""
    if data.chunks is None:
        return [(data.id.get_offset(), data.nbytes)] if data.size else []
    chunks = (data.id.get_chunk_info(k) for k in range(data.id.get_num_chunks()))
    return [(chunk.byte_offset, chunk.size) for chunk in chunks]


def _read_fully(descriptor: int, target: memoryview, offset: int) -> None:
    while target:  # the kernel gives 2 GiB at most a call
        got = os.preadv(descriptor, [target], offset)
        if not got:
            raise EOFError(f"{offset=}: the file is shorter than its chunks say")
        target, offset = target[got:], offset + got


# The peers, each in its own words; what they hold is the pair of levels LOW and CC.


def hippynn(raw: str) -> Timed:
    """hippynn's reader of such files: the whole file to memory, padded."""
    from hippynn.databases import PyAniFileDB

    def timed() -> Done:
        made = PyAniFileDB(
            raw,
            ["atomic_numbers", "coordinates"],
            list(PEER_KEYS),
            seed=0,
            species_key="atomic_numbers",
            quiet=True,
        )
        arrays = made.arr_dict.values()
        return Done(len(made.arr_dict[CC_KEY]), sum(array.nbytes for array in arrays), "padded to the largest molecule")

    return timed


def torchani(raw: str) -> Timed:
    """torchani's dataset class: each group's arrays as tensors, kept."""
    os.environ.setdefault("TORCHANI_NO_WARN_EXTENSIONS", "1")
    import torch
    from torchani.datasets import ANIDataset

    keys = ("atomic_numbers", "coordinates", *PEER_KEYS)

    def timed() -> Done:
        made = ANIDataset(raw, verbose=False)
        groups = (arrays for _, arrays in made.numpy_items(properties=keys))
        kept = [{key: torch.from_numpy(array) for key, array in arrays.items()} for arrays in groups]
        size = sum(tensor.nbytes for tensors in kept for tensor in tensors.values())
        return Done(made.num_conformers, size, f"{len(kept):,} groups, not joined")

    return timed


def schnetpack_write(raw: str, out: str) -> Timed:
    """SchNetPack's ASE database, written from the raw file group by group."""
    from ase import Atoms
    from schnetpack.data import ASEAtomsData

    units = {PEER_KEYS[0]: "Ha", PEER_KEYS[1]: "Ha/Ang", PEER_KEYS[2]: "Ha"}

    def timed() -> Done:
        made, structures = ASEAtomsData.create(out, distance_unit="Ang", property_unit_dict=units), 0
        with h5py.File(raw, "r") as file:
            for group in file.values():
                numbers, positions = group["atomic_numbers"][()], group["coordinates"][()]
                columns = [group[key][()] for key in PEER_KEYS]
                properties = [dict(zip(PEER_KEYS, map(np.atleast_1d, row))) for row in zip(*columns)]
                made.add_systems(properties, [Atoms(numbers, one) for one in positions])
                structures += len(positions)
        return Done(structures, Path(out).stat().st_size)

    return timed


def schnetpack_read(database: str) -> Timed:
    """SchNetPack's ASE database, every structure read once, nothing kept."""
    from schnetpack.data import ASEAtomsData

    def timed() -> Done:
        made = ASEAtomsData(database)
        for k in range(len(made)):
            made[k]
        return Done(len(made), Path(database).stat().st_size)

    return timed


def describe() -> dict[str, Any]:
    """Versions and machine; in a process of its own, so that this one does not carry torch."""
    import torch

    from mfbench.study import provenance

    return provenance.describe(torch.device("cpu"), torch.get_num_threads())


STEPS: dict[str, Callable[..., Timed]] = {
    step.__name__: step
    for step in (
        generate,
        plain_read,
        plain_copy,
        convert,
        bytes_h5py,
        bytes_plain,
        load,
        load_device,
        read_directly,
        hippynn,
        torchani,
        schnetpack_write,
        schnetpack_read,
    )
}


# ----------------------------------------------------------------------------------------- running and showing them


def _child(function: str, arguments: dict[str, Any], result: Path) -> None:
    """Run one step in this process, and leave what it took in a file."""
    if function == "describe":
        result.write_text(json.dumps(describe()))
        return
    try:
        timed = STEPS[function](**arguments)
    except ImportError as error:
        result.write_text(json.dumps({"missing": str(error)}))
        return
    before = _usage()
    begin = time.perf_counter()
    done = timed()
    wall = time.perf_counter() - begin
    after = _usage()
    flush = 0.0
    if "out" in arguments and Path(arguments["out"]).is_file():
        begin = time.perf_counter()
        with open(arguments["out"], "rb+") as file:
            os.fsync(file.fileno())
        flush = time.perf_counter() - begin
    measured = {"wall_s": wall, "flush_s": flush, "cpu_s": after[0] - before[0]}
    result.write_text(json.dumps({**measured, "peak": after[1], "peak_before": before[1], **asdict(done)}))


def _usage() -> tuple[float, int]:
    """Processor seconds of this process, and the most resident bytes that it ever had."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@dataclass
class Row:
    """One step, repeated: medians, and the extremes of the wall time; the highest peak. A status says why not."""

    name: str
    title: str
    part: float  # of the release's conformers
    status: str = "done"
    repeats: int = 0
    structures: int = 0
    bytes: int = 0
    wall_s: float | None = None
    wall_min_s: float | None = None
    wall_max_s: float | None = None
    flush_s: float | None = None
    cpu_s: float | None = None
    peak_bytes: int | None = None
    peak_before_bytes: int | None = None
    structures_per_s: float | None = None
    megabytes_per_s: float | None = None
    times_yardstick: float | None = None
    yardstick: str = ""
    release_at_this_rate_s: float | None = None
    note: str = ""

    def line(self) -> str:
        """For the table; a number that is not there is a dash."""

        def number(value: float | None, form: str) -> str:
            return "-" if value is None else format(value, form)

        def mebibytes(value: int | None) -> str:
            return "-" if value is None else f"{value / 2**20:,.0f}"

        spread = "" if self.repeats < 2 else f"{self.wall_min_s:.2f}..{self.wall_max_s:.2f}"
        times = "" if self.times_yardstick is None else f"{self.times_yardstick:.2f} x {self.yardstick}"
        return (
            f"{self.name:<22}{self.structures:>10,}{number(self.wall_s, '.2f'):>9}{spread:>16}"
            f"{number(self.flush_s, '.1f'):>7}{number(self.cpu_s, '.2f'):>9}{mebibytes(self.peak_bytes):>8}"
            f"{mebibytes(self.peak_before_bytes):>8}{number(self.structures_per_s, ',.0f'):>13}"
            f"{number(self.megabytes_per_s, ',.0f'):>8}{number(self.release_at_this_rate_s, ',.0f'):>10}  {times:<24} "
            f"{self.status if self.status != 'done' else self.note}"
        )


HEADING = (
    f"{'step':<22}{'structures':>10}{'wall s':>9}{'min..max':>16}{'flush':>7}{'CPU s':>9}{'MiB':>8}{'imports':>8}"
    f"{'structures/s':>13}{'MB/s':>8}{'release s':>10}  against the yardstick"
)


@dataclass
class Bench:
    """Runs steps, prints and keeps their rows."""

    folder: Path
    skip: tuple[str, ...]
    only: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)

    def step(
        self,
        name: str,
        part: float,
        repeats: int = 1,
        function: str | None = None,
        reads: Path | None = None,
        yardstick: str = "",
        **arguments: Any,
    ) -> Row:
        """Run one step ``repeats`` times, each in a fresh process.

        Args:
            name: of the row; the function of that name (or ``function``) is run.
            part: of the release's conformers that the step handles.
            reads: a file that is read once before, so that the page cache holds what fits.
            yardstick: name of the row that this one's wall time is divided by.
        """
        function = function or name.replace("-", "_")
        row = Row(name, (STEPS[function].__doc__ or "").splitlines()[0], part, yardstick=yardstick)
        self.rows.append(row)
        if name in self.skip or (self.only and name not in self.only):
            row.status = "skipped, as asked"
        elif reads is not None and not reads.exists():
            row.status = f"skipped: no {reads.name}, which an earlier step makes"
        else:
            self._measure(row, function, repeats, reads, arguments)
        print(row.line(), flush=True)
        return row

    def _measure(self, row: Row, function: str, repeats: int, reads: Path | None, arguments: dict[str, Any]) -> None:
        runs: list[dict[str, Any]] = []
        if reads is not None:
            _warm(reads)
        for _ in range(repeats):
            if "out" in arguments:
                Path(arguments["out"]).unlink(missing_ok=True)
            os.sync()  # what earlier steps wrote is not this one's to wait for
            got = self.child(function, arguments)
            if "wall_s" not in got:
                row.status = got.get("failed") or f"not installed: {got['missing']}"
                return
            runs.append(got)
        walls = [run["wall_s"] for run in runs]
        row.repeats, row.wall_s = repeats, statistics.median(walls)
        row.wall_min_s, row.wall_max_s = min(walls), max(walls)
        row.cpu_s = statistics.median(run["cpu_s"] for run in runs)
        row.flush_s = statistics.median(run["flush_s"] for run in runs) if "out" in arguments else None
        row.peak_bytes = max(run["peak"] for run in runs)
        row.peak_before_bytes = max(run["peak_before"] for run in runs)
        row.structures, row.bytes, row.note = runs[-1]["structures"], runs[-1]["bytes"], runs[-1]["note"]
        row.structures_per_s = row.structures / row.wall_s
        row.megabytes_per_s = row.bytes / row.wall_s / 1e6
        if function != "load" or not arguments.get("labelled"):
            row.release_at_this_rate_s = CONFORMERS / row.structures_per_s
        against = next((one for one in self.rows if one.name == row.yardstick and one.part == row.part), None)
        if against is not None and against.wall_s:
            row.times_yardstick = row.wall_s / against.wall_s

    def child(self, function: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Run a function of this script in a fresh process."""
        result = self.folder / "result.json"
        result.unlink(missing_ok=True)
        # This process stays small: Linux counts the parent's memory at the start as the child's peak.
        command = [sys.executable, __file__, "--child", function, json.dumps(arguments), str(result)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not result.exists():
            lines = done.stderr.strip().splitlines() or ["no message"]
            return {"failed": f"failed ({done.returncode}): {lines[-1][:300]}"}
        return json.loads(result.read_text())


def _warm(path: Path) -> None:
    buffer = bytearray(1 << 23)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _free_memory() -> int:
    """Bytes that the page cache could take, as Linux tells; 0 where nothing tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), 0)


def run_all(bench: Bench, args: argparse.Namespace, raw: Path) -> dict[str, Any]:
    """All steps; the verdicts on conversion."""
    folder, part = bench.folder, args.fraction
    flat, converted = folder / "flat.h5", folder / "ani1x.converted.h5"
    if args.raw is None:
        bench.step("generate", part, out=str(raw), fraction=part)
    bench.step("plain-read", part, args.repeats, reads=raw, raw=str(raw))
    copying = bench.step("plain-copy", part, args.repeats, reads=raw, raw=str(raw), out=str(flat), layout=args.layout)
    flat.unlink(missing_ok=True)
    converting = bench.step(
        "convert", part, args.repeats, reads=raw, yardstick="plain-copy", raw=str(raw), out=str(converted)
    )
    for pair, levels in PAIRS.items():
        what = {"reads": converted, "converted": str(converted), "levels": list(levels)}
        for way in ("h5py", "plain"):
            bench.step(f"bytes-{way}-{pair}", part, args.repeats, f"bytes_{way}", **what)
        bench.step(f"load-{pair}", part, args.repeats, "load", yardstick=f"bytes-h5py-{pair}", **what)
        bench.step(f"load-device-{pair}", part, args.repeats, "load_device", yardstick=f"bytes-h5py-{pair}", **what)
    bench.step(
        "load-labelled",
        part,
        args.repeats,
        "load",
        reads=converted,
        yardstick="load-CC",
        converted=str(converted),
        levels=list(PAIRS["CC"]),
        labelled=CC,
    )
    cache = _free_memory()
    size = sum(path.stat().st_size for path in (raw, converted) if path.exists())
    for share in (0.05, 0.01):
        _peers(bench, part * share, args.repeats, folder, share == 0.01)
    return {
        "page_cache": f"{size:,} bytes of raw and converted file, {cache:,} bytes free for the page cache: "
        + ("both fit, every reading step reads from memory" if size < cache else "they do NOT fit: disk is read"),
        "limits": [
            _limit("conversion / plain reading and writing", converting.times_yardstick, LIMIT_RATIO),
            _limit("peak memory of conversion, bytes", converting.peak_bytes, LIMIT_PEAK),
        ],
        "writing": f"flush: fsync of the written file, after and beside the wall time; {copying.name}: {args.layout}",
    }


def _peers(bench: Bench, part: float, repeats: int, folder: Path, databases: bool) -> None:
    """mfbench and the peers on one part of the release, made anew."""
    raw, converted, database = folder / f"part-{part:g}.h5", folder / f"part-{part:g}.converted.h5", folder / "part.db"
    print(f"-- on {part:.2%} of the release:")
    bench.step("generate-part", part, function="generate", out=str(raw), fraction=part)
    bench.step("part-convert", part, repeats, "convert", reads=raw, raw=str(raw), out=str(converted))
    what = {"reads": converted, "converted": str(converted), "levels": list(PAIRS["CC"])}
    bench.step("part-load-CC", part, repeats, "load", **what)
    bench.step("part-read-directly", part, repeats, "read_directly", reads=raw, raw=str(raw))
    if databases:
        what = {"reads": raw, "raw": str(raw), "out": str(database)}
        bench.step("schnetpack-write", part, 1, yardstick="part-convert", **what)
        bench.step("schnetpack-read", part, 1, reads=database, yardstick="part-load-CC", database=str(database))
    else:
        bench.step("hippynn", part, repeats, reads=raw, yardstick="part-load-CC", raw=str(raw))
        bench.step("torchani", part, repeats, reads=raw, yardstick="part-load-CC", raw=str(raw))
    for path in (raw, converted, database):
        path.unlink(missing_ok=True)


def _limit(what: str, got: float | None, limit: float) -> dict[str, Any]:
    return {"what": what, "limit": limit, "got": got, "met": None if got is None else got <= limit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fraction", type=float, default=1.0, help="of the release's conformers, for trying out")
    parser.add_argument("--repeats", type=int, default=1, help="of the timed steps: median, least, most")
    parser.add_argument("--folder", type=Path, help="for the big files; by default the system's, for the run")
    parser.add_argument("--keep", action="store_true", help="keep the generated and the converted file")
    parser.add_argument("--raw", type=Path, help="a file in the release's schema, made before")
    parser.add_argument("--layout", choices=("contiguous", "chunked"), default="contiguous", help="of plain copying")
    parser.add_argument("--skip", nargs="+", default=(), help="names of rows")
    parser.add_argument("--only", nargs="+", default=(), help="names of rows")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        function, arguments, result = args.child
        _child(function, json.loads(arguments), Path(result))
        return
    if args.raw is not None:
        args.fraction = int(_shapes(args.raw)[:, 0].sum()) / CONFORMERS
    parent = args.folder or Path(tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    # The raw file; the flat copy or the converted file (some 3.6 GB), and the parts.
    needed = int(args.fraction * ((0 if args.raw else BYTES) + 1.2 * BYTES)) + (1 << 28)
    if (free := shutil.disk_usage(parent).free) < needed:
        parser.error(f"{parent}: expected {needed:,} bytes of free disk, got {free:,}: name another --folder")
    folder = Path(tempfile.mkdtemp(prefix="ani1x-scale-", dir=parent))
    try:
        bench = Bench(folder, tuple(args.skip), tuple(args.only))
        about = bench.child("describe", {})
        print(HEADING)
        report = run_all(bench, args, args.raw or folder / NAME)
    finally:
        if args.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
    print(report["page_cache"])
    for limit in report["limits"]:
        met = {True: "met", False: "MISSED", None: "not measured"}[limit["met"]]
        print(f"{limit['what']}: {limit['got']}, at most {limit['limit']}: {met}")
    if args.out:
        report = {
            "date": time.strftime("%Y-%m-%d"),
            "provenance": about,
            "fraction": args.fraction,
            "raw": "generated" if args.raw is None else args.raw.name,
            "units": "s, bytes; MB/s of 1e6 bytes of the arrays handled",
            **report,
            "rows": [asdict(row) for row in bench.rows],
        }
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
