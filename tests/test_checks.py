"""Checks: every one passes on sound data, shipped and published, and fails on data spoiled in the way it is for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published import declare, label, md17_cc, rmd17_split

from mfbench.data import checks, datasets, store
from mfbench.data.checks import check
from mfbench.data.findings import Finding, require
from mfbench.data.manifest import Manifest, manifest
from mfbench.data.physics_energies import atomisation_energy
from mfbench.data.reading import read
from mfbench.data.structures import Structures, join
from mfbench.data.subset import pick
from mfbench.errors import DataCorrupt

SHIPPED = ("mini-ani1x", "mini-rmd17-methanol", "mini-md17cc-methanol")
DFT, TZ, CC = "wb97x/6-31g*", "wb97x/def2-tzvpp", "ccsd(t)*/cbs"


@pytest.fixture(scope="module")
def ani() -> Structures:
    return datasets.load("mini-ani1x")


def failed(findings: list[Finding]) -> list[Finding]:
    return [one for one in findings if one.ok is False]


def the(findings: list[Finding], name: str) -> Finding:
    (found,) = (one for one in findings if one.check == name)
    return found


# sound data


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_data_pass(name: str) -> None:
    declared = manifest(name)
    findings = check(declared, datasets.load(name))
    assert not failed(findings)
    with_forces = [one.level for one in declared.labels if (one.n_forces or 0) > 500]
    for level in with_forces:  # and not because nothing was looked at
        assert the(findings, f"energies against forces, {level}").ok
        assert the(findings, f"forces, {level}").ok
        assert the(findings, f"net force of a molecule, {level}").ok
    for level in declared.levels:
        assert the(findings, f"energies, {level}").ok
    assert the(findings, "overlapping atoms").ok


def test_levels_in_different_files_are_compared_by_geometry() -> None:
    joined = datasets.DataRequest(("mini-rmd17-methanol", "mini-md17cc-methanol")).load()
    declared = manifest("mini-rmd17-methanol").model_copy(
        update={
            "labels": (*manifest("mini-rmd17-methanol").labels, *manifest("mini-md17cc-methanol").labels),
            "n_structures": 2200,
        }
    )
    findings = check(declared, joined)
    assert not failed(findings)
    assert "over 1,000 geometries" in the(findings, "gap, pbe/def2-svp to ccsd/cc-pvdz").found
    assert "1,000 in several files" in the(findings, "geometries that recur").found


@pytest.mark.parametrize("molecule", ["ethanol", "malonaldehyde", "aspirin"])
def test_published_rmd17_passes(molecule: str, shared_real: Path) -> None:
    """With the shipped manifest's probes of this molecule."""
    structures = rmd17_split(shared_real, molecule)
    structures = replace(structures, molecules=(molecule,))
    paths = [shared_real / "rmd17" / f"rmd17_{molecule}_{part}_01.npz" for part in ("train", "test")]
    declared = declare("rmd17", paths, 2000, [label("pbe/def2-svp", "energies", "forces", "kcal/mol", 2000)])
    probes = tuple(one for one in manifest("rmd17").probes if one.molecule == molecule and one.level == "pbe/def2-svp")
    findings = check(declared.model_copy(update={"probes": probes}), structures)
    assert not failed(findings)
    assert the(findings, f"mean energy, {molecule}, pbe/def2-svp").ok
    assert the(findings, f"mean absolute force, {molecule}, pbe/def2-svp").ok
    assert the(findings, "energies against forces, pbe/def2-svp").ok


@pytest.mark.parametrize(
    ("molecule", "name", "level"),
    [
        ("ethanol", "ethanol_ccsd_t-train.npz", "ccsd(t)/cc-pvtz"),
        ("malonaldehyde", "malonaldehyde_ccsd_t-train.npz", "ccsd(t)/cc-pvdz"),
        ("aspirin", "aspirin_ccsd-train.npz", "ccsd/cc-pvdz"),
    ],
)
def test_published_md17_cc_passes(molecule: str, name: str, level: str, shared_real: Path) -> None:
    structures = replace(md17_cc(shared_real, (name,), level, 1000), molecules=(molecule,))
    declared = declare("sgdml", [shared_real / "md17_cc" / name], 1000, [label(level, "E", "F", "kcal/mol", 1000)])
    probes = tuple(one for one in manifest("md17-cc").probes if one.molecule == molecule)
    findings = check(declared.model_copy(update={"probes": probes}), structures)
    assert not failed(findings)
    assert the(findings, f"mean energy, {molecule}, {level}").ok


