"""Commands around finished models, and other codes' ones: ``predict``, ``export``, ``evaluate`` and ``check``."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mfbench.cli.options import (
    CHOICE,
    add_choice,
    add_command,
    add_device,
    add_runs,
    add_unit,
    check_unit,
    choice,
    given,
)
from mfbench.errors import UserError

if TYPE_CHECKING:
    from mfbench.cli.options import Commands
    from mfbench.study.experiment import Experiment


def add_predict(commands: "Commands") -> None:
    predict = add_command(
        commands, "predict", "energies and forces of the structures in a file, by finished runs", _predict
    )
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
    add_device(predict)
    predict.add_argument("--dtype", help="float32 or float64 (what the run was trained in)")
    predict.add_argument("--threads", type=int, metavar="N", help="CPU threads (all cores)")


def add_export(commands: "Commands") -> None:
    export = add_command(
        commands, "export", "write what an arm may learn from, for another code, and what it is trained from", _export
    )
    add_choice(export)
    export.add_argument(
        "--part", required=True, metavar="PART", help="all, or train, valid or test (without labels) alone"
    )
    export.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="PATH",
        help="a folder for all parts, a file for one",
    )
    export.add_argument(
        "--format", default="plain", help="whose: plain (default), mace, hippynn, metatrain, deepmd or aimnet"
    )


def add_evaluate(commands: "Commands") -> None:
    evaluate = add_command(commands, "evaluate", "judge another code's predictions as if it were an arm", _evaluate)
    add_choice(evaluate, required=False)
    evaluate.add_argument(
        "--export",
        type=Path,
        metavar="JSON",
        help="beside an exported part (test.extxyz.json): the choice that it was made for",
    )
    evaluate.add_argument(
        "--predictions",
        action="append",
        required=True,
        metavar="[LEVEL=]FILE",
        help="the exported test part, with predictions; repeated with a level, a file for each level",
    )
    evaluate.add_argument("--name", required=True, help="what the code is called in tables and plots")
    evaluate.add_argument("--level", help="of these predictions (the case's high level)")
    evaluate.add_argument("--energy-key", metavar="KEY", help="of energies (the export's own names, or energy)")
    evaluate.add_argument("--forces-key", metavar="KEY", help="of forces, if there are any (likewise)")
    evaluate.add_argument("--low-energy-key", metavar="KEY", help="of low-level energies, if there are any")
    evaluate.add_argument("--low-forces-key", metavar="KEY", help="of low-level forces, if there are any")
    evaluate.add_argument("--unit", default="eV", help="of the predictions: eV (default), Ha, kcal/mol; per Angstrom")
    evaluate.add_argument("--per-atom", action="store_true", help="energies are per atom")
    evaluate.add_argument("--seconds", type=float, metavar="X", help="that the code's training took")
    evaluate.add_argument("--steps", type=int, metavar="N", help="gradient steps of its training")
    evaluate.add_argument("--parameters", type=int, metavar="N", help="of its network")
    evaluate.add_argument("--device", help="that it was trained on")
    evaluate.add_argument("--unit-shown", default="kcal/mol", help="unit system shown: kcal/mol or meV")
    add_runs(evaluate)


def add_check(commands: "Commands") -> None:
    check = add_command(
        commands, "check", "judge finished runs by what their models do: dynamics, frequencies, scans", _check
    )
    check.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="a run folder, or its name in --runs")
    check.add_argument("--level", action="append", default=[], help="of the run; may be repeated (its high level)")
    check.add_argument("--molecule", action="append", default=[], metavar="M", help="only this one; may be repeated")
    check.add_argument("--quick", action="store_true", help="two short trajectories and one molecule: to try it out")
    check.add_argument("--trajectories", type=int, metavar="N", help="of dynamics, per temperature (10)")
    check.add_argument("--picoseconds", type=float, metavar="X", help="that each of them lasts (2)")
    add_device(check)
    add_runs(check)
    add_unit(check)


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

        written = predict_file(model, options.file, options.out, options.level, told)
    level = model.resolve(options.level)
    print(f"{written.structures:,} structures at {level}, by {model.arm} trained on {model.trained_on}")
    for line in outside_lines(written.outside):
        print(line)
    if written.isotopes:
        print(f"Deuterium or tritium, read and written as hydrogen: {written.isotopes:,} atoms")
    print(f"Written: {options.out}, with mfbench_energy in eV and mfbench_forces in eV/Angstrom")


MOST_REASONS = 10  # that are told; the file has them all


def outside_lines(outside: Mapping[str, int]) -> list[str]:
    """What lies outside what was trained on, a line for each reason, the first ones."""
    head = f"Outside what it was trained on (mfbench_outside): {sum(outside.values()):,} structures"
    lines = [f"  {count:,}: {reason}" for reason, count in list(outside.items())[:MOST_REASONS]]
    more = list(outside.values())[MOST_REASONS:]
    lines += [f"  {sum(more):,}: {len(more):,} more reasons"] if more else []
    return [head, *lines] if lines else []


def _export(options: argparse.Namespace) -> None:
    from mfbench.study.experiment import experiment
    from mfbench.study.export import export

    settings = experiment(options.case, options.arm, data=options.data, n_high=options.n_high, **choice(options))
    for file in export(settings, options.part, options.out, options.format, options.data_folder):
        print(f"Written: {file}")


def _evaluate(options: argparse.Namespace) -> None:
    from mfbench.results.folder import read_run
    from mfbench.show.text import run_text
    from mfbench.study.external import Cost, evaluate

    check_unit(options.unit_shown)
    if options.low_forces_key and not options.low_energy_key:
        raise UserError("--low-forces-key: expected --low-energy-key with it; forces alone are not judged")
    settings = _evaluated(options)
    files = _files(options.predictions, settings.levels)
    energy_keys, forces_keys = _keys(options, settings.levels, files)
    folder = evaluate(
        settings,
        options.name,
        files,
        options.runs,
        energy_keys=energy_keys,
        forces_keys=forces_keys,
        unit=options.unit,
        per_atom=options.per_atom,
        level=options.level,
        cost=Cost(options.seconds, options.steps, options.parameters, options.device),
        data_folder=options.data_folder,
    )
    print(run_text(read_run(folder), options.unit_shown))
    print(f"Run folder: {folder}")


def _evaluated(options: argparse.Namespace) -> "Experiment":
    """The experiment that predictions are judged for, out of an export's JSON file or of options."""
    from mfbench.study.experiment import experiment
    from mfbench.study.export import exported

    if options.export is not None:
        # What is not given is None, False or empty; a seed of 0 is given.
        values = {name: getattr(options, name) for name in CHOICE}
        if double := [name for name, one in values.items() if one is not None and one is not False and one != []]:
            raise UserError(f"--export: expected no choice beside it, for the file holds it, got {', '.join(double)}")
        return exported(options.export)
    if options.case is None or options.arm is None:
        raise UserError("evaluate: expected --export FILE.json, or CASE and --arm as they were exported")
    return experiment(options.case, options.arm, data=options.data, n_high=options.n_high, **choice(options))


