"""Make mfbench/data/free_atoms.json: energies of free atoms at the catalogue's levels of theory.

They are what a level's atomic energies are where its labels do not determine them, what a single atom is predicted
to have, and what energies are checked against. Ground-state multiplicities, unrestricted, one determinant. Coupled
cluster and MP2 freeze the core, as ORCA does by default and the published sets do; DFT is fitted to density as the
mini data are (mfbench/data/mini/isolated_atoms.json, which this gives again to 1e-6 Ha). The composite
ccsd(t)*/cbs is the mini data's: HF/CBS(TZ,QZ) + MP2/CBS(TZ,QZ) + [CCSD(T) - MP2]/cc-pVDZ.

    pip install 'mfbench[qm]' tblite
    OMP_NUM_THREADS=1 python benchmarks/free_atoms.py

It takes some five minutes on one core.
"""

import argparse
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mfbench.elements import numbers_of
from mfbench.files import write_json

OUT = Path(__file__).resolve().parents[1] / "mfbench" / "data" / "free_atoms.json"
UNPAIRED = {"H": 1, "C": 2, "N": 3, "O": 2, "F": 1, "S": 2, "Cl": 1}  # electrons; 2S, 3P, 4S, 3P, 2P, 3P, 2P
CORE = {"H": 0, "C": 1, "N": 1, "O": 1, "F": 1, "S": 5, "Cl": 5}  # orbitals that are frozen
# Not computed: taken from another level, and so no reference energies.
LIKE = {
    "pbe+vdw-ts": "pbe/def2-svp",
    "npno-ccsd(t)/cc-pvdz": "ccsd(t)/cc-pvdz",
    "tpno-ccsd(t)/cc-pvdz": "ccsd(t)/cc-pvdz",
    "npno-ccsd(t)/cc-pvtz": "ccsd(t)/cc-pvtz",
}


def lowest(method: Any) -> Any:
    """The mean-field solution, moved on to a lower one as long as it is not stable."""
    method.run(conv_tol=1e-11)
    for _ in range(5):
        orbitals, _, stable, _ = method.stability(return_status=True)
        if stable:
            return method
        method.kernel(method.make_rdm1(orbitals, method.mo_occ))
    raise SystemExit(f"{method.mol.atom}, {method.mol.basis}: no stable solution")


def density_functional(symbol: str, functional: str, basis: str) -> float:
    """UKS with density fitting on PySCF's default grid, Ha."""
    from pyscf import dft, gto

    method = dft.UKS(gto.M(atom=symbol, basis=basis, spin=UNPAIRED[symbol], verbose=0))
    method.xc = functional
    fitted = method.density_fit()  # after the functional: hybrids take another fitting basis
    fitted.run(conv_tol=1e-9, max_cycle=200)
    if not fitted.converged:  # p orbitals that turn on the grid
        fitted = fitted.newton().run(conv_tol=1e-9, max_cycle=200)
    assert fitted.converged
    return float(fitted.e_tot)


def wave_functions(symbol: str) -> dict[str, float]:
    """Hartree-Fock, MP2 and coupled-cluster energies of an atom, Ha."""
    from pyscf import cc, gto, mp, scf

    found: dict[str, float] = {}
    frozen = CORE[symbol] or None
    for basis in ("cc-pvdz", "cc-pvtz", "cc-pvqz"):
        method = lowest(scf.UHF(gto.M(atom=symbol, basis=basis, spin=UNPAIRED[symbol], verbose=0)))
        alone = symbol == "H"  # one electron is not correlated
        pairs = 0.0 if alone else float(mp.UMP2(method, frozen=frozen).run().e_corr)
        found[f"hf/{basis}"], found[f"mp2/{basis}"] = method.e_tot, method.e_tot + pairs
        if basis == "cc-pvqz":
            continue
        singles = triples = 0.0
        if not alone:
            cluster = cc.UCCSD(method, frozen=frozen).run(conv_tol=1e-9)
            assert cluster.converged
            singles, triples = float(cluster.e_corr), float(cluster.ccsd_t())
        if basis == "cc-pvdz":
            found["ccsd/cc-pvdz"] = method.e_tot + singles
        found[f"ccsd(t)/{basis}"] = method.e_tot + singles + triples
    found["ccsd(t)*/cbs"] = composite(found)
    return found


def composite(found: dict[str, float]) -> float:
    """HF by exp(-1.63 X) and MP2 correlation by X^-3, both from triple and quadruple zeta; CCSD(T) in double zeta."""
    three, four = found["hf/cc-pvtz"], found["hf/cc-pvqz"]
    hartree_fock = four + (four - three) * math.exp(-1.63) / (1 - math.exp(-1.63))
    t, q = (found[f"mp2/cc-pv{x}z"] - found[f"hf/cc-pv{x}z"] for x in "tq")
    return hartree_fock + (q * 4**3 - t * 3**3) / (4**3 - 3**3) + found["ccsd(t)/cc-pvdz"] - found["mp2/cc-pvdz"]


def tight_binding(symbol: str) -> float:
    """GFN2-xTB, Ha."""
    import numpy as np
    from tblite.interface import Calculator

    atom = Calculator("GFN2-xTB", numbers_of(symbol), np.zeros((1, 3)), charge=0.0, uhf=UNPAIRED[symbol])
    atom.set("verbosity", 0)
    return float(atom.singlepoint().get("energy"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help="what is written, as JSON")
    options = parser.parse_args()
    levels: dict[str, dict[str, float]] = {}
    for symbol in UNPAIRED:
        each = {
            "gfn2-xtb": tight_binding(symbol),
            "pbe/def2-svp": density_functional(symbol, "pbe", "def2-svp"),
            "wb97x/6-31g*": density_functional(symbol, "wb97x", "6-31g*"),
            "wb97x/def2-tzvpp": density_functional(symbol, "wb97x", "def2-tzvpp"),
            **wave_functions(symbol),
        }
        print(symbol, flush=True)
        for name, energy in each.items():
            levels.setdefault(name, {})[symbol] = round(float(energy), 9)
    codes = ", ".join(f"{name} {version(name)}" for name in ("pyscf", "tblite"))
    made = f"benchmarks/free_atoms.py: {codes}; unrestricted, ground-state multiplicity, frozen core"
    write_json(options.out, {"made by": made, "unit": "Ha", "levels": levels, "like": LIKE})
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