def test_the_published_ani1x_sample_passes(shared_real: Path) -> None:
    """With the shipped manifest: all its levels, keys, units and probes, on 96 conformers of the release."""
    path = shared_real / "ani1x_sample" / "ani1x_50formulas.h5"
    content = manifest("ani1x").model_dump() | {"n_structures": 96, "n_molecules": 50}
    content["files"] = declare("ani1x", [path], 96, [label(DFT, "x", None, "Ha", 96)]).model_dump()["files"]
    for labels in content["labels"]:
        labels["n_energy"] = labels["n_forces"] = None
    declared = Manifest.model_validate(content)
    findings = check(declared, read(declared, [path]))
    assert not failed(findings)
    assert len([one for one in findings if one.check.startswith("has energy") and one.ok]) == 4
    assert len([one for one in findings if one.check.startswith("energies, ") and one.ok]) == 12
    assert the(findings, f"energies against forces, {DFT}").ok is None
    assert "over 73 geometries" in the(findings, f"gap, {DFT} to {TZ}").found  # not the three of MP2, next in order
    few = the(findings, f"gap, npno-ccsd(t)/cc-pvtz to {CC}")
    assert (few.ok, few.found) == (None, "3 of them")


# spoiled data


def energies(change: Callable[[np.ndarray, Structures], None]) -> Callable[[Structures], Structures]:
    def spoil(s: Structures) -> Structures:
        changed = s.energies.copy()
        change(changed, s)
        return replace(s, energies=changed)

    return spoil


def forces(change: Callable[[np.ndarray, Structures], None]) -> Callable[[Structures], Structures]:
    def spoil(s: Structures) -> Structures:
        changed = s.forces.copy()
        change(changed, s)
        return replace(s, forces=changed)

    return spoil


def shuffled_energies(e: np.ndarray, s: Structures) -> None:
    rng = np.random.default_rng(0)
    for molecule in range(len(s.molecules)):
        rows = np.flatnonzero(s.molecule == molecule)
        e[rows, 1] = e[rng.permutation(rows), 1]


def one_wrong_energy(e: np.ndarray, s: Structures) -> None:
    e[700, 1] += 100


def scaled(factor: float) -> Callable[[np.ndarray, Structures], None]:
    def change(f: np.ndarray, s: Structures) -> None:
        f[1] *= factor

    return change


def one_large_force(f: np.ndarray, s: Structures) -> None:
    f[1, s.offsets[700], 2] = 5e3


def a_push(f: np.ndarray, s: Structures) -> None:
    f[1, s.offsets[700] : s.offsets[701]] += 1.5


def swapped_levels(s: Structures) -> Structures:
    """GFN2-xTB and DFT energies change places."""
    return replace(s, energies=s.energies[:, [1, 0, 2, 3, 4]])


def overlap(s: Structures) -> Structures:
    x = s.positions.copy()
    x[s.offsets[700] + 1] = x[s.offsets[700]] + np.float32(0.1)
    return replace(s, positions=x)


def forces_alone(s: Structures) -> Structures:
    mask = s.energy_mask.copy()
    mask[700, 1] = False
    return replace(s, energy_mask=mask)


def no_label(s: Structures) -> Structures:
    energy, force = s.energy_mask.copy(), s.force_mask.copy()
    energy[700], force[700] = False, False
    return replace(s, energy_mask=energy, force_mask=force)


def level_without_labels(s: Structures) -> Structures:
    mask = s.force_mask.copy()
    mask[:, 2] = False
    return replace(s, force_mask=mask)


def twice_with_another_energy(s: Structures) -> Structures:
    twin = s[np.array([700])]
    both = join([s, replace(twin, energies=twin.energies + 0.01)])
    return replace(both, geometry=np.append(np.arange(len(s)), 700))


def turned_forces(f: np.ndarray, s: Structures) -> None:
    atoms = slice(s.offsets[700], s.offsets[701])
    f[1, atoms] = f[1, atoms][:, [1, 2, 0]]


def moved_atom(s: Structures) -> Structures:
    """Far from all bonds, at a level without forces."""
    x = s.positions.copy()
    x[s.offsets[700] + s.n_atoms[700] - 1] += np.float32(4)
    return replace(s, positions=x, force_mask=np.zeros_like(s.force_mask))


def apart(s: Structures) -> Structures:
    x = s.positions.copy()
    x[s.offsets[700]] += np.float32(200)
    return replace(s, positions=x)


