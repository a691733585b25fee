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
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from common import budget, parser, records, run_all, write

import mfbench

OURS = ("SF-E", "MF", "MF+")
NOT_INSTALLED = 3  # exit status where pip could not install a code: its trip cannot be judged


@dataclass(frozen=True)
class Asked:
    """How a code is trained: its environment, the folder of the export, and small sizes, or its own defaults."""

    environment: Path
    folder: Path
    epochs: int | None
    width: int | None

    def given(self, **names: str) -> dict[str, str]:
        """What was asked for, by its name in the code."""
        found = {name: getattr(self, key) for key, name in names.items()}
        return {name: str(value) for name, value in found.items() if value is not None}

    def options(self, **names: str) -> list[str]:
        """``--name value`` of what was asked for."""
        return [word for pair in self.given(**names).items() for word in pair]

    @property
    def about(self) -> dict[str, Any]:
        """What the export says of the training part."""
        found: dict[str, Any] = json.loads((self.folder / "train.extxyz.json").read_text())
        return found

    @property
    def heads(self) -> dict[str, str]:
        """The names of the levels that were trained on, from the export."""
        return {level: one["name"] for level, one in self.about["levels"].items()}


Commands = Callable[[Asked], list[list[str]]]


@dataclass(frozen=True)
class Peer:
    """A code: what pip installs, the commands that train and predict, and where its predictions are.

    Attributes:
        requirements: the code itself first.
        train, predict: run in the folder of the export, with the environment's programs.
        predicted: a file, or by level a file each.
        parameters: where its output tells their number.
    """

    name: str
    format: str
    requirements: tuple[str, ...]
    train: Commands
    predict: Commands
    predicted: Callable[[Asked], Path | dict[str, Path]] = lambda asked: asked.folder / "predicted.extxyz"
    parameters: str = r"Parameters: (\d+)"


def _count(tensors: str) -> list[str]:
    """A command that tells the number of parameters, which the code itself does not."""
    return ["python", "-c", f"import torch; print('Parameters:', sum(one.numel() for one in {tensors}))"]


def _train_mace(asked: Asked) -> list[list[str]]:
    options = asked.options(epochs="--max_num_epochs", width="--num_channels")
    small = ["--max_L", "0"] if asked.width else []
    return [["mace_run_train", "--config", "mace.yaml", *options, *small, "--plot", "False"]]


def _predict_mace(asked: Asked) -> list[list[str]]:
    command = ["mace_eval_configs", "--configs", "test.extxyz", "--model", "mfbench.model"]
    heads = [[*command, "--head", head, "--output", f"{head}.extxyz"] for head in asked.heads.values()]
    return [*heads, _count("torch.load('mfbench.model', weights_only=False).parameters()")]


def _train_hippynn(asked: Asked) -> list[list[str]]:
    return [["python", "train_hippynn.py", *asked.options(epochs="--epochs", width="--features")]]


def _train_metatrain(asked: Asked) -> list[list[str]]:
    settings = asked.given(
        epochs="architecture.training.num_epochs", width="architecture.model.bpnn.num_neurons_per_layer"
    )
    overridden = [word for name, value in settings.items() for word in ("-r", f"{name}={value}")]
    return [["mtt", "train", "options.yaml", "-o", "model.pt", *overridden]]


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
    return [["dp", "--pt", "train", "asked.json"]]


def _predict_deepmd(asked: Asked) -> list[list[str]]:
    weights = "torch.load('model.ckpt.pt', weights_only=True)['model'].items()"
    # A network stands there under several names, the shared descriptor's under those of every head.
    distinct = f"{{v.data_ptr(): v for k, v in {weights} if 'networks' in k}}.values()"
    return [["python", "predict.py", "model.ckpt.pt"], _count(distinct)]


def _train_aimnet(asked: Asked) -> list[list[str]]:
    """AIMNet takes its network from a file: a small one is written into a copy of its own."""
    options = [f"{name}={value}" for name, value in asked.given(epochs="trainer.epochs").items()]
    if asked.width is not None:
        (own,) = asked.environment.glob("lib/python*/site-packages/aimnet/models/aimnet2.yaml")
        model = yaml.safe_load(own.read_text())
        model["kwargs"] |= {"hidden": [[asked.width] * 2] * 3, "aim_size": asked.width}
        output = model["kwargs"]["outputs"]["energy_mlp"]["kwargs"]
        output["n_in"], output["mlp"]["hidden"] = asked.width, [asked.width] * 2
        text = yaml.safe_dump(model, sort_keys=False)  # its outputs follow one another in the file's order
        (asked.folder / "asked.yaml").write_text(text)
        options += ["--model", "asked.yaml"]
    return [["sh", "train_aimnet.sh", *options]]


def _predict_aimnet(asked: Asked) -> list[list[str]]:
    return [["python", "predict.py", *(["asked.yaml"] if asked.width is not None else [])]]


