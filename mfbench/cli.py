"""The command line: ``mfbench cases | run | data | demo | report | serve``.

Each command imports what it needs when it runs, so that ``--help`` answers at once and showing results never
loads torch.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mfbench import __version__
from mfbench.errors import UserError

if TYPE_CHECKING:
    from mfbench.datasets.checks import Finding


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

    add("cases", "list the test cases, their levels, data and sizes", function=_cases)

    run = add("run", "run one experiment and print its errors", function=_run)
    run.add_argument("case", metavar="CASE", help="a test case (see `mfbench cases`) or a YAML file of one's own")
    run.add_argument("--arm", required=True, help="what is trained on which labels: SF-E, MF, SF-EF or SF-low")
    run.add_argument("--backbone", help="the network: hipnn-ts (default) or painn")
    run.add_argument("--preset", help="network and recipe: demo (small, default) or paper")
    run.add_argument("--data", help="variant of the case's data (mini)")
    run.add_argument(
        "--data-folder", type=Path, metavar="FOLDER", help="where raw data files are, in place of the cache"
    )
    run.add_argument("--n-high", type=int, metavar="N", help="high-level structures, validation included")
    run.add_argument("--n-low", type=int, metavar="N", help="low-level training structures (all)")
    run.add_argument("--seed", type=int, metavar="N", help="of the training subset and the initial weights (0)")
    run.add_argument("--split-seed", type=int, metavar="N", help="of the parts: test, validation, pools (0)")
    run.add_argument("--steps", type=int, metavar="N", help="gradient steps")
    run.add_argument("--batch-size", type=int, metavar="N", help="structures per level and step")
    run.add_argument("--learning-rate", type=float, metavar="X")
    run.add_argument("--dtype", help="float32 (default) or float64")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:K")
    run.add_argument("--threads", type=int, metavar="N", help="CPU threads (the preset's: demo 1, paper all cores)")
    add_runs(run)
    add_unit(run)

    run.add_argument(
        "--exceed-max-train",
        action="store_true",
        default=None,
        help="train on more than the data's authors allow; results say so",
    )
    add_pulling(run)

    _add_data_commands(add("data", "datasets: list, info, pull, check, convert, import, where, rm"), add_pulling)

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

    report = add("report", "print the results table and write it with its plots as one HTML page", function=_report)
    report.add_argument("--reference", action="store_true", help="the results of mfbench's own demo run, shipped")
    report.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="(./report.html)")
    add_runs(report)
    add_unit(report)

    serve = add("serve", "open the dashboards in a browser", function=_serve)
    serve.add_argument("--port", type=int, default=5006)
    serve.add_argument("--no-browser", action="store_true", help="only serve")
    add_runs(serve)
    return parser


def _add_data_commands(data: argparse.ArgumentParser, add_pulling: Callable[[argparse.ArgumentParser], None]) -> None:
    commands = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")

    def add(name: str, help: str, function: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(function=function)
        return command

    def add_folder(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--data-folder", type=Path, metavar="FOLDER", help="where the raw files are, in place of the cache"
        )

    add("list", "list the datasets and where they stand on this machine", _data_list)
    info = add("info", "all that is declared of a dataset: files, hashes, licence, levels, units", _data_info)
    pull = add("pull", "download, verify and convert a dataset", _data_pull)
    add_pulling(pull)
    check = add("check", "check a dataset: hashes, counts, units by physics, duplicates, probes", _data_check)
    add_folder(check)
    convert = add("convert", "convert raw files to the one file that is trained from", _data_convert)
    add_folder(convert)
    convert.add_argument("--out", type=Path, metavar="FILE", help="where to (the cache)")
    remove = add("rm", "remove a dataset's files from the cache", _data_remove)
    remove.add_argument("--raw", action="store_true", help="only the raw files; the converted one stays")
    remove.add_argument("--yes", action="store_true", help="without asking")
    for command in (info, pull, check, convert, remove):
        command.add_argument("name", metavar="NAME", help="a dataset (see `mfbench data list`)")
    where = add("where", "folders that are searched and written to, or where a dataset is", _data_where)
    where.add_argument("name", metavar="NAME", nargs="?")
    importing = add("import", "take data of one's own into the cache: extxyz, ASE database, HDF5 or npz", _data_import)
    importing.add_argument("files", metavar="FILE", nargs="+", type=Path)
    importing.add_argument(
        "--manifest", type=Path, required=True, metavar="YAML", help="format, levels, keys and units: see the README"
    )


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
    from mfbench.cases import case, case_names
    from mfbench.levels import level

    for name in case_names():
        found = case(name)
        print(f"{found.name}: {found.title}")
        for data, rules in found.data.items():
            low, high = level(found.low).label, level(found.high_of(data)).label
            sizes = " and ".join([", ".join(map(str, rules.sizes[:-1])), str(rules.sizes[-1])][len(rules.sizes) < 2 :])
            where = ", published data" if rules.published else ""
            names = " or ".join([data, *(alias for alias, proper in found.aliases.items() if proper == data)])
            print(f"  --data {names}: {low} (E+F) -> {high} (E), {rules.overlap} geometries; n_high {sizes}{where}")
        print(f"  {found.basis}")


def _run(options: argparse.Namespace) -> None:
    from mfbench.experiment import experiment, forecast, request, run
    from mfbench.progress import bar
    from mfbench.report import run_text
    from mfbench.results import METRICS_FILE, UNIT_SYSTEMS, is_finished, read_metrics

    _check_choice("unit system", options.unit, UNIT_SYSTEMS)
    settings = experiment(
        options.case,
        options.arm,
        data=options.data,
        backbone_name=options.backbone,
        preset_name=options.preset,
        n_high=options.n_high,
        optimisation=_given(options, "steps", "batch_size", "learning_rate"),
        **_given(options, "n_low", "seed", "split_seed", "dtype", "threads", "exceed_max_train"),
    )
    device = _device(options.device)
    finished = is_finished(options.runs / settings.name)
    if settings.declared.variant(settings.data).published and not finished:
        from mfbench import data_commands

        needed = request(settings, options.data_folder)
        data_commands.ensure(needed, options.yes, options.offline, say=print)
        if text := data_commands.footprint(needed):
            print(f"Data: {text}")
        print(f"Training: {forecast(settings, device, options.data_folder)}")
    with bar("", settings) as progress:
        folder = run(settings, options.runs, device, options.data_folder, progress)
    print(run_text(read_metrics(folder / METRICS_FILE), options.unit))
    print(f"Run folder: {folder}")


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were given; those that were not keep the defaults of the settings."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _data_list(options: argparse.Namespace) -> None:
    from mfbench.data_commands import listing

    print(listing())


def _data_info(options: argparse.Namespace) -> None:
    from mfbench.data_commands import info

    print(info(options.name))


def _data_pull(options: argparse.Namespace) -> None:
    from mfbench.data_commands import pull

    pull(options.name, options.yes, options.offline)


def _data_check(options: argparse.Namespace) -> None:
    from mfbench.data_commands import check

    found, looked_at = check(options.name, options.data_folder)
    print(f"{options.name}: {looked_at}")
    _print_findings(found)


def _print_findings(found: "list[Finding]") -> None:
    from mfbench.datasets.checks import require

    for one in found:
        mark = "FAILED" if one.failed else "ok" if one.ok else "not checked"
        print(f"  {mark:11s}  {one.check}: {one.found}" + (f"; expected {one.expected}" if not one.ok else ""))
        for line in one.where if not one.ok else ():
            print(f"{'':15s}{line}")
    require(found)


def _data_convert(options: argparse.Namespace) -> None:
    from mfbench.data_commands import convert

    print(convert(options.name, options.data_folder, options.out))


def _data_remove(options: argparse.Namespace) -> None:
    from mfbench.data_commands import remove

    print(remove(options.name, options.raw, options.yes))


def _data_where(options: argparse.Namespace) -> None:
    from mfbench.data_commands import where

    print(where(options.name))


def _data_import(options: argparse.Namespace) -> None:
    from mfbench.data_commands import import_files

    name, found = import_files(options.files, options.manifest)
    _print_findings(found)
    print(f"{name} is ready: name it in a case of your own (see the README)")


def _demo(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from mfbench.demo import demo, plan
    from mfbench.progress import bar
    from mfbench.report import text_table
    from mfbench.results import UNIT_SYSTEMS

    _check_choice("unit system", options.unit, UNIT_SYSTEMS)
    experiments = plan(tuple(options.cases) if options.cases else None, options.seed, options.steps)
    print(f"{len(experiments)} experiments on {_device(options.device)}; report: {options.out.resolve().as_uri()}")
    table = demo(experiments, options.runs, options.out, _device(options.device), bar, tqdm.write, options.unit)
    print(text_table(table, options.unit))
    print(f"Report: {options.out.resolve().as_uri()}")


def _report(options: argparse.Namespace) -> None:
    from mfbench import resources
    from mfbench.report import publish, reference_table, text_table
    from mfbench.results import PROVENANCE_FILE, UNIT_SYSTEMS, load_runs

    _check_choice("unit system", options.unit, UNIT_SYSTEMS)
    if options.reference:
        table = reference_table()
        provenance = [resources.reference() / PROVENANCE_FILE]
    else:
        table = load_runs(options.runs)
        provenance = sorted(options.runs.glob(f"*/{PROVENANCE_FILE}"))
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


def _check_choice(kind: str, got: str, known: tuple[str, ...]) -> None:
    from mfbench.errors import unknown

    if got not in known:
        raise unknown(kind, got, known)


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}: expected auto, cpu, cuda or cuda:K") from error
    if kind not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r}: expected auto, cpu, cuda or cuda:K")
    if kind == "cuda" and (torch.device(name).index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name!r}: torch sees {torch.cuda.device_count()} GPUs here; use --device cpu")
    return name
