"""The command line: ``mfbench cases | run | predict | export | evaluate | check | data | demo | compare | runs | ...``.

Each command imports what it needs when it runs, so that ``--help`` answers at once and showing results never
loads torch.
"""

import argparse
import io
import os
import sys
from typing import NoReturn

from mfbench.cli import data, models, runs, serving, showing, taking, training
from mfbench.errors import UserError
from mfbench.version import __version__

# Adders of commands, in the order in which they are listed.
COMMANDS = (
    showing.add_cases,
    training.add_run,
    models.add_predict,
    models.add_export,
    models.add_evaluate,
    models.add_check,
    data.add_data,
    training.add_demo,
    training.add_compare,
    runs.add_runs_commands,
    showing.add_report,
    taking.add_figure,
    taking.add_table,
    serving.add_serve,
)


class _Parser(argparse.ArgumentParser):
    """Errors in one line, as for any other bad input."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """The command line as a whole."""
    whole: argparse.ArgumentParser = _Parser(
        prog="mfbench",
        description="Multi-fidelity learning of interatomic potentials: low-level forces and high-level "
        "energies, compared over three test cases.",
    )
    whole.add_argument("--version", action="version", version=f"mfbench {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return whole


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 2 for bad input, 130 when stopped by Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Greek letters is no reason to stop
    try:
        options = parser().parse_args(arguments)
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
