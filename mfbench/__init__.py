"""mfbench: a benchmark suite for multi-fidelity learning of interatomic potentials.

One potential learns from many low-level energies and forces and few high-level energies (arm MF), and is compared, at
the high level, with potentials that learn from high-level labels alone (SF-E, SF-EF). Small data ship, so this works
at once, in about two minutes:

    import mfbench

    experiments = mfbench.comparison("rmd17-cc", ["SF-E", "MF", "SF-EF"], sizes=[50])
    table = mfbench.run_all(experiments, "runs")  # trains what is not finished; one row for each error
    print(mfbench.tables.error_table(table, "rmd17-cc"))
    mfbench.plots.case_panel(table, "rmd17-cc")  # in a notebook, after holoviews.extension("bokeh")
    model = mfbench.load(mfbench.run(experiments[1], "runs"))  # energies, forces, and ASE calculators

What there is    ``cases``, ``levels`` and ``datasets`` give tables; ``case`` and ``level`` one thing by its name;
                 ``load_data`` a dataset's structures; ``reference_table`` the results that ship.
Experiments      ``experiment`` makes one (case x arm x network x sizes x seeds), ``comparison`` a grid of them;
                 ``forecast`` says what one will take, ``prepare`` gives its data as it is split.
Runs             ``run`` makes one's run folder, ``run_all`` those of many, in several processes if asked;
                 ``load_runs`` gives the results table of a folder of runs, ``summary`` its numbers over seeds with
                 intervals, ``gap_closed`` how good an arm is, seed by seed; ``Library.of_folder`` gives all that a
                 folder holds, unfinished and broken runs, histories and predictions included.
Models           ``load`` rebuilds what a run trained; ``predict_file`` predicts a file of structures.
Other codes      ``export`` writes what an arm may learn from, ``evaluate`` judges another code's predictions.
Your own         ``register`` makes an arm, network, case, dataset or metric known; ``testing`` checks that it fits.
To look at       the modules ``plots``, ``tables`` and ``html``; ``units`` for conversions; ``dashboard`` gives a page.
To take away     the modules ``figures`` (PDF, SVG, PNG) and ``sheets`` (CSV, LaTeX, Markdown).

A folder is a ``str`` or a ``Path``. Bars show in terminals and notebooks (``progress=False``: none), and work goes to
a GPU where there is one (``device="cpu"``: not). Inside are eV, Angstrom and eV/Angstrom. What is wrong with what you
asked for is a ``UserError`` that says what to do.

``import mfbench`` imports nothing else: each name is fetched when it is first used, and showing results never loads
torch. No name offered here is a module of another kind elsewhere in the package (the levels are in ``mfbench.theory``,
so that ``mfbench.levels`` is one thing, whatever was imported before).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mfbench.version import __version__

if TYPE_CHECKING:
    from mfbench import testing as testing
    from mfbench import units as units
    from mfbench.data.cases import Case as Case
    from mfbench.data.cases import CaseData as CaseData
    from mfbench.data.cases import case as case
    from mfbench.data.datasets import DataMissing as DataMissing
    from mfbench.data.labels import Labels as Labels
    from mfbench.data.manifest import Dataset as Dataset
    from mfbench.data.manifest import Manifest as Manifest
    from mfbench.data.overview import cases as cases
    from mfbench.data.overview import datasets as datasets
    from mfbench.data.overview import levels as levels
    from mfbench.data.overview import load_data as load_data
    from mfbench.data.structures import Structures as Structures
    from mfbench.data.subset import Subset as Subset
    from mfbench.errors import DataCorrupt as DataCorrupt
    from mfbench.errors import LabelsMissing as LabelsMissing
    from mfbench.errors import UserError as UserError
    from mfbench.learning.optimisation import Optimisation as Optimisation
    from mfbench.learning.problem import Arm as Arm
    from mfbench.models.backbones.kinds import BackboneKind as BackboneKind
    from mfbench.results.library import Library as Library
    from mfbench.results.metrics import Metric as Metric
    from mfbench.results.reference import reference_table as reference_table
    from mfbench.results.rows import gap_closed as gap_closed
    from mfbench.results.runs import load_runs as load_runs
    from mfbench.results.summary import summary as summary
    from mfbench.show import figures as figures
    from mfbench.show import html as html
    from mfbench.show import plots as plots
    from mfbench.show import sheets as sheets
    from mfbench.show import tables as tables
    from mfbench.show.notebooks import dashboard as dashboard
    from mfbench.study.calculator import Prediction as Prediction
    from mfbench.study.calculator import Predictor as Predictor
    from mfbench.study.experiment import Experiment as Experiment
    from mfbench.study.experiment import experiment as experiment
    from mfbench.study.experiment import register as register
    from mfbench.study.export import export as export
    from mfbench.study.external import Cost as Cost
    from mfbench.study.external import evaluate as evaluate
    from mfbench.study.grid import Outcome as Outcome
    from mfbench.study.grid import comparison as comparison
    from mfbench.study.grid import run_all as run_all
    from mfbench.study.load import load as load
    from mfbench.study.predict_file import predict_file as predict_file
    from mfbench.study.prepare import prepare as prepare
    from mfbench.study.run import Forecast as Forecast
    from mfbench.study.run import forecast as forecast
    from mfbench.study.run import run as run
    from mfbench.study.trained import Committee as Committee
    from mfbench.study.trained import Model as Model
    from mfbench.theory import LevelOfTheory as LevelOfTheory
    from mfbench.theory import level as level

# Where each name is, and which modules are offered whole. The imports above are the same, for type
# checkers and editors (tests/test_door.py compares the two).
_OFFERED = {
    "Optimisation": "mfbench.learning.optimisation",
    "Model": "mfbench.study.trained",
    "Labels": "mfbench.data.labels",
    "Committee": "mfbench.study.trained",
    "Arm": "mfbench.learning.problem",
    "BackboneKind": "mfbench.models.backbones.kinds",
    "Case": "mfbench.data.cases",
    "CaseData": "mfbench.data.cases",
    "Cost": "mfbench.study.external",
    "DataCorrupt": "mfbench.errors",
    "DataMissing": "mfbench.data.datasets",
    "Dataset": "mfbench.data.manifest",
    "Experiment": "mfbench.study.experiment",
    "Forecast": "mfbench.study.run",
    "LabelsMissing": "mfbench.errors",
    "LevelOfTheory": "mfbench.theory",
    "Library": "mfbench.results.library",
    "Manifest": "mfbench.data.manifest",
    "Metric": "mfbench.results.metrics",
    "Outcome": "mfbench.study.grid",
    "Prediction": "mfbench.study.calculator",
    "Predictor": "mfbench.study.calculator",
    "Structures": "mfbench.data.structures",
    "Subset": "mfbench.data.subset",
    "UserError": "mfbench.errors",
    "case": "mfbench.data.cases",
    "cases": "mfbench.data.overview",
    "comparison": "mfbench.study.grid",
    "dashboard": "mfbench.show.notebooks",
    "datasets": "mfbench.data.overview",
    "evaluate": "mfbench.study.external",
    "experiment": "mfbench.study.experiment",
    "export": "mfbench.study.export",
    "forecast": "mfbench.study.run",
    "gap_closed": "mfbench.results.rows",
    "summary": "mfbench.results.summary",
    "level": "mfbench.theory",
    "levels": "mfbench.data.overview",
    "load": "mfbench.study.load",
    "load_data": "mfbench.data.overview",
    "load_runs": "mfbench.results.runs",
    "predict_file": "mfbench.study.predict_file",
    "prepare": "mfbench.study.prepare",
    "reference_table": "mfbench.results.reference",
    "register": "mfbench.study.experiment",
    "run": "mfbench.study.run",
    "run_all": "mfbench.study.grid",
}
_MODULES = {
    "figures": "mfbench.show.figures",
    "html": "mfbench.show.html",
    "plots": "mfbench.show.plots",
    "sheets": "mfbench.show.sheets",
    "tables": "mfbench.show.tables",
    "testing": "mfbench.testing",
    "units": "mfbench.units",
}

__all__ = ["__version__", *_OFFERED, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        found: Any = import_module(_MODULES[name])
    elif name in _OFFERED:
        found = getattr(import_module(_OFFERED[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found  # asked for once
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
