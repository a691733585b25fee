"""Physical checks, on surfaces whose answers are known: Morse, harmonic, wiggly, and forces that are no gradient."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.data import atomic_masses
from ase.md.verlet import VelocityVerlet

from mfbench.cli.main import main
from mfbench.cli.physics import diagnosis_text
from mfbench.errors import UserError
from mfbench.physics.check import check
from mfbench.physics.diagnosis import Measured, diagnosis
from mfbench.physics.dynamics import drifts, dynamics, velocities, velocity_verlet
from mfbench.physics.frequencies import frequencies, frequencies_of, harmonic, hessian, references
from mfbench.physics.measure import Effort, Number, Targets
from mfbench.physics.scans import has_one_well, roughness, scan, scans
from mfbench.physics.surface import Geometry, Surface, bonds, skeleton
from mfbench.results import schema
from mfbench.results.folder import METRICS_FILE, read_metrics
from mfbench.results.runs import load_runs
from mfbench.results.schema import EXPERIMENT, PHYSICS, conform, errors, physical
from mfbench.show.page import write_html
from mfbench.show.tables import error_table
from mfbench.show.text import text_table
from mfbench.study.experiment import experiment
from mfbench.study.run import run

DEPTH, WIDTH, LENGTH = 4.6, 1.9, 0.96  # eV, 1/Angstrom, Angstrom
STIFF = 2 * DEPTH * WIDTH**2
# O-H: frequency sqrt(k / mu), in 1/cm.
MASS = 1 / (1 / atomic_masses[8] + 1 / atomic_masses[1])
EXACT = np.sqrt(STIFF / MASS) * units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm

Pair = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # distances -> energies and slopes


def surface_of(pair: Pair, twist: float = 0.0, steps: list[int] | None = None) -> Surface:
    """The sum over all pairs of each structure. ``twist`` adds forces that are no gradient."""

    def surface(numbers: Any, positions: Any, offsets: Any) -> tuple[Any, Any]:
        if steps is not None:
            steps.append(len(offsets) - 1)
        energies, forces = np.zeros(len(offsets) - 1), np.zeros_like(positions)
        for s, (a, b) in enumerate(pairwise(offsets)):
            first, second = np.triu_indices(b - a, 1)
            vector = positions[a + second] - positions[a + first]
            distance = np.linalg.norm(vector, axis=1)
            energy, slope = pair(distance)
            energies[s] = energy.sum()
            pull = (slope / distance)[:, None] * vector
            np.add.at(forces, a + first, pull)
            np.add.at(forces, a + second, -pull)
            centred = positions[a:b] - positions[a:b].mean(0)
            forces[a:b] += twist * np.cross([0, 0, 1.0], centred)  # turns and speeds up: has a curl
        return energies, forces

    return surface


def morse(distance: Any) -> tuple[Any, Any]:
    decay = np.exp(-WIDTH * (distance - LENGTH))
    return DEPTH * (1 - decay) ** 2, 2 * DEPTH * WIDTH * (1 - decay) * decay


def spring(distance: Any) -> tuple[Any, Any]:
    return STIFF / 2 * (distance - LENGTH) ** 2, STIFF * (distance - LENGTH)


def wiggly(distance: Any) -> tuple[Any, Any]:
    energy, slope = morse(distance)
    return energy + 0.2 * np.sin(40 * distance), slope + 8 * np.cos(40 * distance)


def diatomic(length: float = LENGTH) -> Geometry:
    return Geometry("OH", np.array([8, 1]), np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3 + length]]))


WATER = Geometry("H2O", np.array([8, 1, 1]), np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0.0]]))
# Three equal atoms at the distances where all pairs are at rest.
TRIANGLE = Geometry("O3", np.array([8, 8, 8]), LENGTH * np.array([[0, 0, 0], [1, 0, 0], [0.5, np.sqrt(0.75), 0]]))
METHANOL = Geometry(
    "CH3OH",
    np.array([6, 8, 1, 1, 1, 1]),
    np.array(
        [
            [-0.047, 0.664, 0.0],
            [-0.047, -0.758, 0.0],
            [-1.092, 0.969, 0.0],
            [0.878, -1.046, 0.0],
            [0.437, 1.071, 0.889],
            [0.437, 1.071, -0.889],
        ]
    ),
)


def aimed(*geometries: Geometry, references: Any = ()) -> Targets:
    return Targets(list(geometries), np.arange(len(geometries), dtype=float), list(references))


def by_quantity(numbers: list[Number]) -> dict[str, Number]:
    return {f"{n.quantity} {n.metric}": n for n in numbers}


# Bonds


def test_bonds_and_skeletons() -> None:
    pairs = {tuple(pair) for pair in bonds(METHANOL.numbers, METHANOL.positions).tolist()}
    assert pairs == {(0, 1), (0, 2), (0, 4), (0, 5), (1, 3)}
    order = np.array([3, 1, 5, 0, 2, 4])
    same = skeleton(METHANOL.numbers[order], METHANOL.positions[order])
    assert same == skeleton(METHANOL.numbers, METHANOL.positions)
    assert same != skeleton(WATER.numbers, WATER.positions)


# Dynamics


def test_velocities_have_no_net_motion_and_the_right_temperature() -> None:
    rng = np.random.default_rng(0)
    mass = atomic_masses[METHANOL.numbers][:, None]
    kinetic = []
    for _ in range(400):
        v = velocities(METHANOL, 300, rng)
        centred = METHANOL.positions - (mass * METHANOL.positions).sum(0) / mass.sum()
        np.testing.assert_allclose((mass * v).sum(0), 0, atol=1e-10)
        np.testing.assert_allclose(np.cross(centred, mass * v).sum(0), 0, atol=1e-10)
        kinetic.append(0.5 * (mass * v**2).sum())
    freedom = 3 * 6 - 6
    # The mean of 400 has a standard error of sqrt(2 / 12 / 400) = 2 %.
    assert 2 * np.mean(kinetic) / freedom / units.kB == pytest.approx(300, rel=0.08)


class AsASE(Calculator):
    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, surface: Surface) -> None:
        super().__init__()
        self.surface = surface

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = None) -> None:
        super().calculate(atoms, properties, system_changes)
        energy, forces = self.surface(atoms.numbers, atoms.positions, np.array([0, len(atoms)]))
        self.results = {"energy": energy[0], "forces": forces}


def test_batched_velocity_verlet_is_ase_s() -> None:
    surface, geometries = surface_of(spring), [TRIANGLE, diatomic(1.0), TRIANGLE]
    rng = np.random.default_rng(1)
    start = [velocities(g, 300, rng) for g in geometries]
    found = velocity_verlet(surface, geometries, start, 50)
    at = 0
    for k, (geometry, velocity) in enumerate(zip(geometries, start)):
        atoms = Atoms(numbers=geometry.numbers, positions=geometry.positions, calculator=AsASE(surface))
        atoms.set_velocities(velocity)
        VelocityVerlet(atoms, timestep=0.5 * units.fs).run(50)
        np.testing.assert_allclose(found.positions[at : at + len(atoms)], atoms.positions, atol=1e-10)
        assert found.energies[-1, k] == pytest.approx(atoms.get_total_energy(), abs=1e-10)
        at += len(atoms)
    assert (found.broken == -1).all()


def test_energy_is_conserved_by_a_gradient_and_not_by_other_forces() -> None:
    rng = np.random.default_rng(2)
    geometries = [TRIANGLE, TRIANGLE]
    start = [velocities(g, 300, rng) for g in geometries]
    sizes = np.array([3, 3])
    kept = drifts(velocity_verlet(surface_of(morse), geometries, start, 1000), sizes)
    lost = drifts(velocity_verlet(surface_of(morse, twist=0.05), geometries, start, 1000), sizes)
    assert (np.abs(kept) < 0.5).all()
    assert (np.abs(lost) > 20).all()


def test_a_broken_bond_ends_its_trajectory_alone() -> None:
    """The second molecule flies apart with more than its bond energy; it is no longer computed after that."""

    def weak(distance: Any) -> tuple[Any, Any]:
        energy, slope = morse(distance)
        return 0.3 / DEPTH * energy, 0.3 / DEPTH * slope

    calls: list[int] = []
    apart = np.array([[0, 0, 0], [0, 0, np.sqrt(2 * 0.4 / atomic_masses[1])]])
    start = [np.zeros((2, 3)), apart]
    found = velocity_verlet(surface_of(weak, steps=calls), [diatomic(), diatomic()], start, 60)
    assert found.broken[0] == -1
    assert 5 < found.broken[1] < 60
    assert found.reasons == ("", "a bond broke")
    assert np.isfinite(found.energies[:, 0]).all()
    assert np.isnan(found.energies[found.broken[1] :, 1]).all()
    assert np.isfinite(found.energies[: found.broken[1], 1]).all()
    assert calls == [2] * (found.broken[1] + 1) + [1] * (60 - found.broken[1])
    assert np.isnan(drifts(found, np.array([2, 2]))[1])  # under 50 fs


def test_energies_that_are_not_finite_end_a_trajectory() -> None:
    def hole(distance: Any) -> tuple[Any, Any]:
        energy, slope = morse(distance)
        return np.where(distance > 1.05, np.nan, energy), slope

    found = velocity_verlet(surface_of(hole), [diatomic(0.85)], [np.zeros((2, 3))], 40)
    assert found.broken[0] > 0
    assert found.reasons == ("energy not finite",)


def test_dynamics_rows() -> None:
    effort = Effort(trajectories=3, picoseconds=0.06)
    numbers = by_quantity(dynamics(surface_of(spring), aimed(TRIANGLE), effort))
    assert set(numbers) == {f"nve_{what}_{t}K value" for what in ("drift", "stable") for t in (300, 500)}
    assert numbers["nve_stable_300K value"][2:] == (1.0, 3, "")
    assert numbers["nve_drift_500K value"].n == 3
    again = by_quantity(dynamics(surface_of(spring), aimed(TRIANGLE), effort))
    assert again == numbers
    none = surface_of(lambda d: (np.nan * d, np.nan * d))
    broken = by_quantity(dynamics(none, aimed(WATER), effort))
    assert broken["nve_stable_300K value"].value == 0
    assert "energy not finite" in broken["nve_stable_300K value"].remark
    assert broken["nve_drift_300K value"].n == 0
    assert broken["nve_drift_300K value"].remark.startswith("no trajectory of 50 fs")


# Frequencies


@pytest.mark.parametrize("pair", [spring, morse])
def test_the_frequency_of_a_diatomic(pair: Pair) -> None:
    found = frequencies_of(surface_of(pair), diatomic(1.03))
    assert len(found) == 1
    assert found == pytest.approx([EXACT], rel=2e-4)


def test_hessian_is_predicted_in_one_batch_and_free_of_net_motion() -> None:
    calls: list[int] = []
    surface = surface_of(spring, steps=calls)
    second = hessian(surface, TRIANGLE.numbers, TRIANGLE.positions)
    assert calls == [18]
    found, modes = harmonic(second, TRIANGLE.numbers, TRIANGLE.positions)
    # Equal masses and springs on a triangle: omega^2 = 3 k / m once, 3 k / 2 m twice.
    one = EXACT * np.sqrt(MASS / atomic_masses[8])
    assert found == pytest.approx(one * np.sqrt([1.5, 1.5, 3]), rel=1e-3)
    assert modes.shape == (3, 3, 3)


def test_frequency_rows() -> None:
    reference = (diatomic(), np.array([EXACT - 30]))
    numbers = by_quantity(frequencies(surface_of(morse), aimed(diatomic(), references=[reference]), Effort()))
    assert numbers["frequency mae"].value == pytest.approx(30, abs=1)
    assert numbers["frequency mae"].n == 1
    foreign = frequencies(surface_of(morse), aimed(WATER, references=[reference]), Effort())
    assert [(n.n, n.remark) for n in foreign] == [(0, "no reference frequencies for these molecules at this level")] * 2
    repelling = surface_of(lambda d: (1 / d, -1 / d**2))
    (mae, _) = frequencies(repelling, aimed(diatomic(), references=[reference]), Effort())
    assert mae.n == 0
    assert mae.remark == "OH: the optimisation broke or made a bond"
    nothing = surface_of(lambda d: (np.nan * d, np.nan * d))
    (mae, _) = frequencies(nothing, aimed(diatomic(), references=[reference]), Effort())
    assert mae.remark == "OH: the optimisation diverged"


def test_shipped_references() -> None:
    found = references("pbe/def2-svp")
    if not found:
        pytest.skip("needs the shipped reference frequencies")
    geometry, values = found[0]
    assert geometry.molecule == "CH3OH"
    assert skeleton(geometry.numbers, geometry.positions) == skeleton(METHANOL.numbers, METHANOL.positions)
    assert len(values) == 3 * 6 - 6
    assert 3600 < values[-1] < 4000  # the O-H stretch


# Scans


def test_scans_move_one_side_rigidly() -> None:
    found = scans(METHANOL)
    assert [s.label for s in found if s.kind == "bond"] == ["C0-O1", "C0-H2", "O1-H3"]
    (turn,) = (s for s in found if s.kind == "torsion")
    assert turn.label == "C0-O1"
    assert len(turn.coordinate) == 36
    for one in found:
        moved = np.linalg.norm(one.positions[len(one.coordinate) // 2] - one.positions[0], axis=1) > 1e-9
        for p in (0, len(one.coordinate) // 2):
            parts = ([k for k in range(6) if moved[k]], [k for k in range(6) if not moved[k]])
            for part in parts:  # distances within a side stay
                a, b = np.triu_indices(len(part), 1)
                before, after = (x[part][a] - x[part][b] for x in (METHANOL.positions, one.positions[p]))
                np.testing.assert_allclose(np.linalg.norm(after, axis=1), np.linalg.norm(before, axis=1), atol=1e-9)
        if one.kind == "bond":  # the tangent is the change of positions by the coordinate
            slope = (one.positions[1] - one.positions[0]) / (one.coordinate[1] - one.coordinate[0])
            np.testing.assert_allclose(one.tangent[0], slope, atol=1e-9)
        else:
            half = np.radians(one.coordinate[1]) / 2
            chord = np.linalg.norm(one.positions[1] - one.positions[0], axis=1)
            arc = np.linalg.norm(one.tangent[0], axis=1)
            np.testing.assert_allclose(chord, 2 * np.sin(half) * arc, atol=1e-6)


def test_a_linear_molecule_and_a_ring_have_no_turns() -> None:
    hcn = Geometry("HCN", np.array([1, 6, 7]), np.array([[0, 0, -1.07], [0, 0, 0], [0, 0, 1.15]]))
    assert [s.kind for s in scans(hcn)] == ["bond", "bond"]
    corners = np.radians(np.arange(3) * 120)
    ring = Geometry("C3", np.full(3, 6), 0.87 * np.stack([np.cos(corners), np.sin(corners), 0 * corners], 1))
    assert len(bonds(ring.numbers, ring.positions)) == 3
    assert scans(ring) == []


@pytest.mark.parametrize(("pair", "expected"), [(morse, 1.0), (wiggly, 0.0)])
def test_one_well_of_a_morse_curve_and_more_of_a_wiggly_one(pair: Pair, expected: float) -> None:
    numbers, curves = scan(surface_of(pair), aimed(diatomic(1.0)), Effort())
    found = by_quantity(numbers)
    assert found["bond_one_well value"][2:4] == (expected, 1)
    assert (found["bond_one_well value"].remark == "") == bool(expected)
    assert found["bond_inconsistency value"].value < 0.05  # meV: both are gradients
    assert found["torsion_roughness value"].n == 0
    assert list(curves) == ["molecule", "kind", "atoms", "coordinate", "energy", "force"]
    assert set(curves["atoms"]) == {"O0-H1"}
    assert curves["coordinate"].iloc[[0, -1]].tolist() == pytest.approx([0.8, 1.4])


def test_wells_and_roughness_of_curves() -> None:
    x = np.linspace(-1, 1, 101)
    assert has_one_well(x**2)
    assert not has_one_well(x)  # falls throughout
    assert not has_one_well((x**2 - 0.25) ** 2)
    assert not has_one_well(np.where(x < 0.8, x**2, 1.28 - x**2))  # falls again at the end
    assert has_one_well(x**2 + 1e-5 * np.sin(100 * x))  # noise
    turn = np.radians(np.arange(0, 360, 10))
    assert roughness(np.cos(3 * turn) + 5) == pytest.approx(0, abs=1e-12)
    assert roughness(np.cos(3 * turn) + 0.1 * np.cos(9 * turn)) == pytest.approx(0.1 / np.sqrt(2))


def test_forces_that_are_not_the_slope_show() -> None:
    def false(distance: Any) -> tuple[Any, Any]:
        energy, slope = morse(distance)
        return energy, slope + 0.1

    numbers, _ = scan(surface_of(false), aimed(diatomic(1.0)), Effort())
    # 0.1 eV/Angstrom over 0.6 Angstrom.
    assert by_quantity(numbers)["bond_inconsistency value"].value == pytest.approx(60, abs=0.1)


# Diagnosis


def test_diagnosis() -> None:
    good = {"nve_stable_300K": Measured(1.0), "nve_drift_300K": Measured(0.1), "bond_one_well": Measured(1.0)}
    sound = diagnosis(0.99, 0.98, good)
    assert (sound.verdict, sound.faults) == ("nothing hidden", {})
    assert diagnosis_text(sound) == (
        "Nothing hidden: energies explain 99 % of the reference's, forces 98 %; all checks passed."
    )
    hidden = diagnosis(0.95, 0.3, good | {"nve_stable_300K": Measured(0.2)})
    assert hidden.verdict == "hidden"
    assert hidden.faults == {"force": Measured(0.3), "nve_stable_300K": Measured(0.2)}
    assert diagnosis_text(hidden) == (
        "A fair energy error hides a bad surface: energies explain 95 % of the reference's, but forces explain 30 % of "
        "the reference's, 80 % of the trajectories at 300 K do not last."
    )
    bad = good | {"nve_drift_300K": Measured(2.0), "frequency": Measured(150.0), "bond_one_well": Measured(0.5)}
    assert diagnosis_text(diagnosis(0.5, 0.95, bad)) == (
        "Poor throughout: energies explain 50 % of the reference's, energy drifts by 2 meV/atom/ps at 300 K, "
        "frequencies are off by 150 1/cm, 50 % of the bond scans have no single well."
    )
    assert diagnosis(0.5, 0.3, good).verdict == "poor throughout"
    assert diagnosis(0.5, 0.95, good).verdict == "poor energies"
    failed = diagnosis_text(diagnosis(0.95, np.nan, good | {"frequency": Measured(np.nan, "OH: diverged")}))
    assert "no minimum (OH: diverged)" in failed
    assert "no reference forces" in failed
    assert not diagnosis(0.95, 0.95, good | {"frequency": Measured(np.nan, "no reference frequencies")}).faults


def test_effort_is_checked() -> None:
    with pytest.raises(UserError, match="trajectories: expected at least 1, got 0"):
        Effort(trajectories=0)
    with pytest.raises(UserError, match="picoseconds"):
        Effort(picoseconds=float("nan"))


# Run folders


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    threads = torch.get_num_threads()
    settings = experiment("rmd17-cc", "MF", optimisation={"steps": 6, "validations": 2}, threads=1)
    folder = run(settings, tmp_path_factory.mktemp("runs"))
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "runs" / finished.name)


SHORT = Effort(trajectories=1, picoseconds=0.01, molecules=1)


def test_rows_join_the_results_table(folder: Path) -> None:
    before = read_metrics(folder / METRICS_FILE)
    found = check(folder, lambda level: surface_of(morse), effort=SHORT)
    assert set(found["quantity"]) == set(PHYSICS)
    pd.testing.assert_frame_equal(conform(found), found)
    for column in (*EXPERIMENT, "run", "device"):
        assert found[column].nunique() == 1
        assert found[column].iloc[0] == before[column].iloc[0]
    assert set(found["part"]) == {"test"}
    assert set(found["role"]) == {"low", "high"}  # the low level has reference frequencies
    assert not found[["level", "part", "quantity", "metric"]].duplicated().any()
    table = load_runs(folder.parent)
    assert len(table) == len(before) + len(found)
    pd.testing.assert_frame_equal(errors(table).reset_index(drop=True), before)
    assert len(physical(table)) == len(found)
    curves = pd.read_parquet(folder / "extra" / "scans.parquet")
    assert {"molecule", "kind", "atoms", "coordinate", "energy"} <= set(curves)
    assert set(curves["kind"]) == {"bond", "torsion"}
    shown = schema.shown(table)
    assert shown["unit"].notna().all()


def test_reports_show_the_checks_and_count_no_errors_from_them(folder: Path, tmp_path: Path) -> None:
    plain = text_table(load_runs(folder.parent))
    errors = error_table(load_runs(folder.parent), "rmd17-cc")
    assert "Physical checks" not in plain
    check(folder, lambda level: surface_of(morse), effort=SHORT)
    table = load_runs(folder.parent)
    pd.testing.assert_frame_equal(error_table(table, "rmd17-cc"), errors)
    text = text_table(table)
    assert "Physical checks" in text
    assert "Bond scans with one well" in text
    write_html(table, tmp_path / "page.html", {})
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "Physical checks" in page
    assert "Stable trajectories at 300 K" in page


def test_what_is_finished_is_kept_and_not_done_again(folder: Path) -> None:
    def stopped(doing: str, done: int, total: int | None) -> None:
        if doing == "dynamics":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(folder, lambda level: surface_of(morse), (), SHORT, lambda label: nullcontext(stopped))
    assert "bond_one_well" in set(load_runs(folder.parent)["quantity"])
    told: list[str] = []
    check(
        folder,
        lambda level: surface_of(morse),
        (),
        SHORT,
        lambda label: nullcontext(lambda doing, done, total: told.append(doing)),
    )
    assert set(told) == {"dynamics"}
    told.clear()
    longer = Effort(trajectories=2, picoseconds=0.01, molecules=1)
    again = check(
        folder,
        lambda level: surface_of(morse),
        (),
        longer,
        lambda label: nullcontext(lambda doing, done, total: told.append(doing)),
    )
    assert set(told) == {"dynamics"}
    assert again.set_index("quantity").loc["nve_stable_300K", "n"] == 2
    assert not list((folder / "extra").glob(".*"))


def test_unknown_levels_molecules_and_folders(folder: Path, tmp_path: Path) -> None:
    surfaces = lambda level: surface_of(morse)  # noqa: E731
    with pytest.raises(UserError, match="unknown level of this run 'b3lyp'"):
        check(folder, surfaces, ["b3lyp"], SHORT)
    with pytest.raises(UserError, match="unknown molecule of this run 'C6H6': expected one of CH4O"):
        check(folder, surfaces, (), Effort(only=("C6H6",)))
    with pytest.raises(UserError, match="expected the folder of a finished run"):
        check(tmp_path, surfaces)


def test_command(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parents[1])
    command = ["check", folder.name, "--quick", "--device", "cpu", "--runs", "runs"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "drift 300 K" in out
    assert f"{folder.name}, ccsd/cc-pvdz (quick check): " in out
    assert (folder / "extra" / "physics.parquet").is_file()
    rows = physical(load_runs(Path("runs")))
    assert rows["remark"].str.contains("quick check").all()
    assert (rows.loc[rows["quantity"] == "bond_inconsistency", "value"] < 1).all()
    assert main([*command, "--molecule", "CH4O", "--level", "pbe/def2-svp"]) == 0
    assert "pbe/def2-svp (quick check)" in capsys.readouterr().out
    assert main(["check", "nothing", "--device", "cpu"]) == 2
    assert "nothing" in capsys.readouterr().err
