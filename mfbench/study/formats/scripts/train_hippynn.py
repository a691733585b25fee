"""Train HIP-NN-TS with a head a level on what ``mfbench export --part all --format hippynn`` wrote, and predict.

python train_hippynn.py             (in that folder; --epochs N, --help)
mfbench evaluate --export test.extxyz.json --name hippynn --predictions predicted.extxyz
"""

import argparse
import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms

torch.set_default_dtype(torch.float64)  # before anything is loaded

import hippynn  # noqa: E402
from hippynn.graphs import inputs, loss, networks, physics, targets  # noqa: E402

KINDS = ("energy", "forces")


class MaskedMSE(torch.nn.Module):
    """The mean square over what is labelled; 0 in a batch without labels."""

    def forward(self, predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        there = ~torch.isnan(true)
        error = torch.where(there, predicted - torch.nan_to_num(true), 0.0)
        return error.square().sum() / there.sum().clamp(min=1)


class MaskedLoss(loss._BaseCompareLoss):
    _classname = "MaskedMSE"
    torch_module = MaskedMSE()


def padded(frames: list[Atoms], key: str, kind: str, n_atoms: int) -> np.ndarray:
    """A key of every frame, (frames, 1) of energies and (frames, n_atoms, 3) of vectors, 0 past a frame's atoms."""
    if kind == "energy":
        return np.array([[frame.info.get(key, np.nan)] for frame in frames])
    values = [frame.arrays[key] if key in frame.arrays else np.full((len(frame), 3), np.nan) for frame in frames]
    return np.stack([np.pad(one, ((0, n_atoms - len(one)), (0, 0))) for one in values])


def structures(frames: list[Atoms], n_atoms: int) -> dict[str, np.ndarray]:
    """Atomic numbers and positions, padded with 0."""
    numbers = np.stack([np.pad(frame.numbers, (0, n_atoms - len(frame))) for frame in frames])
    return {"Z": numbers.astype(np.int64), "R": padded(frames, "positions", "forces", n_atoms)}


def offsets(frames: list[Atoms], level: dict[str, Any]) -> np.ndarray:
    """(frames, 1) sums of a level's atomic energies."""
    return np.array([[sum(level["atomic_energies"][s] for s in frame.get_chemical_symbols())] for frame in frames])


def database(parts: dict[str, list[Atoms]], levels: list[dict[str, Any]]) -> Any:
    """hippynn's database of the parts, with energies less atomic energies."""
    frames = [frame for part in parts.values() for frame in part]
    n_atoms = max(map(len, frames))
    arrays = structures(frames, n_atoms)
    for level in levels:
        for kind in ("energy", "forces"):
            if key := level[f"{kind}_key"]:
                arrays[key] = padded(frames, key, kind, n_atoms)
        if key := level["energy_key"]:
            arrays[key] = arrays[key] - offsets(frames, level)
    made = hippynn.databases.Database(arrays, None, None, seed=0, quiet=True, pin_memory=False)
    if "valid" in parts:
        made.make_explicit_split("train", torch.arange(len(parts["train"])))
        made.split_the_rest("valid")
    else:
        made.make_random_split("valid", 0.1)
        made.split_the_rest("train")
    return made


def nodes(
    elements: list[int], levels: list[dict[str, Any]], n_features: int
) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """The inputs, the energies and forces of every level, and the losses of what is labelled, by name."""
    species, positions = inputs.SpeciesNode(db_name="Z"), inputs.PositionsNode(db_name="R")
    shape = {
        "possible_species": [0, *elements],
        "n_features": n_features,
        "n_sensitivities": 20,
        "dist_soft_min": 0.75,
        "dist_soft_max": 5.5,
        "dist_hard_max": 6.5,
        "n_interaction_layers": 1,
        "n_atom_layers": 3,
    }
    network = networks.HipnnVec("network", (species, positions), module_kwargs=shape)
    outputs: list[Any] = []
    losses: dict[str, Any] = {}
    for level in levels:
        # A label that is not there has a name all the same, under which it is predicted.
        name, names = level["name"], [level[f"{kind}_key"] or f"{kind}_{level['name']}" for kind in KINDS]
        energy = targets.HEnergyNode(f"of_{name}", network, db_name=names[0])
        forces = physics.GradientNode(f"gradient_{name}", (energy, positions), sign=-1, db_name=names[1])
        for kind, node in zip(KINDS, (energy, forces)):
            outputs.append(node.main_output)
            if level[f"{kind}_key"]:
                losses[f"{kind}_{name}"] = MaskedLoss.of_node(node)
    return [species, positions], outputs, losses


def train(parts: dict[str, list[Atoms]], levels: list[dict[str, Any]], args: argparse.Namespace) -> Any:
    """Train, in a folder of its own; returns hippynn's predictor."""
    elements = sorted({int(z) for frame in parts["train"] for z in frame.numbers})
    data = database(parts, levels)
    asked, outputs, losses = nodes(elements, levels, args.features)
    weighted = [args.forces_weight * one if name.startswith("forces") else one for name, one in losses.items()]
    total = sum(weighted[1:], weighted[0])
    modules, names = hippynn.experiment.assemble_for_training(total, {**losses, "Loss": total})
    data.inputs, data.targets = names["inputs"], names["targets"]  # Z among these: it tells atoms from padding
    setup = hippynn.experiment.SetupParams(
        stopping_key="Loss",
        batch_size=args.batch,
        eval_batch_size=256,
        learning_rate=args.rate,
        max_epochs=args.epochs,
        device=args.device,
    )
    with hippynn.tools.active_directory(str(args.folder / "hippynn")):
        hippynn.experiment.setup_and_train(modules, data, setup)
    model = modules[0]
    print(f"Parameters: {sum(p.numel() for p in model.parameters())}; steps: {args.epochs * steps(parts, args.batch)}")
    return hippynn.graphs.Predictor(asked, outputs, model_device=args.device)


def steps(parts: dict[str, list[Atoms]], batch: int) -> int:
    """Gradient steps an epoch."""
    share = 1.0 if "valid" in parts else 0.9
    return -(-int(share * len(parts["train"])) // batch)


def predict(predictor: Any, frames: list[Atoms], levels: list[dict[str, Any]]) -> None:
    """Put predictions of every level into the frames, with atomic energies added again."""
    arrays = {name: torch.as_tensor(one) for name, one in structures(frames, max(map(len, frames))).items()}
    found = predictor(**arrays, batch_size=64)
    for level in levels:
        energy, forces = (level[f"{kind}_key"] or f"{kind}_{level['name']}" for kind in KINDS)
        energies = found[energy].numpy() + offsets(frames, level)
        for frame, one, vectors in zip(frames, energies, found[forces].numpy()):
            frame.info[f"energy_{level['name']}"] = float(one[0])
            frame.arrays[f"forces_{level['name']}"] = vectors[: len(frame)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("."), help="what mfbench exported (.)")
    parser.add_argument("--out", type=Path, default=Path("predicted.extxyz"))
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--forces-weight", type=float, default=10.0, help="of forces in the loss, energies having 1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    about = json.loads((args.folder / "train.extxyz.json").read_text())
    levels = [level for level in about["levels"].values() if level["energy_key"]]
    files = {part: args.folder / f"{part}.extxyz" for part in ("train", "valid", "test")}
    parts = {part: list(ase.io.iread(file, ":")) for part, file in files.items() if file.exists()}
    test = parts.pop("test")
    predict(train(parts, levels, args), test, levels)
    ase.io.write(args.out, test, format="extxyz")
    print(f"Written: {args.out}, with energy_NAME and forces_NAME of {', '.join(one['name'] for one in levels)}")


if __name__ == "__main__":
    main()