def one_energy(e: np.ndarray, s: Structures, level: int) -> None:
    e[700, level] += 0.3 * s.n_atoms[700]


def in_hartree(e: np.ndarray, s: Structures) -> None:
    e[:, 2] /= 27.2114


def in_bohr(s: Structures) -> Structures:
    return replace(s, positions=s.positions / np.float32(0.529177), force_mask=np.zeros_like(s.force_mask))


def exchanged(e: np.ndarray, s: Structures) -> None:
    """Energies of two all-electron levels change places; forces stay."""
    e[:, [1, 4]] = e[:, [4, 1]]


def a_gap(e: np.ndarray, s: Structures) -> None:
    e[700, 2] += 4 * s.n_atoms[700]


SPOILED: dict[str, tuple[Callable[[Structures], Structures], str, bool]] = {
    # what is done: (how, the check that fails, whether structure 700 is named)
    "one wrong energy": (energies(one_wrong_energy), f"energies, {DFT}", True),
    "swapped levels": (swapped_levels, f"energies, {DFT}", False),
    "gradients for forces": (forces(scaled(-1)), f"energies against forces, {DFT}", False),
    "forces in Ha/Bohr": (forces(scaled(0.529)), f"energies against forces, {DFT}", False),
    "forces in eV for kcal": (forces(scaled(23.06)), f"forces, {DFT}", False),
    "energies of other frames": (energies(shuffled_energies), f"energies against forces, {DFT}", False),
    "one large force": (forces(one_large_force), f"largest component of a force, {DFT}", True),
    "a molecule that is pushed": (forces(a_push), f"net force of a molecule, {DFT}", True),
    "overlapping atoms": (overlap, "overlapping atoms", True),
    "forces alone": (forces_alone, f"labels, {DFT}", True),
    "a structure without labels": (no_label, "patterns of labels", True),
    "a level without labels": (level_without_labels, f"forces at {TZ}", False),
    "twice with another energy": (twice_with_another_energy, "labels of geometries that recur in a file", True),
    "forces along other axes": (forces(turned_forces), f"net torque of a molecule, {DFT}", True),
    "an atom away from its bonds": (moved_atom, "energies of distorted bonds", True),
    "parts of a structure apart": (apart, "fragments far apart", True),
    "positions in Bohr": (in_bohr, "bond lengths", False),
    "an energy off its forces": (energies(lambda e, s: one_energy(e, s, 1)), f"outliers, {DFT}", True),
    "an energy off the other level": (energies(lambda e, s: one_energy(e, s, 2)), f"outliers, {DFT} to {TZ}", True),
    "keys exchanged": (energies(exchanged), f"energies against forces, {DFT}", False),
    "another level in Hartree": (energies(in_hartree), f"slope, {DFT} to {TZ}", False),
    "a gap between levels": (energies(a_gap), f"gap, {DFT} to {TZ}", True),
}


@pytest.mark.parametrize("what", SPOILED)
def test_spoiled_data_fail(what: str, ani: Structures) -> None:
    spoil, name, named = SPOILED[what]
    declared = manifest("mini-ani1x").model_copy(update={"n_structures": None})
    found = the(check(declared, spoil(ani)), name)
    assert found.ok is False
    assert (ani.where(700) in found.where) == named
    with pytest.raises(DataCorrupt, match="expected") as caught:
        require([found])
    assert found.expected in str(caught.value)
    assert found.found in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("n_structures", 863, "mini-ani1x, structures"),
        ("n_molecules", 17, "mini-ani1x, molecules"),
    ],
)
def test_counts(field: str, value: int, name: str, ani: Structures) -> None:
    found = the(check(manifest("mini-ani1x").model_copy(update={field: value}), ani), name)
    assert found.ok is False
    assert str(value) in found.expected


@pytest.mark.parametrize(
    ("change", "ok"),
    [
        ({}, True),
        ({"value": -76.3}, False),
        ({"molecule": "XeF2"}, False),
        ({"level": CC, "quantity": "mean absolute force", "unit": "Ha/Angstrom", "value": 1.0}, False),
        ({"quantity": "has energy", "tolerance": 1e-7}, False),
    ],
)
def test_probes(change: dict[str, Any], ok: bool, ani: Structures) -> None:
    water = ani.molecule == ani.molecules.index("H2O")
    mean = float(ani.energies[water, 1].mean()) / 27.211386245988
    probe = {"quantity": "mean energy", "level": DFT, "molecule": "H2O", "value": mean, "tolerance": 1e-6, "unit": "Ha"}
    content = manifest("mini-ani1x").model_dump() | {"probes": [{**probe, "source": "here", **change}]}
    found = check(Manifest.model_validate(content), ani)[-1]
    assert found.ok is ok
    assert "here" in found.expected or not ok


