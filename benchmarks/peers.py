r"""Other codes beside our arms: each is installed, trained on what mfbench exports, and judged like an arm.

Every code gets an environment of its own in ``--folder`` (made once), the data and configuration that ``mfbench export
--part all`` writes, trains with its own command and predicts with its own tools. Sizes and epochs are small by default:
they try the trip out. ``--whole`` leaves what each code, or its exported configuration, has by default.

    python benchmarks/peers.py --folder FOLDER --pip-options="--extra-index-url URL"  # of CPU builds, as for make
    python benchmarks/peers.py --folder FOLDER --whole --cases rmd17-cc ani1ccx --arms MF MF+ --out FILE.json
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from common import budget, parser, records, run_all, write

import mfbench

OURS = ("SF-E", "MF", "MF+")


@dataclass(frozen=True)
class Asked:
    """How a code is trained: its environment, the folder of the export, and small sizes, or its own defaults."""

    bin: Path
    folder: Path
    epochs: int | None
    width: int | None

    def options(self, **names: str) -> list[str]:
        """``--name value`` of what was asked for."""
        given = {name: getattr(self, key) for key, name in names.items()}
        return [word for name, value in given.items() if value is not None for word in (name, str(value))]

    def heads(self) -> list[str]:
        """The names of the levels that were trained on, from the export."""
        return [level["name"] for level in self.about["levels"].values()]

    @property
    def about(self) -> dict[str, Any]:
        """What the export says of the training part."""
        found: dict[str, Any] = json.loads((self.folder / "train.extxyz.json").read_text())
        return found


Commands = Callable[[Asked], list[list[str]]]


@dataclass(frozen=True)
class Peer:
    """A code: what pip installs, the commands that train and predict, and where its predictions are.

    Attributes:
        predicted: a file, or by level a file each.
        parameters: where its output tells their number.
    """

    name: str
    format: str
    requirements: tuple[str, ...]
    package: str
    train: Commands
    predict: Commands
    predicted: Callable[[Asked], Path | dict[str, Path]]
    parameters: str


def _train_mace(asked: Asked) -> list[list[str]]:
    small = [*asked.options(width="--num_channels"), "--max_L", "0"] if asked.width else []
    return [
        [
            str(asked.bin / "mace_run_train"),
            *("--config", "mace.yaml"),
            *asked.options(epochs="--max_num_epochs"),
            *small,
            *("--plot", "False"),
        ]
    ]


def _predict_mace(asked: Asked) -> list[list[str]]:
    command = [str(asked.bin / "mace_eval_configs"), "--configs", "test.extxyz", "--model", "mfbench.model"]
    count = (
        "import torch; m = torch.load('mfbench.model', weights_only=False); print('Parameters:', sum(p.numel() for p "
    )
    count += "in m.parameters()))"  # which MACE's log does not tell
    heads = [[*command, "--head", head, "--output", f"{head}.extxyz"] for head in asked.heads()]
    return [*heads, [str(asked.bin / "python"), "-c", count]]


def _predicted_mace(asked: Asked) -> dict[str, Path]:
    return {level: asked.folder / f"{one['name']}.extxyz" for level, one in asked.about["levels"].items()}


def _train_hippynn(asked: Asked) -> list[list[str]]:
    # It trains and predicts in one go.
    options = asked.options(epochs="--epochs", width="--features")
    return [[str(asked.bin / "python"), "train_hippynn.py", *options]]


def _train_metatrain(asked: Asked) -> list[list[str]]:
    settings = []
    if asked.epochs is not None:
        settings.append(f"architecture.training.num_epochs={asked.epochs}")
    if asked.width is not None:
        settings.append(f"architecture.model.bpnn.num_neurons_per_layer={asked.width}")
    overridden = [word for one in settings for word in ("-r", one)]
    return [[str(asked.bin / "mtt"), "train", "options.yaml", "-o", "model.pt", *overridden]]


def _predict_metatrain(asked: Asked) -> list[list[str]]:
    return [[str(asked.bin / "python"), "predict_metatrain.py", "model.pt"]]


def _train_deepmd(asked: Asked) -> list[list[str]]:
    """DeePMD-kit takes no options on the command line: small sizes are written into a copy of its input."""
    settings = json.loads((asked.folder / "input.json").read_text())
    if asked.epochs is not None:  # an epoch is as many steps as batches of 32 atoms or more
        settings["training"]["numb_steps"] = asked.epochs * max(1, asked.about["structures"] // 6)
        settings["training"]["save_freq"] = settings["training"]["numb_steps"]
    if asked.width is not None:
        for model in settings["model"]["model_dict"].values():
            model["fitting_net"]["neuron"] = [asked.width] * 3
    (asked.folder / "asked.json").write_text(json.dumps(settings))
    return [[str(asked.bin / "dp"), "--pt", "train", "asked.json"]]


def _predict_deepmd(asked: Asked) -> list[list[str]]:
    count = (
        "import torch; m = torch.load('model.ckpt.pt', weights_only=True)['model']; print('Parameters:', sum(v.numel() "
    )
    count += "for k, v in m.items() if torch.is_tensor(v) and v.is_floating_point()))"
    python = str(asked.bin / "python")
    return [[python, "predict_deepmd.py", "model.ckpt.pt"], [python, "-c", count]]


def _one_file(asked: Asked) -> Path:
    return asked.folder / "predicted.extxyz"


PEERS = {
    "mace": Peer(
        name="MACE",
        format="mace",
        requirements=("mace-torch==0.3.16",),
        package="mace-torch",
        train=_train_mace,
        predict=_predict_mace,
        predicted=_predicted_mace,
        parameters=r"Parameters: (\d+)",
    ),
    "hippynn": Peer(
        name="hippynn",
        format="hippynn",
        requirements=("hippynn==0.1.3", "ase", "matplotlib"),
        package="hippynn",
        train=_train_hippynn,
        predict=lambda asked: [],
        predicted=_one_file,
        parameters=r"Parameters: (\d+)",
    ),
    "metatrain": Peer(
        name="metatrain SOAP-BPNN",
        format="metatrain",
        requirements=("metatrain[soap-bpnn]==2026.4.1",),
        package="metatrain",
        train=_train_metatrain,
        predict=_predict_metatrain,
        predicted=_one_file,
        parameters=r"actual number: (\d+)",
    ),
    "deepmd": Peer(
        name="DeePMD-kit",
        format="deepmd",
        requirements=("deepmd-kit[torch]==3.2.0", "ase"),
        package="deepmd-kit",
        train=_train_deepmd,
        predict=_predict_deepmd,
        predicted=_one_file,
        parameters=r"Parameters: (\d+)",
    ),
}


NOT_INSTALLED = 3  # exit status where pip could not install a code: its trip cannot be judged


class Failed(Exception):
    """A command of another code ended with an error."""


def call(command: list[str], folder: Path, log: Path) -> str:
    """Run a command on one thread, its output in a file; returns the output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(command[0]).parent}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)  # an environment of its own
    with open(log, "w", encoding="utf-8") as file:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
    text = log.read_text(encoding="utf-8", errors="replace")
    if done.returncode:
        raise Failed(f"{shlex.join(command)}: exit status {done.returncode}; see {log}\n{text[-2000:]}")
    return text


