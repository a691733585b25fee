"""The command line: ``mfbench cases | run | predict | export | evaluate | check | data | demo | report | serve``.

Each command imports what it needs when it runs, so that ``--help`` answers at once and showing results never
loads torch.
"""

import argparse
import io
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from mfbench.cli.options import _check_choice, _choice, _given, add_data_commands
from mfbench.errors import UserError
from mfbench.version import __version__

_ARMS = "SF-E, MF, SF-EF, SF-low, zero-shot, transfer, delta, embedding, MF+, oracle or one of an installed package"


class _Parser(argparse.ArgumentParser):
    """Errors in one line, as for any other bad input."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mfbench",
        description="Multi-fidelity learning of interatomic potentials: low-level forces and high-level "
        "energies, compared over three test cases.",
    )
    parser.add_argument("--version", action="version", version=f"mfbench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str, **defaults: Any) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(**defaults)
        return command

    def add_runs(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="folder of run folders (./runs)"
        )

    def add_pulling(command: argparse.ArgumentParser) -> None:
        command.add_argument("--yes", action="store_true", help="download without asking")
        command.add_argument("--offline", action="store_true", help="never touch the network")

    def add_unit(command: argparse.ArgumentParser) -> None:
        command.add_argument("--unit", default="kcal/mol", help="unit system shown: kcal/mol or meV")

    def add_choice(command: argparse.ArgumentParser) -> None:
        """The choice of structures and labels, alike in all commands that make one."""
        command.add_argument(
            "case", metavar="CASE", help="a test case (see `mfbench cases`) or a YAML file of one's own"
        )
        command.add_argument("--arm", required=True, metavar="ARM", help=f"what is trained on which labels: {_ARMS}")
        command.add_argument("--data", help="variant of the case's data (mini)")
        command.add_argument(
            "--data-folder", type=Path, metavar="FOLDER", help="where raw data files are, in place of the cache"
        )
        command.add_argument("--n-high", type=int, metavar="N", help="high-level structures, validation included")
        command.add_argument("--n-low", type=int, metavar="N", help="low-level training structures (all)")
        command.add_argument("--seed", type=int, metavar="N", help="of the training subset and initial weights (0)")
        command.add_argument("--split-seed", type=int, metavar="N", help="of the parts: test, validation, pools (0)")
        command.add_argument(
            "--exceed-max-train",
            action="store_true",
            default=None,
            help="train on more than the data's authors allow; results say so",
        )
        add_labels(command)
        command.add_argument(
            "--arm-option", action="append", default=[], metavar="KEY=VALUE", help="e.g. freeze=backbone (transfer)"
        )

    def add_labels(command: argparse.ArgumentParser) -> None:
        labels = command.add_argument_group("labels", "which of the labels may be learned from")
        labels.add_argument("--no-low-energies", action="store_true", help="below the high level, forces alone")
        labels.add_argument("--no-low-forces", action="store_true", help="below the high level, energies alone")
        labels.add_argument(
            "--high-forces", type=float, metavar="X", help="fraction of the high-level structures with forces, 0 to 1"
        )
        labels.add_argument(
            "--noise",
            action="append",
            default=[],
            metavar="LABEL=X",
            help="noise on low-energy, low-force, high-energy or high-force, standard deviation in kcal/mol(/Angstrom)",
        )
        labels.add_argument(
            "--overlap", help="of high- and low-level geometries: nested, partly or disjoint (the case's)"
        )
        labels.add_argument(
            "--further",
            action="append",
            metavar="LEVEL[=N]",
            help="a level between the two, and how many low-level structures it labels (all)",
        )

    add("cases", "list the test cases, their levels, data and sizes", function=_cases)

    run = add("run", "run one experiment and print its errors", function=_run)
    add_choice(run)
    run.add_argument("--backbone", help="the network: hipnn-ts (default), schnet, painn or so3net")
    run.add_argument("--preset", help="network and recipe: demo (small, default), standard or paper")
    run.add_argument("--steps", type=int, metavar="N", help="gradient steps")
    run.add_argument("--batch-size", type=int, metavar="N", help="structures per level and step")
    run.add_argument("--learning-rate", type=float, metavar="X")
    run.add_argument("--dtype", help="float32 (default) or float64")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:K")
    run.add_argument("--threads", type=int, metavar="N", help="CPU threads (the preset's: demo 1, paper all cores)")
    add_runs(run)
    add_unit(run)
    add_pulling(run)

    predict = add("predict", "energies and forces of the structures in a file, by finished runs", function=_predict)
    predict.add_argument("file", type=Path, metavar="FILE", help="isolated molecules, as extended XYZ")
    predict.add_argument(
        "--run",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        metavar="FOLDER",
        help="a run folder; of several, the mean and its spread (standard deviation)",
    )
    predict.add_argument("--level", help="level of theory that is predicted, where a run has several")
    predict.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="the structures with mfbench_energy (eV) and mfbench_forces (eV/Angstrom), as extended XYZ",
    )
    predict.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:K")
    predict.add_argument("--dtype", help="float32 or float64 (what the run was trained in)")
    predict.add_argument("--threads", type=int, metavar="N", help="CPU threads (all cores)")

    export = add("export", "write what an arm may learn from, for another code, as extended XYZ", function=_export)
    add_choice(export)
    export.add_argument("--part", required=True, metavar="PART", help="train, valid or test (without labels)")
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="FILE.json beside it explains the keys")
    export.add_argument(
        "--format", default="plain", help="whose names of keys: plain (default), mace, hippynn or metatrain"
    )

    evaluate = add("evaluate", "judge another code's predictions as if it were an arm", function=_evaluate)
    add_choice(evaluate)
    evaluate.add_argument(
        "--predictions", type=Path, required=True, metavar="FILE", help="the exported test part, with predictions"
    )
    evaluate.add_argument("--name", required=True, help="what the code is called in tables and plots")
    evaluate.add_argument("--level", help="of these predictions (the case's high level)")
    evaluate.add_argument("--energy-key", default="energy", metavar="KEY", help="of total energies (energy)")
    evaluate.add_argument("--forces-key", default="forces", metavar="KEY", help="of forces, if there are any (forces)")
    evaluate.add_argument("--low-energy-key", metavar="KEY", help="of low-level total energies, if there are any")
    evaluate.add_argument("--low-forces-key", metavar="KEY", help="of low-level forces, if there are any")
    evaluate.add_argument("--unit", default="eV", help="of the predictions: eV (default), Ha, kcal/mol; per Angstrom")
    evaluate.add_argument("--unit-shown", default="kcal/mol", help="unit system shown: kcal/mol or meV")
    add_runs(evaluate)

    check = add("check", "judge finished runs by what their models do: dynamics, frequencies, scans", function=_check)
    check.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="a run folder, or its name in --runs")
    check.add_argument("--level", action="append", default=[], help="of the run; may be repeated (its high level)")
    check.add_argument("--molecule", action="append", default=[], metavar="M", help="only this one; may be repeated")
    check.add_argument("--quick", action="store_true", help="two short trajectories and one molecule: to try it out")
    check.add_argument("--trajectories", type=int, metavar="N", help="of dynamics, per temperature (10)")
    check.add_argument("--picoseconds", type=float, metavar="X", help="that each of them lasts (2)")
    check.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:K")
    add_runs(check)
    add_unit(check)

    add_data_commands(add("data", "datasets: list, info, pull, check, convert, import, where, rm"), add_pulling)

    demo = add("demo", "run three cases x arms x two sizes on the mini data and write a report", function=_demo)
    demo.add_argument("--cases", nargs="+", metavar="CASE", help="only these cases")
    demo.add_argument("--seed", type=int, default=0, help="as for run (0)")
    demo.add_argument(
        "--steps", type=int, metavar="N", help="gradient steps; few only try the machinery out (the preset's)"
    )
    demo.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:K")
    demo.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="(./report.html)")
    add_runs(demo)
    add_unit(demo)

    compare = add("compare", "run arms x sizes x seeds on one case, print one table, write a report", function=_compare)
    compare.add_argument("case", metavar="CASE", help="a test case, or a YAML file of one's own")
    compare.add_argument("--arms", nargs="+", metavar="ARM", help=f"(all: {_ARMS})")
    compare.add_argument("--n-high", type=int, nargs="+", metavar="N", help="(the case's sizes)")
    compare.add_argument(
        "--seeds", type=int, nargs="+", default=[0], metavar="N", help="paired: the same for all arms (0)"
    )
    compare.add_argument("--data", help="variant of the case's data (mini)")
    compare.add_argument("--data-folder", type=Path, metavar="FOLDER", help="where raw data files are")
    compare.add_argument("--backbone", help="as for run")
    compare.add_argument("--preset", help="as for run")
    compare.add_argument("--steps", type=int, metavar="N", help="gradient steps of every arm")
    compare.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:K")
    compare.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="(./report.html)")
    add_labels(compare)
    add_runs(compare)
    add_unit(compare)

    report = add("report", "print the results table and write it with its plots as one HTML page", function=_report)
    report.add_argument(
        "--reference", nargs="?", const="demo", metavar="NAME", help="results that ship: demo (default) or arms"
    )
    report.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="(./report.html)")
    add_runs(report)
    add_unit(report)

    serve = add("serve", "open the dashboards in a browser", function=_serve)
    serve.add_argument("--port", type=int, default=5006)
    serve.add_argument("--no-browser", action="store_true", help="only serve")
    add_runs(serve)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 2 for bad input, 130 when stopped by Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Greek letters is no reason to stop
    try:
        options = _parser().parse_args(arguments)
        options.function(options)
        sys.stdout.flush()
        return 0
    except UserError as error:
        print(f"mfbench: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"mfbench: error: cannot use {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nmfbench: stopped. What was finished is kept; the same command goes on where this one was.",
            file=sys.stderr,
        )
        return 130


def _cases(options: argparse.Namespace) -> None:
    from mfbench.data.cases import case, case_names
    from mfbench.levels import level

    for name in case_names():
        found = case(name)
        print(f"{found.name}: {found.title}")
        for data, rules in found.data.items():
            low, high = level(found.low).label, level(found.high_of(data)).label
            sizes = " and ".join([", ".join(map(str, rules.sizes[:-1])), str(rules.sizes[-1])][len(rules.sizes) < 2 :])
            where = ", published data" if rules.published else ""
            names = " or ".join([data, *(alias for alias, proper in found.aliases.items() if proper == data)])
            between = " and ".join(f"{level(name).label} on {n or 'all'}" for name, n in rules.further.items())
            further = f", with {between} of the low-level structures" if between else ""
            text = f"{low} (E+F) -> {high} (E), {rules.overlap} geometries{further}; n_high {sizes}{where}"
            print(f"  --data {names}: {text}")
        print(f"  {found.basis}")


def _run(options: argparse.Namespace) -> None:
    from mfbench.learning.threads import device_of
    from mfbench.results.folder import UNSEALED, is_finished, is_sealed, read_run
    from mfbench.results.schema import UNIT_SYSTEMS
    from mfbench.show.text import run_text
    from mfbench.study.experiment import experiment
    from mfbench.study.prepare import request
    from mfbench.study.progress import bar
    from mfbench.study.run import forecast, run

    _check_choice("unit system", options.unit, UNIT_SYSTEMS)
    settings = experiment(
        options.case,
        options.arm,
        data=options.data,
        backbone_name=options.backbone,
        preset_name=options.preset,
        n_high=options.n_high,
        optimisation=_given(options, "steps", "batch_size", "learning_rate"),
        **_choice(options),
        **_given(options, "dtype", "threads"),
    )
    device = device_of(options.device)
    finished = is_finished(options.runs / settings.name)
    if settings.declared.variant(settings.data).published and not finished:
        from mfbench.cli.data import ensure
        from mfbench.data.catalogue import footprint

        needed = request(settings, options.data_folder)
        ensure(needed, options.yes, options.offline, say=print)
        if text := footprint(needed):
            print(f"Data: {text}")
        print(f"Training: {forecast(settings, device, options.data_folder)}")
    with bar("", settings) as progress:
        folder = run(settings, options.runs, device, options.data_folder, progress)
    print(run_text(read_run(folder), options.unit))
    print(f"Run folder: {folder}" + ("" if is_sealed(folder) else f" ({UNSEALED})"))


def _predict(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from mfbench.learning.threads import device_of, use_threads
    from mfbench.study.load import load
    from mfbench.study.predict_file import predict_file

    if options.threads is not None and options.threads < 1:
        raise UserError(f"--threads: expected 1 or more, got {options.threads}")
    use_threads(options.threads)
    runs = options.run[0] if len(options.run) == 1 else options.run
    model = load(runs, device_of(options.device), options.dtype)
    # Shown only where it takes longer than two seconds.
    with tqdm(desc=options.file.name, unit="structure", delay=2, leave=False, dynamic_ncols=True) as bar:

        def told(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        count = predict_file(model, options.file, options.out, options.level, told)
    level = model.resolve(options.level)
    print(f"{count:,} structures at {level}, by {model.arm} trained on {model.trained_on}")
    print(f"Written: {options.out}, with mfbench_energy in eV and mfbench_forces in eV/Angstrom")


def _export(options: argparse.Namespace) -> None:
    from mfbench.study.experiment import experiment
    from mfbench.study.export import export

    settings = experiment(options.case, options.arm, data=options.data, n_high=options.n_high, **_choice(options))
    for file in export(settings, options.part, options.out, options.format, options.data_folder):
        print(f"Written: {file}")


def _evaluate(options: argparse.Namespace) -> None:
    from mfbench.results.folder import read_run
    from mfbench.results.schema import UNIT_SYSTEMS
    from mfbench.show.text import run_text
    from mfbench.study.experiment import experiment
    from mfbench.study.external import evaluate

    _check_choice("unit system", options.unit_shown, UNIT_SYSTEMS)
    settings = experiment(options.case, options.arm, data=options.data, n_high=options.n_high, **_choice(options))
    judged = options.level or settings.levels[-1]
    energy_keys, forces_keys = {judged: options.energy_key}, {judged: options.forces_key}
    if options.low_forces_key and not options.low_energy_key:
        raise UserError("--low-forces-key: expected --low-energy-key with it; forces alone are not judged")
    for keys, given in ((energy_keys, options.low_energy_key), (forces_keys, options.low_forces_key)):
        if given:
            keys[settings.levels[0]] = given
    folder = evaluate(
        settings,
        options.name,
        options.predictions,
        options.runs,
        energy_keys=energy_keys,
        forces_keys=forces_keys,
        unit=options.unit,
        data_folder=options.data_folder,
    )
    print(run_text(read_run(folder), options.unit_shown))
    print(f"Run folder: {folder}")


def _check(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from mfbench.bars import counts
    from mfbench.learning.threads import device_of
    from mfbench.physics.check import check, surfaces
    from mfbench.physics.diagnosis import summary
    from mfbench.physics.measure import QUICK, Settings
    from mfbench.results.schema import UNIT_SYSTEMS

    _check_choice("unit system", options.unit, UNIT_SYSTEMS)
    settings = replace(
        QUICK if options.quick else Settings(),
        only=tuple(options.molecule),
        **_given(options, "trajectories", "picoseconds"),
    )
    # A bare name is one of --runs.
    folders = [f if f.is_dir() or len(f.parts) > 1 else options.runs / f for f in options.folders]
    # All are loaded before the first is checked: a mistyped name is told before hours of work.
    loaded = [surfaces(folder, device_of(options.device)) for folder in folders]
    for folder, of_run in zip(folders, loaded):
        check(folder, of_run, options.level, settings, counts)
    print(summary(folders, options.level, options.unit))


def _demo(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from mfbench.learning.threads import device_of
    from mfbench.results.schema import UNIT_SYSTEMS
    from mfbench.show.page import publish
    from mfbench.show.text import text_table
    from mfbench.study.grid import demo, plan
    from mfbench.study.progress import bar

    _check_choice("unit system", options.unit, UNIT_SYSTEMS)
    experiments = plan(tuple(options.cases) if options.cases else None, options.seed, options.steps)
    print(f"{len(experiments)} experiments on {device_of(options.device)}; report: {options.out.resolve().as_uri()}")
    table = demo(
        experiments,
        options.runs,
        lambda rows, origins: publish(rows, options.out, origins, options.unit),
        device_of(options.device),
        bar,
        tqdm.write,
        options.unit,
    )
    print(text_table(table, options.unit))
    print(f"Report: {options.out.resolve().as_uri()}")


def _compare(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from mfbench.learning.threads import device_of
    from mfbench.results.schema import UNIT_SYSTEMS
    from mfbench.show.page import publish
    from mfbench.show.text import text_table
    from mfbench.study.grid import comparison, demo
    from mfbench.study.progress import bar

    _check_choice("unit system", options.unit, UNIT_SYSTEMS)
    experiments = comparison(
        options.case,
        options.arms,
        options.n_high,
        options.seeds,
        data=options.data,
        backbone_name=options.backbone,
        preset_name=options.preset,
        optimisation=_given(options, "steps"),
        **_choice(options),
    )
    device = device_of(options.device)
    print(f"{len(experiments)} experiments on {device}; report: {options.out.resolve().as_uri()}")
    table = demo(
        experiments,
        options.runs,
        lambda rows, origins: publish(rows, options.out, origins, options.unit),
        device,
        bar,
        tqdm.write,
        options.unit,
        options.data_folder,
    )
    print(text_table(table, options.unit))
    print(f"Report: {options.out.resolve().as_uri()}")


def _report(options: argparse.Namespace) -> None:
    from mfbench.results.folder import PROVENANCE_FILE, read_runs
    from mfbench.results.reference import reference, reference_table
    from mfbench.results.schema import UNIT_SYSTEMS
    from mfbench.show.page import publish
    from mfbench.show.text import text_table

    _check_choice("unit system", options.unit, UNIT_SYSTEMS)
    if options.reference:
        table = reference_table(options.reference)
        provenance = [reference(options.reference) / PROVENANCE_FILE]
    else:
        found = read_runs(options.runs)
        table = found.table
        provenance = [file for run in found.folders for file in [run / PROVENANCE_FILE] if file.is_file()]
        for remark in found.remarks():
            print(f"mfbench: {remark}", file=sys.stderr)
    if table.empty:
        raise UserError(
            f"no finished runs in {options.runs}: make some with `mfbench demo` or `mfbench run`, name their "
            "folder with --runs, or see this project's own with `mfbench report --reference`"
        )
    publish(table, options.out, provenance, options.unit)
    print(text_table(table, options.unit))
    print(f"Report: {options.out.resolve().as_uri()}")


def _serve(options: argparse.Namespace) -> None:
    import importlib.util
    import subprocess

    from mfbench import resources

    if importlib.util.find_spec("panel") is None:
        raise UserError("the dashboards need Panel, which is not installed: pip install 'mfbench[dashboards]'")
    pages = sorted(str(page) for page in resources.dashboards().glob("*.py"))
    command = [sys.executable, "-m", "panel", "serve", *pages, "--port", str(options.port)]
    if not options.no_browser:
        command.append("--show")
    done = subprocess.run(command, env={**os.environ, "MFBENCH_RUNS": str(options.runs)}, check=False)
    if done.returncode:
        raise UserError(f"the dashboards stopped with exit code {done.returncode}; is port {options.port} taken?")
