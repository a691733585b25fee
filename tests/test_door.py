"""The public door: ``import mfbench`` offers all that a notebook needs, lazily, and always the same things."""

import ast
import inspect
import itertools
import json
import subprocess
import sys
import types
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import ROOT

import mfbench
from mfbench import bars

PROMISED = {
    *("cases", "case", "levels", "datasets", "load_data", "experiment", "run", "run_all", "load_runs", "load"),
    *("register", "plots", "tables", "Experiment", "Case", "Dataset", "Manifest", "Metric", "Arm", "BackboneKind"),
    *("Structures", "Prediction", "Predictor", "UserError"),
}


def in_a_new_process(code: str) -> Any:
    """What the code prints last, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_everything_offered_is_there() -> None:
    assert set(mfbench.__all__) >= PROMISED
    for name in mfbench.__all__:
        assert getattr(mfbench, name) is not None
        assert name in dir(mfbench)
    assert mfbench.plots.__name__ == "mfbench.show.plots"
    assert callable(mfbench.levels)
    with pytest.raises(AttributeError, match="no attribute 'leves'"):
        mfbench.leves  # type: ignore[attr-defined]  # noqa: B018


def test_type_checkers_see_the_same() -> None:
    """The imports for type checkers, and the table that the names are fetched by, are one list."""
    tree = ast.parse(inspect.getsource(mfbench))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.name == alias.asname  # the form that exports a name again
            seen[alias.name] = getattr(import_module(str(node.module)), alias.name)
    assert sorted(seen) == sorted(set(mfbench.__all__) - {"__version__"})
    for name, thing in seen.items():
        assert getattr(mfbench, name) is thing


def test_importing_it_imports_nothing_heavy() -> None:
    """Nor does asking what is offered; and what shows results never loads torch."""
    code = (
        "import json, sys, mfbench; dir(mfbench);"
        "light = [name for name in ('numpy', 'pandas', 'torch') if name in sys.modules];"
        "mfbench.plots, mfbench.tables, mfbench.html, mfbench.load_runs;"
        "mfbench.cases, mfbench.levels, mfbench.datasets;"
        "print(json.dumps([light, 'torch' in sys.modules]))"
    )
    assert in_a_new_process(code) == [[], False]


def test_importing_it_is_quick() -> None:
    code = "import json, time; t = time.perf_counter(); import mfbench; print(json.dumps(time.perf_counter() - t))"
    assert min(in_a_new_process(code) for _ in range(3)) < 0.3


def test_an_attribute_is_one_thing_whatever_was_imported_before() -> None:
    """No name offered is bound to a submodule of another kind when that is imported."""
    submodules = {path.stem for path in (ROOT / "mfbench").iterdir() if path.suffix == ".py" or path.is_dir()}
    for name in submodules & set(mfbench.__all__):
        assert getattr(mfbench, name) is import_module(f"mfbench.{name}")
    kinds = "{name: [type(x).__name__, x.__name__] for name in mfbench.__all__[1:] for x in [getattr(mfbench, name)]}"
    here = eval(kinds, {"mfbench": mfbench})  # asked for before or after other modules were imported, as it came
    code = (
        "import importlib, json, pkgutil, mfbench;"
        "names = [one.name for one in pkgutil.walk_packages(mfbench.__path__, 'mfbench.')];"
        "[importlib.import_module(name) for name in names if name != 'mfbench.__main__'];"
        f"print(json.dumps({kinds}))"
    )
    assert in_a_new_process(code) == here


def test_tables_of_what_there_is() -> None:
    cases = mfbench.cases()
    assert {"ani1x-tz", "ani1ccx", "rmd17-cc"} <= set(cases["case"])
    mini = cases[(cases["case"] == "rmd17-cc") & (cases["data"] == "mini")].iloc[0]
    assert (mini["low"], mini["high"], mini["ships"]) == ("pbe/def2-svp", "ccsd/cc-pvdz", True)
    assert mfbench.case("rmd17-cc").title == mini["title"]
    levels = mfbench.levels()
    assert levels["rank"].is_monotonic_increasing
    assert levels.loc["ccsd/cc-pvdz", "label"] == mfbench.level("ccsd/cc-pvdz").label
    cost = levels["with forces, core-seconds"]
    assert cost["ccsd/cc-pvdz"] > cost["gfn2-xtb"] > 0
    assert pd.isna(levels.loc["pbe+vdw-ts", "energy, core-seconds"])  # never measured here
    datasets = mfbench.datasets()
    assert datasets.loc["mini-ani1x", "state"] == "ships"
    assert datasets.loc["mini-ani1x", "structures"] == len(mfbench.load_data("mini-ani1x", progress=False))


def test_load_data_takes_levels_and_structures_that_are_asked_for() -> None:
    chosen = mfbench.load_data("mini-ani1x", ["wb97x/6-31g*"], mfbench.Subset(max_atoms=5))
    assert chosen.levels == ("wb97x/6-31g*",)
    assert chosen.n_atoms.max() == 5
    with pytest.raises(mfbench.UserError, match="unknown level"):
        mfbench.load_data("mini-ani1x", ["wb97x/6-31g"])


def test_folders_are_str_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = mfbench.experiment("rmd17-cc", "MF", optimisation={"steps": 2}, threads=1)
    folder = mfbench.run(short, "runs", progress=False)
    assert folder == Path("runs") / short.name
    table = mfbench.load_runs("runs")
    for given in (Path("runs"), ["runs"], [Path("runs")]):
        pd.testing.assert_frame_equal(mfbench.load_runs(given), table)
    pd.testing.assert_frame_equal(mfbench.run_all([short], "runs", progress=False), table)
    assert mfbench.load(str(folder)).levels == mfbench.load(folder).levels
    assert [path.name for path in mfbench.export(short, "test", "test.extxyz")] == ["test.extxyz", "test.extxyz.json"]
    done = mfbench.predict_file(mfbench.load(folder), "test.extxyz", "predicted.extxyz", "ccsd/cc-pvdz")
    assert done.structures > 100
    keys = {"ccsd/cc-pvdz": "mfbench_energy"}
    forces = {"ccsd/cc-pvdz": "mfbench_forces"}
    judged = mfbench.evaluate(short, "own", "predicted.extxyz", "runs", energy_keys=keys, forces_keys=forces)
    own = mfbench.load_runs("runs").set_index("run").loc[judged.name]
    assert set(own["arm"]) == {"own (labels of MF)"}


def test_devices_are_found_where_none_is_named() -> None:
    """Each function that takes a device takes ``auto`` by default."""
    for function in (mfbench.run, mfbench.run_all, mfbench.load, mfbench.forecast):
        assert inspect.signature(function).parameters["device"].default == "auto"


def test_forecast_is_a_record() -> None:
    short = mfbench.experiment("rmd17-cc", "MF", n_high=50, optimisation={"steps": 5}, threads=1)
    found, prepared = mfbench.forecast(short), mfbench.prepare(short)
    assert (found.n_high, found.steps) == (40, 5)
    assert found.n_low == len(prepared.selection.low.train)
    assert found.n_judged == len(prepared.split.test)
    assert 0 < found.seconds < 600


class _Terminal(types.SimpleNamespace):
    """A stderr that says what it is."""

    def isatty(self) -> bool:
        return bool(self.terminal)


@pytest.mark.parametrize(("terminal", "notebook"), list(itertools.product((False, True), repeat=2)))
def test_bars_are_for_terminals_and_notebooks(terminal: bool, notebook: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Terminal(terminal=terminal))
    shell = types.SimpleNamespace(config={"IPKernelApp": {}} if notebook else {})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert bars.visible() is (terminal or notebook)


def test_help_is_a_page_with_an_example_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = str(mfbench.__doc__)
    assert 20 <= len(text.splitlines()) <= 45
    example = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    ") and line[4] != " ")
    assert "run_all" in example
    monkeypatch.chdir(tmp_path)
    few = example.replace("sizes=[50]", 'sizes=[50], optimisation={"steps": 2}')
    assert few != example
    found: dict[str, Any] = {}
    exec(few, found)
    assert set(found["table"]["arm"]) == {"SF-E", "MF", "SF-EF"}
    assert found["model"].arm == "MF"
