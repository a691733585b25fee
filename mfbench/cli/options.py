"""What the options of several commands mean: the choice of structures and labels."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mfbench.errors import UserError


def _choice(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of an experiment out of the options of ``add_choice``."""
    import yaml

    from mfbench import units

    def pairs(name: str, given: list[str]) -> list[tuple[str, str]]:
        if bad := [text for text in given if "=" not in text]:
            raise UserError(f"--{name}: expected KEY=VALUE, got {bad[0]!r}")
        return [(key, value) for key, _, value in (text.partition("=") for text in given)]

    labels: dict[str, Any] = {"low_energies": not options.no_low_energies, "low_forces": not options.no_low_forces}
    labels |= _given(options, "high_forces")
    for key, value in pairs("noise", options.noise):
        try:
            size = float(value)
        except ValueError:
            size = math.nan
        if not 0 <= size < math.inf:
            raise UserError(f"--noise: expected a number from 0 on after {key}=, got {value!r}")
        labels.setdefault("noise", {})[key.replace("-", " ")] = (
            size * units.EV_PER_KCAL
        )  # a force is by the same Angstrom
    arm_options: dict[str, Any] = {}
    for key, value in pairs("arm-option", getattr(options, "arm_option", [])):
        place = arm_options
        *outer, last = key.split(".")
        for word in outer:
            place = place.setdefault(word, {})
        place[last] = yaml.safe_load(value)
    further = {}
    for text in options.further or []:
        name, _, count = text.partition("=")
        if count and not count.isdigit():
            raise UserError(f"--further: expected LEVEL or LEVEL=N, got {text!r}")
        further[name] = int(count) if count else None
    return {
        **_given(options, "n_low", "seed", "split_seed", "exceed_max_train", "overlap"),
        **({"further": further} if further else {}),
        "labels": labels,
        "arm_options": arm_options,
    }


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were given; those that were not, or are not the command's, keep the defaults of the settings."""
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}


def _check_choice(kind: str, got: str, known: tuple[str, ...]) -> None:
    from mfbench.errors import unknown

    if got not in known:
        raise unknown(kind, got, known)


def _of_data(name: str) -> Callable[[argparse.Namespace], None]:
    """A command of ``cli.data``, which is imported when it runs."""

    def run(options: argparse.Namespace) -> None:
        from mfbench.cli import data

        getattr(data, f"_data_{name}")(options)

    return run


def add_data_commands(data: argparse.ArgumentParser, add_pulling: Callable[[argparse.ArgumentParser], None]) -> None:
    commands = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")

    def add(name: str, help: str, function: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(function=function)
        return command

    def add_folder(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--data-folder", type=Path, metavar="FOLDER", help="where the raw files are, in place of the cache"
        )

    add("list", "list the datasets and where they stand on this machine", _of_data("list"))
    info = add("info", "all that is declared of a dataset: files, hashes, licence, levels, units", _of_data("info"))
    pull = add("pull", "download, verify and convert a dataset", _of_data("pull"))
    add_pulling(pull)
    check = add("check", "check a dataset: hashes, counts, units by physics, duplicates, probes", _of_data("check"))
    add_folder(check)
    convert = add("convert", "convert raw files to the one file that is trained from", _of_data("convert"))
    add_folder(convert)
    convert.add_argument("--out", type=Path, metavar="FILE", help="where to (the cache)")
    remove = add("rm", "remove a dataset's files from the cache", _of_data("remove"))
    remove.add_argument("--raw", action="store_true", help="only the raw files; the converted one stays")
    remove.add_argument("--yes", action="store_true", help="without asking")
    for command in (info, pull, check, convert, remove):
        command.add_argument("name", metavar="NAME", help="a dataset (see `mfbench data list`)")
    where = add("where", "folders that are searched and written to, or where a dataset is", _of_data("where"))
    where.add_argument("name", metavar="NAME", nargs="?")
    importing = add(
        "import", "take data of one's own into the cache: extxyz, ASE database, HDF5 or npz", _of_data("import")
    )
    importing.add_argument("files", metavar="FILE", nargs="+", type=Path)
    importing.add_argument(
        "--manifest", type=Path, required=True, metavar="YAML", help="format, levels, keys and units: see the README"
    )