def _files(texts: list[str], levels: tuple[str, ...]) -> Path | dict[str, Path]:
    """``FILE``, or by level the files of ``LEVEL=FILE``; a level is also known by its name in the export."""
    from mfbench.errors import unknown
    from mfbench.study.visible import slugs

    if len(texts) == 1 and ("=" not in texts[0] or Path(texts[0]).is_file()):
        return Path(texts[0])
    by_name = {slug: level for level, slug in slugs(levels).items()}
    found: dict[str, Path] = {}
    for text in texts:
        name, is_level, file = text.partition("=")
        if not is_level:
            raise UserError(f"--predictions: of several expected LEVEL=FILE, got {text}")
        level = by_name.get(name, name)
        if level not in levels:
            raise unknown("level of this experiment", name, levels)
        if level in found:
            raise UserError(f"--predictions: expected one file for {level}, got {found[level]} and {file}")
        found[level] = Path(file)
    return found


def _keys(
    options: argparse.Namespace, levels: tuple[str, ...], files: Path | dict[str, Path]
) -> tuple[dict[str, str] | None, dict[str, str] | None]:
    """By level, the keys that were named; None where none was, and the export's own names are looked for."""
    if not (options.energy_key or options.forces_key or options.low_energy_key):
        return None, None
    judged = files if isinstance(files, dict) else [options.level or levels[-1]]
    energy_keys = dict.fromkeys(judged, options.energy_key or "energy")
    forces_keys = dict.fromkeys(judged, options.forces_key or "forces")
    for keys, key in ((energy_keys, options.low_energy_key), (forces_keys, options.low_forces_key)):
        if key:
            keys[levels[0]] = key
    return energy_keys, forces_keys


def _check(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from mfbench.bars import counts
    from mfbench.cli.physics import summary_text
    from mfbench.learning.threads import device_of
    from mfbench.physics.check import check, surfaces
    from mfbench.physics.diagnosis import summary
    from mfbench.physics.measure import QUICK, WHOLE

    check_unit(options.unit)
    effort = replace(
        QUICK if options.quick else WHOLE,
        only=tuple(options.molecule),
        **given(options, "trajectories", "picoseconds"),
    )
    # A bare name is one of --runs.
    folders = [f if f.is_dir() or len(f.parts) > 1 else options.runs / f for f in options.folders]
    # All are loaded before the first is checked: a mistyped name is told before hours of work.
    loaded = [surfaces(folder, device_of(options.device)) for folder in folders]
    for folder, of_run in zip(folders, loaded):
        check(folder, of_run, options.level, effort, counts)
    print(summary_text(summary(folders, options.level), options.unit))