def test_a_probe_of_one_energy(ani: Structures) -> None:
    probe = {
        "quantity": "has energy",
        "level": DFT,
        "value": float(ani.energies[321, 1]),
        "tolerance": 1e-6,
        "unit": "eV",
    }
    content = manifest("mini-ani1x").model_dump() | {"probes": [{**probe, "source": "here"}]}
    assert check(Manifest.model_validate(content), ani)[-1].ok


def own_level(ani: Structures, unit: float) -> tuple[Manifest, Structures]:
    """DFT energies as those of a level of one's own, whose free atoms nobody knows."""
    one = pick(ani, "x", (DFT,), None)
    content = manifest("mini-ani1x").model_dump()
    content["labels"] = [{**content["labels"][1], "level": "mine@45"}]
    return Manifest.model_validate(content), replace(one, levels=("mine@45",), energies=one.energies * unit)


def test_levels_of_ones_own(ani: Structures) -> None:
    declared, structures = own_level(ani, 1.0)
    assert not failed(check(declared, structures))
    declared, structures = own_level(ani, 27.2)  # eV that are taken for Hartree
    names = {one.check for one in failed(check(declared, structures))}
    assert names == {"energies, mine@45", "energies against forces, mine@45"}


def test_hartree_fock_has_atoms_of_its_own(tmp_path: Path) -> None:
    """Its energies lie some 7 eV an oxygen atom above those of a DFT: no reason to refuse them."""
    content = manifest("mini-ani1x").model_dump()
    content["labels"] = [{"level": "hf/cc-pvdz", "energy": {"key": "hf_dz.energy", "unit": "Ha"}}]
    assert len(datasets.load(Manifest.model_validate(content))) == 864
    content["labels"][0]["energy"]["unit"] = "eV"
    with pytest.raises(DataCorrupt, match="would fit: Ha"):
        datasets.load(Manifest.model_validate(content))


# spoiled in part


def in_one(molecule: str, spoil: Callable[[np.ndarray], np.ndarray], what: str) -> Callable[[Structures], Structures]:
    """Energies or forces at one level, spoiled in one molecule of eighteen."""

    def change(values: np.ndarray, s: Structures) -> None:
        rows = np.flatnonzero(s.molecule == s.molecules.index(molecule))
        if what == "energies":
            values[rows, 1] = spoil(values[rows, 1])
        else:
            values[1, s.atoms_of(rows)] = spoil(values[1, s.atoms_of(rows)])

    return (energies if what == "energies" else forces)(change)


@pytest.mark.parametrize("molecule", ["CH4", "H2O", "CO2", "CH3CHO"])
@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        ("energies", lambda e: np.random.default_rng(0).permutation(e)),
        ("forces", lambda f: -f),
        ("forces", lambda f: 0.529 * f),
    ],
    ids=["shuffled", "gradients", "Bohr"],
)
def test_one_spoiled_molecule_is_named(molecule: str, what: str, spoil: Callable, ani: Structures) -> None:
    """Among eighteen, the slope of all of them hardly moves."""
    found = the(check(manifest("mini-ani1x"), in_one(molecule, spoil, what)(ani)), f"energies against forces, {DFT}")
    assert found.ok is False
    assert [line.split(":")[0] for line in found.where] == [molecule]


def test_energies_of_other_rows_at_a_level_without_forces(ani: Structures) -> None:
    bare = replace(ani, force_mask=ani.force_mask & (np.arange(5) != 4))
    name = f"energies together, ccsd/cc-pvdz to {CC}"
    declared = manifest("mini-ani1x")
    assert the(check(declared, bare), name).ok
    rng, changed = np.random.default_rng(0), bare.energies.copy()
    rows = np.flatnonzero(bare.molecule == bare.molecules.index("CH4"))
    changed[rows, 4] = rng.permutation(changed[rows, 4])
    found = the(check(declared, replace(bare, energies=changed)), name)
    assert found.ok is False
    assert [line.split(":")[0] for line in found.where] == ["CH4"]