def environment(peer: Peer, key: str, folder: Path, python: str, pip_options: str) -> tuple[Path, str]:
    """The folder of programs of the code's environment, made where there is none; and the code's version."""
    made = folder / key
    programs, ready = made / "bin", made / "installed"
    if not ready.exists():
        print(f"{peer.name}: installing {', '.join(peer.requirements)} in {made}", flush=True)
        call([python, "-m", "venv", "--clear", str(made)], folder, folder / f"{key}-venv.log")
        install = [str(programs / "python"), "-m", "pip", "install", *shlex.split(pip_options), *peer.requirements]
        call(install, folder, folder / f"{key}-install.log")
        ready.touch()
    asked = f"import importlib.metadata as m; print(m.version({peer.package!r}))"
    return programs, call([str(programs / "python"), "-c", asked], folder, folder / f"{key}-version.log").strip()


def trip(peer: Peer, asked: Asked, settings: mfbench.Experiment, runs: Path) -> dict[str, Any]:
    """Export, train, predict, evaluate; returns what it took and the run folder."""
    mfbench.export(settings, "all", asked.folder, peer.format)
    started, text = time.monotonic(), ""
    for number, command in enumerate(peer.train(asked)):
        text += call(command, asked.folder, asked.folder / f"train-{number}.log")
    seconds = time.monotonic() - started
    for number, command in enumerate(peer.predict(asked)):
        text += call(command, asked.folder, asked.folder / f"predict-{number}.log")
    found = re.search(peer.parameters, text)
    parameters = int(found[1]) if found else None
    cost = mfbench.Cost(seconds=seconds, parameters=parameters, device="cpu")
    test = asked.folder / "test.extxyz.json"
    run = mfbench.evaluate(test, peer.name, peer.predicted(asked), runs, cost=cost)
    return {"seconds": round(seconds, 1), "parameters": parameters, "run": run.name}


