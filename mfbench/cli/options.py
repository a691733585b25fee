"""Options that several commands share, and what they mean: the choice of structures and labels."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfbench.errors import UserError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

ARMS = "SF-E, MF, SF-EF, SF-low, zero-shot, transfer, delta, embedding, MF+, oracle or one of an installed package"


# Adding options


def add_command(
    commands: "Commands", name: str, help: str, function: Callable[[argparse.Namespace], None] | None = None
) -> argparse.ArgumentParser:
    """A command of that name; ``function`` does it, and is None where it has commands of its own."""
    command = commands.add_parser(name, help=help, description=help)
    if function is not None:
        command.set_defaults(function=function)
    return command


def add_runs(command: argparse.ArgumentParser, again: bool = False) -> None:
    """``again``: of a command below one that has the option, too; what is given there stays."""
    default = argparse.SUPPRESS if again else Path("runs")
    command.add_argument("--runs", type=Path, default=default, metavar="FOLDER", help="folder of run folders (./runs)")


def add_pulling(command: argparse.ArgumentParser) -> None:
    command.add_argument("--yes", action="store_true", help="download without asking")
    command.add_argument("--offline", action="store_true", help="never touch the network")


def add_unit(command: argparse.ArgumentParser) -> None:
    command.add_argument("--unit", default="kcal/mol", help="unit system shown: kcal/mol or meV")


def add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:K")


def add_report_file(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="(./report.html)")


def add_choice(command: argparse.ArgumentParser, required: bool = True) -> None:
    """The choice of structures and labels, alike in all commands that make one; ``choice`` reads it."""
    count = None if required else "?"
    command.add_argument(
        "case", metavar="CASE", nargs=count, help="a test case (see `mfbench cases`) or a YAML file of one's own"
    )
    command.add_argument("--arm", required=required, metavar="ARM", help=f"what is trained on which labels: {ARMS}")
    command.add_argument("--data", help="which of the case's sets of data (mini, or the only one)")
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
    labels.add_argument("--overlap", help="of high- and low-level geometries: nested, partly or disjoint (the case's)")
    labels.add_argument(
        "--further",
        action="append",
        metavar="LEVEL[=N]",
        help="a level between the two, and how many low-level structures it labels (all)",
    )


# Reading options

# Where the options of ``add_choice`` are kept, but for --data-folder, which is no choice.
CHOICE: tuple[str, ...] = (
    *("case", "arm", "data", "n_high", "n_low", "seed", "split_seed", "exceed_max_train", "arm_option"),
    *("no_low_energies", "no_low_forces", "high_forces", "noise", "overlap", "further"),
)


def choice(options: argparse.Namespace) -> dict[str, Any]:
    """Settings of an experiment out of the options of ``add_choice``."""
    labels: dict[str, Any] = {"low_energies": not options.no_low_energies, "low_forces": not options.no_low_forces}
    labels |= given(options, "high_forces")
    if noise := _noise(options.noise):
        labels["noise"] = noise
    further = _further(options.further or [])
    return {
        **given(options, "n_low", "seed", "split_seed", "exceed_max_train", "overlap"),
        **({"further": further} if further else {}),
        "labels": labels,
        "arm_options": _arm_options(getattr(options, "arm_option", [])),
    }


def _pairs(option: str, texts: list[str]) -> list[tuple[str, str]]:
    if bad := [text for text in texts if "=" not in text]:
        raise UserError(f"--{option}: expected KEY=VALUE, got {bad[0]!r}")
    return [(key, value) for key, _, value in (text.partition("=") for text in texts)]


def _noise(texts: list[str]) -> dict[str, float]:
    from mfbench import units

    noise = {}
    for key, value in _pairs("noise", texts):
        try:
            size = float(value)
        except ValueError:
            size = math.nan
        if not 0 <= size < math.inf:
            raise UserError(f"--noise: expected a number from 0 on after {key}=, got {value!r}")
        noise[key.replace("-", " ")] = size * units.EV_PER_KCAL  # a force is by the same Angstrom
    return noise


def _arm_options(texts: list[str]) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = {}
    for key, value in _pairs("arm-option", texts):
        place = found
        *outer, last = key.split(".")
        for word in outer:
            place = place.setdefault(word, {})
        place[last] = yaml.safe_load(value)
    return found


def _further(texts: list[str]) -> dict[str, int | None]:
    further = {}
    for text in texts:
        name, _, count = text.partition("=")
        if count and not count.isdigit():
            raise UserError(f"--further: expected LEVEL or LEVEL=N, got {text!r}")
        further[name] = int(count) if count else None
    return further


def given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were given; those that were not, or are not the command's, keep the defaults of the settings."""
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}


def check_unit(system: str) -> None:
    """Raise UserError where there is no such unit system."""
    from mfbench.errors import unknown
    from mfbench.results.schema import UNIT_SYSTEMS

    if system not in UNIT_SYSTEMS:
        raise unknown("unit system", system, UNIT_SYSTEMS)