PEERS = {
    one.format: one
    for one in (
        Peer(
            "MACE",
            "mace",
            ("mace-torch==0.3.16",),
            _train_mace,
            _predict_mace,
            predicted=lambda asked: {level: asked.folder / f"{name}.extxyz" for level, name in asked.heads.items()},
        ),
        # It trains and predicts in one go.
        Peer("hippynn", "hippynn", ("hippynn==0.1.3", "ase", "matplotlib"), _train_hippynn, lambda asked: []),
        Peer(
            "metatrain SOAP-BPNN",
            "metatrain",
            ("metatrain[soap-bpnn]==2026.4.1",),
            _train_metatrain,
            lambda asked: [["python", "predict.py", "model.pt"]],
            parameters=r"actual number: (\d+)",
        ),
        Peer("DeePMD-kit", "deepmd", ("deepmd-kit[torch]==3.2.0", "ase"), _train_deepmd, _predict_deepmd),
        Peer(
            "AIMNet",
            "aimnet",
            ("aimnet[train,ase]==0.2.6",),
            _train_aimnet,
            _predict_aimnet,
            parameters=r"Total number of trainable parameters: (\d+)",
        ),
    )
}


class Failed(Exception):
    """A command of another code ended with an error."""


class NotInstalled(Exception):
    """pip could not install a code; in one line."""


def call(command: list[str], folder: Path, log: Path, environment: Path | None = None) -> str:
    """Run a command on one CPU thread, with the programs of an environment, its output in a file; returns the output.

    Raises:
        Failed: its exit status is not 0.
    """
    alone = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | alone
    if environment is not None:
        variables["PATH"] = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    with open(log, "w", encoding="utf-8") as file:
        done = subprocess.run(command, cwd=folder, env=variables, stdout=file, stderr=subprocess.STDOUT)
    text = log.read_text(encoding="utf-8", errors="replace")
    if done.returncode:
        raise Failed(f"{shlex.join(command)}: exit status {done.returncode}; see {log}\n{text[-2000:]}")
    return text


def environment(peer: Peer, folder: Path, python: str, pip_options: str) -> tuple[Path, str]:
    """The code's environment, made where there is none with its requirements; and the code's version.

    Raises:
        NotInstalled: it cannot be made.
    """
    made, wanted, log = folder / peer.format, "\n".join(peer.requirements), folder / f"{peer.format}-install.log"
    ready = made / "installed"
    if not ready.exists() or ready.read_text() != wanted:
        print(f"{peer.name}: installing {', '.join(peer.requirements)} in {made}", flush=True)
        try:
            call([python, "-m", "venv", "--clear", str(made)], folder, log)
            call(["python", "-m", "pip", "install", *shlex.split(pip_options), *peer.requirements], folder, log, made)
        except Failed as error:
            said = log.read_text(errors="replace").splitlines()
            reason = next((line for line in said if line.startswith("ERROR: ")), (said or ["no word"])[-1])
            raise NotInstalled(f"{peer.name} cannot be installed: {reason} (see {log})") from error
        ready.write_text(wanted)
    package = re.split(r"[=\[]", peer.requirements[0])[0]
    asked = f"import importlib.metadata as m; print(m.version({package!r}))"
    return made, call(["python", "-c", asked], folder, folder / f"{peer.format}-version.log", made).strip()


def trip(peer: Peer, asked: Asked, settings: mfbench.Experiment, runs: Path) -> dict[str, Any]:
    """Export, train, predict, evaluate; returns what it took and the run folder."""
    shutil.rmtree(asked.folder, ignore_errors=True)  # MACE ends with the latest checkpoint there, whose ever
    mfbench.export(settings, "all", asked.folder, peer.format)
    started, text = time.monotonic(), ""
    for number, command in enumerate(peer.train(asked)):
        text += call(command, asked.folder, asked.folder / f"train-{number}.log", asked.environment)
    seconds = time.monotonic() - started
    for number, command in enumerate(peer.predict(asked)):
        text += call(command, asked.folder, asked.folder / f"predict-{number}.log", asked.environment)
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


def settings_of(args: Any, arms: list[str], **more: Any) -> list[mfbench.Experiment]:
    """An experiment for each case, size, seed and arm."""
    return [
        mfbench.experiment(case, arm, n_high=size, seed=seed, threads=1, **more)
        for case in args.cases
        for size in args.sizes
        for seed in args.seeds
        for arm in arms
    ]


def main() -> None:
    options = parser(__doc__, cases=("rmd17-cc",), sizes=(50,), seeds=(0,), steps=True, runs="runs/peers", data=True)
    options.add_argument("--folder", type=Path, required=True, help="of environments (some GB each) and exports")
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
    try:
        installed = {key: environment(PEERS[key], folder, args.python, args.pip_options) for key in args.codes}
        for key, (made, version) in installed.items():
            peer = PEERS[key]
            for settings in settings_of(args, args.arms):
                name = f"{settings.case}-{settings.arm}-{settings.n_high}-{settings.seed}"
                small = (None, None) if args.whole else (args.epochs, args.width)
                done = trip(peer, Asked(made, folder / "data" / f"{key}-{name}", *small), settings, runs)
                trips.append({"code": peer.name, "version": version, "learned from": name, **done})
                print(f"{peer.name} {version}, {name}: trained in {done['seconds']} s", flush=True)
    except NotInstalled as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_INSTALLED)
    except Failed as error:
        sys.exit(str(error))
    ours = settings_of(args, args.ours, optimisation=budget(args))
    table = table_of(trips, run_all(ours, args) if ours else None, runs)
    rows = errors(table)
    print(rows.round(3).to_string(index=False))
    small = None if args.whole else {"epochs": args.epochs, "width": args.width}
    write(
        args.out,
        units="kcal/mol, kcal/mol/Angstrom",
        small=small,
        steps={one.arm: one.optimisation.steps for one in ours},
        trips=trips,
        rows=records(rows),
    )


if __name__ == "__main__":
    main()