def table_of(trips: list[dict[str, Any]], ours: pd.DataFrame | None, runs: Path) -> pd.DataFrame:
    """The results of both, as one table."""
    theirs = mfbench.load_runs(runs)
    theirs = theirs[theirs["run"].isin([one["run"] for one in trips])]
    return theirs if ours is None else pd.concat([theirs, ours])


def errors(table: pd.DataFrame) -> pd.DataFrame:
    """Errors at the high level of the test part, in kcal/mol and kcal/mol/Angstrom, a row an arm or code."""
    found = []
    for case in dict.fromkeys(table["case"]):
        rows = mfbench.tables.error_table(table[table["case"] == case], case)
        found.append(rows.assign(case=case))
    columns = ["case", "n_high", "arm", "energy mae", "energy_relative mae", "force mae", "n energies", "n forces"]
    return pd.concat(found)[columns]


def settings_of(args: Any) -> list[mfbench.Experiment]:
    """What each code learns from."""
    chosen: Mapping[str, Any] = {"threads": 1}
    return [
        mfbench.experiment(case, arm, n_high=size, seed=seed, **chosen)
        for case in args.cases
        for size in args.sizes
        for seed in args.seeds
        for arm in args.arms
    ]


def main() -> None:
    options = parser(__doc__, cases=("rmd17-cc",), sizes=(50,), seeds=(0,), steps=True, runs="runs/peers", data=True)
    options.add_argument("--folder", type=Path, default=Path("peers"), help="of environments and exports (./peers)")
    options.add_argument("--codes", nargs="+", default=list(PEERS), choices=list(PEERS))
    options.add_argument("--arms", nargs="+", default=["MF"], help="whose labels the codes are given")
    options.add_argument("--ours", nargs="*", default=list(OURS), help="arms of mfbench beside them")
    options.add_argument("--epochs", type=int, default=2)
    options.add_argument("--width", type=int, default=16, help="channels, features or neurons of the networks")
    options.add_argument("--whole", action="store_true", help="the codes' own sizes and epochs")
    options.add_argument("--python", default=sys.executable, help="that environments are made with")
    options.add_argument("--pip-options", default="", help="such as an index of CPU-only builds of torch")
    args = options.parse_args()
    args.workers = 1
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    runs, trips = args.runs.resolve(), []
    for key in args.codes:
        peer = PEERS[key]
        try:
            programs, version = environment(peer, key, folder, args.python, args.pip_options)
        except Failed as error:
            print(error, file=sys.stderr)
            sys.exit(NOT_INSTALLED)
        for settings in settings_of(args):
            name = f"{settings.case}-{settings.arm}-{settings.n_high}-{settings.seed}"
            small = (None, None) if args.whole else (args.epochs, args.width)
            asked = Asked(programs, folder / "data" / f"{key}-{name}", *small)
            done = trip(peer, asked, settings, runs)
            trips.append({"code": peer.name, "version": version, "learned from": name, **done})
            print(f"{peer.name} {version}, {name}: trained in {done['seconds']} s", flush=True)
    ours = [
        mfbench.experiment(case, arm, n_high=size, seed=seed, threads=1, optimisation=budget(args))
        for case in args.cases
        for size in args.sizes
        for seed in args.seeds
        for arm in args.ours
    ]
    table = table_of(trips, run_all(ours, args) if ours else None, runs)
    rows = errors(table)
    print(rows.round(3).to_string(index=False))
    small = None if args.whole else {"epochs": args.epochs, "width": args.width}
    write(args.out, units="kcal/mol, kcal/mol/Angstrom", small=small, trips=trips, rows=records(rows))


if __name__ == "__main__":
    main()
