"""Make mini/frequencies.json: harmonic frequencies of the mini molecules at the optimised geometry of a DFT level.

They are what the frequencies of a machine-learned potential are judged against. Per molecule and level: the frame of
lowest energy, its stored label computed again (anything but the same is an error), ASE's BFGS to a minimum, the
Hessian by central differences of the analytic gradient, translations and rotations projected out. Every finished
(molecule, level) is written at once and what the output holds is skipped, so that Ctrl-C loses nothing.

The level is the one of the labels, its integration grid included, and that grid does not turn with the molecule:
turned, the energy of HCN and CH3OH (wB97X/6-31G*) differs by up to 0.4 meV, their frequencies below 1600/cm by up to
26/cm (a bend of HCN), those above by 2/cm. Degenerate modes are split by up to 13/cm (C2H6). Closer
agreement means nothing. The minimum is the one the lowest frame falls into, which need not be the global one: N2H4
is trans at wb97x/6-31g*, gauche at wb97x/def2-tzvpp.

    pip install 'mfbench[qm]'
    OMP_NUM_THREADS=1 python benchmarks/reference_frequencies.py
    python benchmarks/reference_frequencies.py --levels wb97x/6-31g* --molecules H2O HCN --out /tmp/frequencies.json

All of it takes some three hours on one core. A frequency below 0 is an imaginary one.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import ase
import h5py
import numpy as np
import pyscf
from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_masses
from ase.optimize import BFGS
from ase.units import create_units
from numpy.typing import NDArray
from pyscf import dft, gto
from tqdm.auto import tqdm

from mfbench import resources
from mfbench.files import read_json, replacing
from mfbench.units import BOHR, EV_PER_KCAL, HARTREE

Array = NDArray[np.float64]

FMAX = 1e-3  # eV/Angstrom
STEP = 0.005  # Angstrom
SCF_TOLERANCE = 1e-10  # Ha; 1e-9 in the data, but here the gradients are differenced
GRADIENT_TOLERANCE = 1e-6  # of the orbitals
MAX_IMAGINARY = 30.0  # 1/cm; beyond it the geometry is a saddle point
PUSH = 0.1  # Angstrom, along the imaginary mode, of the atom that moves most
ATTEMPTS = 3
LINEAR = 1e-3  # smallest over largest moment of inertia
# What a stored label may differ by.
SAME_ENERGY, SAME_FORCES = 1e-6, 1e-5  # Ha, Ha/Angstrom

LEVELS = {"pbe/def2-svp": "pbe", "wb97x/6-31g*": "wb97x_dz", "wb97x/def2-tzvpp": "wb97x_tz"}  # to the key of the data
METHANOL, METHANOL_LEVEL = "CH3OH", "pbe/def2-svp"
METHOD = (
    "PySCF RKS, density fitting, grid level 3, grid response in the gradient, "
    f"SCF converged to {SCF_TOLERANCE:g} Ha and {GRADIENT_TOLERANCE:g} in the orbital gradient; "
    f"ASE BFGS from the frame of lowest energy to {FMAX:g} eV/Angstrom; Hessian by central differences of the "
    f"analytic gradient, {STEP:g} Angstrom, symmetrised; translations and rotations projected out; imaginary "
    "frequencies are negative; CODATA 2018"
)
MASSES = "ase.data.atomic_masses (standard atomic weights, ASE's default)"
UNITS = {"frequencies": "1/cm", "positions": "Angstrom", "energy": "eV"}


@dataclass(frozen=True)
class Frame:
    """The labelled structure an optimisation starts from."""

    numbers: NDArray[np.int64]  # (N,)
    positions: Array  # (N, 3), Angstrom
    energy: float  # Ha
    forces: Array  # (N, 3), Ha/Angstrom


class PySCF(Calculator):
    """Energy (eV) and forces (eV/Angstrom) of a closed-shell molecule at a level of the mini data.

    The density of one geometry is the guess for the next.
    """

    implemented_properties: ClassVar = ["energy", "forces"]

    def __init__(self, level: str) -> None:
        super().__init__()
        self.functional, self.basis = level.split("/", 1)
        self.density: Array | None = None

    def calculate(
        self, atoms: ase.Atoms | None = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        geometry = list(zip(self.atoms.numbers.tolist(), self.atoms.positions / BOHR))
        molecule = gto.M(atom=geometry, unit="Bohr", basis=self.basis, verbose=0)
        scf = dft.RKS(molecule, xc=self.functional).density_fit()
        scf.grids.level = 3
        scf.conv_tol, scf.conv_tol_grad = SCF_TOLERANCE, GRADIENT_TOLERANCE
        energy = scf.kernel(dm0=self.density)
        if not scf.converged:
            raise RuntimeError(f"{self.atoms.symbols}: the SCF did not converge at {self.atoms.positions.tolist()}")
        self.density = np.asarray(scf.make_rdm1())
        gradient = scf.nuc_grad_method()
        gradient.grid_response = True
        self.results = {"energy": energy * HARTREE, "forces": -gradient.kernel() * HARTREE / BOHR}


def molecules() -> dict[str, str]:
    """Molecule -> its group in the mini data."""
    with h5py.File(resources.mini_data() / "mini-ani1x.h5") as file:
        return {str(group.attrs["molecule"]): name for name, group in file.items()}


def lowest(molecule: str, level: str) -> Frame:
    """The frame of lowest energy."""
    if level == METHANOL_LEVEL:
        ha = EV_PER_KCAL / HARTREE
        with np.load(resources.mini_data() / "mini_methanol_rmd17.npz") as file:
            at = int(np.argmin(file["energies"]))
            numbers, positions = file["nuclear_charges"], file["coords"][at]
            energy, forces = file["energies"][at] * ha, file["forces"][at] * ha
    else:
        key = LEVELS[level]
        with h5py.File(resources.mini_data() / "mini-ani1x.h5") as file:
            group = file[molecules()[molecule]]
            at = int(np.nanargmin(group[f"{key}.energy"][:]))
            numbers, positions = group["atomic_numbers"][:], group["coordinates"][at]
            energy, forces = group[f"{key}.energy"][at], group[f"{key}.forces"][at]
    return Frame(numbers.astype(np.int64), positions.astype(np.float64), float(energy), forces.astype(np.float64))


def check(atoms: ase.Atoms, frame: Frame) -> str:
    """How far the label computed now is from the stored one; raises where they are not the same."""
    energy = abs(atoms.get_potential_energy() / HARTREE - frame.energy)
    forces = float(np.abs(atoms.get_forces() / HARTREE - frame.forces).max())
    said = f"stored label: energy differs by {energy:.1e} Ha, forces by {forces:.1e} Ha/Angstrom"
    if not (energy <= SAME_ENERGY and forces <= SAME_FORCES):
        raise ValueError(
            f"{atoms.symbols}: {said}; expected at most {SAME_ENERGY:g} and {SAME_FORCES:g}: "
            "the settings are not those of the mini data, or another PySCF computes another thing"
        )
    return said


def hessian(atoms: ase.Atoms, label: str) -> Array:
    """(3N, 3N), eV/Angstrom^2, by central differences of the forces, not yet symmetric."""
    moved = ase.Atoms(numbers=atoms.numbers, calculator=atoms.calc)
    positions = atoms.positions.copy()
    rows = []
    for coordinate in tqdm(range(positions.size), desc=label, leave=False, disable=None):
        forces = []
        for sign in (1, -1):
            moved.positions = positions
            moved.positions.flat[coordinate] += sign * STEP
            forces.append(moved.get_forces().ravel())
        rows.append((forces[1] - forces[0]) / (2 * STEP))
    return np.array(rows)


def external(positions: Array, masses: Array) -> Array:
    """Orthonormal mass-weighted translations and rotations, (3N, 6), or (3N, 5) for a linear molecule."""
    centred = positions - masses @ positions / masses.sum()
    inertia = np.einsum("i,iab->ab", masses, [(r @ r) * np.eye(3) - np.outer(r, r) for r in centred])
    moments, axes = np.linalg.eigh(inertia)
    turns = axes.T[1:] if moments[0] < LINEAR * moments[-1] else axes.T  # (R, 3), about the axis of a line: none
    root = np.sqrt(masses)[:, None]
    shifts = [(root * axis).ravel() for axis in np.eye(3)]
    rotations = [(root * np.cross(axis, centred)).ravel() for axis in turns]
    return np.linalg.qr(np.array(shifts + rotations).T)[0]


def harmonic(positions: Array, masses: Array, second: Array) -> tuple[Array, Array]:
    """Frequencies (1/cm, ascending, imaginary ones negative) and the displacements of their modes (F, N, 3)."""
    root = np.sqrt(np.repeat(masses, 3))
    outside = external(positions, masses)
    # What is left of the 3N mass-weighted coordinates: frequencies of 0 are never mixed up with those of soft modes.
    inside = np.linalg.svd(outside, full_matrices=True)[0][:, outside.shape[1] :]  # (3N, F)
    weighted = (second + second.T) / 2 / np.outer(root, root)
    values, vectors = np.linalg.eigh(inside.T @ weighted @ inside)
    si = create_units("2018")
    per_cm = np.sqrt(si["_e"] / si["_amu"]) * 1e10 / (2 * np.pi * si["_c"] * 100)
    modes = (inside @ vectors).T / root
    return np.sign(values) * np.sqrt(np.abs(values)) * per_cm, modes.reshape(len(values), -1, 3)


def minimum(molecule: str, level: str) -> dict[str, Any]:
    """A row of the output: optimised geometry, its energy and frequencies."""
    frame = lowest(molecule, level)
    atoms = ase.Atoms(numbers=frame.numbers, positions=frame.positions, calculator=PySCF(level))
    masses = atomic_masses[frame.numbers]
    print(f"  {check(atoms, frame)}", flush=True)
    for attempt in range(1, ATTEMPTS + 1):
        optimiser = BFGS(atoms, logfile=None)
        if not optimiser.run(fmax=FMAX, steps=300):
            raise RuntimeError(f"{molecule} {level}: not optimised to {FMAX:g} eV/Angstrom in 300 steps")
        second = hessian(atoms, f"{molecule} {level}")
        frequencies, modes = harmonic(atoms.positions, masses, second)
        asymmetry = np.abs(second - second.T).max()
        print(f"  {optimiser.nsteps} steps; Hessian asymmetric by {asymmetry:.1e} eV/Angstrom^2", flush=True)
        if frequencies[0] >= -MAX_IMAGINARY:
            break
        print(f"  attempt {attempt} of {ATTEMPTS}: a saddle point, {frequencies[0]:.0f} 1/cm", flush=True)
        if attempt < ATTEMPTS:
            atoms.positions += modes[0] * PUSH / np.linalg.norm(modes[0], axis=1).max()
    return {
        "molecule": molecule,
        "level": level,
        "numbers": frame.numbers.tolist(),
        "positions": np.round(atoms.positions, 6).tolist(),
        "energy": round(float(atoms.get_potential_energy()), 7),
        "frequencies": np.round(frequencies, 2).tolist(),
    }


def items(levels: list[str], names: list[str]) -> Iterator[tuple[str, str]]:
    """The (molecule, level) there is data for, in the order asked for."""
    for level in levels:
        yield from ((name, level) for name in names if level != METHANOL_LEVEL or name == METHANOL)


def write(path: Path, made_with: dict[str, str], rows: list[dict[str, Any]]) -> None:
    """By temp file and rename, a row a line."""
    head = json.dumps({"made_with": made_with, "masses": MASSES, "units": UNITS}, indent=1).removesuffix("\n}")
    body = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    with replacing(path) as temporary:
        temporary.write_text(f'{head},\n "rows": [\n{body}\n ]\n}}\n', encoding="utf-8")


def main() -> None:
    known = sorted(molecules())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", nargs="+", choices=list(LEVELS), default=list(LEVELS), metavar="LEVEL")
    parser.add_argument("--molecules", nargs="+", choices=known, default=known, metavar="MOLECULE")
    parser.add_argument("--out", type=Path, default=resources.mini_data() / "frequencies.json")
    args = parser.parse_args()
    made_with = {"pyscf": pyscf.__version__, "ase": ase.__version__, "method": METHOD}
    rows: list[dict[str, Any]] = []
    if args.out.exists():
        held = read_json(args.out)
        if held["made_with"] != made_with:
            parser.error(f"{args.out}: made with {held['made_with']}, not with {made_with}: write to another file")
        rows = held["rows"]
    wanted = list(items(args.levels, args.molecules))
    for number, (molecule, level) in enumerate(wanted, 1):
        place = f"[{number}/{len(wanted)}] {molecule} {level}"
        if any((row["molecule"], row["level"]) == (molecule, level) for row in rows):
            print(f"{place}: there already", flush=True)
            continue
        print(place, flush=True)
        start = time.perf_counter()
        row = minimum(molecule, level)
        rows.append(row)
        write(args.out, made_with, rows)
        said = " ".join(f"{value:.0f}" for value in row["frequencies"])
        print(f"  {said} 1/cm; {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