def test_one_key_for_two_levels(ani: Structures) -> None:
    """A slip in a manifest: forces, or energies, of one level under the name of another."""
    declared = manifest("mini-ani1x")
    changed = ani.forces.copy()
    changed[1] = changed[2]
    found = the(check(declared, replace(ani, forces=changed)), f"forces, {DFT} to {TZ}")
    assert found.failed
    assert "one key" in found.found
    changed = ani.energies.copy()
    changed[:, 4] = changed[:, 3]
    found = the(check(declared, replace(ani, energies=changed)), f"gap, ccsd/cc-pvdz to {CC}")
    assert found.failed
    assert "one key" in found.found


def test_an_unknown_element_spoils_its_own_structure_only(ani: Structures) -> None:
    """0 silicon atoms times an energy that nobody knows is still 0: the others are checked."""
    numbers = ani.numbers.copy()
    numbers[ani.offsets[700]] = 14
    odd = replace(ani, numbers=numbers)
    checks.check_physics(odd)
    found = the(check(manifest("mini-ani1x"), odd), f"energies, {DFT}")
    assert found.ok
    assert found.found.endswith("1 with elements whose free atoms are not known")
    assert np.flatnonzero(np.isnan(atomisation_energy(odd, DFT))).tolist() == [700]
    with pytest.raises(DataCorrupt, match="would fit: Ha"):
        checks.check_physics(replace(odd, energies=odd.energies / 27.2))
    alone = odd[np.array([700])]
    assert the(check(manifest("mini-ani1x"), alone), f"energies, {DFT}").ok is None


def test_copies_are_counted_and_tell_nothing_about_slopes(ani: Structures) -> None:
    declared = manifest("mini-ani1x").model_copy(update={"n_structures": None})
    thrice = replace(join([ani] * 3), geometry=np.tile(np.arange(len(ani)), 3))
    findings = check(declared, thrice)
    assert the(findings, "geometries that recur").found == "864 geometries more than once in a file, 0 in several files"
    assert the(findings, "labels of geometries that recur in a file").ok
    name = f"energies against forces, {DFT}"
    assert the(findings, name) == the(check(declared, ani), name)


def test_too_few_structures_decide_nothing(ani: Structures) -> None:
    findings = check(manifest("mini-ani1x"), ani[np.arange(7)])
    assert the(findings, f"gap, {DFT} to {TZ}").ok is None
    name = f"slope, {DFT} to {TZ}"
    assert "too few" in the(check(manifest("mini-ani1x"), ani[np.arange(8)]), name).found


# whichever way the data come


@pytest.mark.parametrize("atoms", [20, 1000, 1 << 20])
def test_files_in_pieces_of_any_size(
    atoms: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ani: Structures
) -> None:
    declared = manifest("mini-ani1x")
    path = datasets.convert(declared, datasets.raw_files(declared), tmp_path / "x.h5")
    monkeypatch.setattr(store, "_SLAB_ATOMS", atoms)
    told: list[int] = []
    with store.Reader(path) as reader:
        assert check(declared, reader, told.append) == check(declared, ani)
    assert told[-1] == 864
    assert told == sorted(told)


def test_require_names_the_first_and_counts_the_rest() -> None:
    findings = [
        Finding("a", True, "x", "x"),
        Finding("b", False, "1", "2", ("H2O, row 3 of f",)),
        Finding("c", None, "x", "no"),
        Finding("d", False, "3", "4"),
    ]
    with pytest.raises(DataCorrupt, match=r"^b: expected 1, got 2 \(H2O, row 3 of f\); 1 more checks failed$"):
        require(findings)
    require([findings[0], findings[2]])


def test_a_few_odd_structures_of_many_are_let_through(ani: Structures) -> None:
    """Published sets hold some on purpose: one in a thousand may be beyond a bound."""
    many = ani[np.tile(np.arange(len(ani)), 3)]
    stretched = many.energies.copy()
    atomisation = atomisation_energy(many, DFT)
    stretched[:2, 1] += (atomisation[:2] - 0.3) * many.n_atoms[:2]  # 0.3 eV an atom are left
    checks.check_physics(replace(many, energies=stretched))
    stretched[:5, 1] += (atomisation[:5] - 0.3) * many.n_atoms[:5]
    with pytest.raises(DataCorrupt, match="5 structures beyond: most are as usual"):
        checks.check_physics(replace(many, energies=stretched))
    far = many.energies.copy()
    far[0, 1] += 100
    with pytest.raises(DataCorrupt, match="1 structures beyond: most are as usual"):
        checks.check_physics(replace(many, energies=far))
