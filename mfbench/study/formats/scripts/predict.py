"""Predict the exported test part with what was trained beside it: energies and forces of every level.

python predict.py model.pt          (of mtt train)
python predict.py model.ckpt.pt     (of dp --pt train)
python predict.py                   (of aimnet train; or with the model definition that was given to --model)
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io


def metatrain(args: argparse.Namespace, level: str) -> Any:
    from metatomic_ase import MetatomicCalculator

    beside = args.model.parent / "extensions"  # that mtt train writes with a model which needs them
    extensions = str(beside) if beside.is_dir() else None
    return MetatomicCalculator(
        args.model, extensions_directory=extensions, device=args.device, variants={"energy": level}
    )


def deepmd(args: argparse.Namespace, level: str) -> Any:
    from deepmd.calculator import DP

    return DP(args.model, head=level)


def aimnet(args: argparse.Namespace, level: str) -> Any:
    import aimnet
    from aimnet.calculators import AIMNet2ASE, AIMNet2Calculator
    from aimnet.train.export_model import export_model

    model = args.model or Path(aimnet.__file__).parent / "models" / "aimnet2.yaml"
    weights, made = args.folder / f"{level}.pt", str(args.folder / f"{level}.model.pt")
    export_model.callback(str(weights), made, str(model), str(args.folder / f"{level}.sae.yaml"), None, None)
    return AIMNet2ASE(AIMNet2Calculator(made, device=args.device))


CALCULATORS: dict[str, Callable[[argparse.Namespace, str], Any]] = {
    "metatrain": metatrain,
    "deepmd": deepmd,
    "aimnet": aimnet,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--folder", type=Path, default=Path("."), help="what mfbench exported (.)")
    parser.add_argument("--out", type=Path, default=Path("predicted.extxyz"))
    parser.add_argument("--device", default="cpu", help="of metatrain and AIMNet")
    args = parser.parse_args()
    about = json.loads((args.folder / "train.extxyz.json").read_text())
    if args.model is None and about["format"] != "aimnet":
        parser.error("expected the file of the trained model")
    names = [level["name"] for level in about["levels"].values() if level["energy_key"]]
    frames = list(ase.io.iread(args.folder / "test.extxyz", ":"))
    for frame in frames:
        frame.info.setdefault("charge", 0)  # AIMNet's calculator takes that of the frame before where there is none
    for name in names:
        calculator = CALCULATORS[about["format"]](args, name)
        for frame in frames:
            frame.calc = calculator
            frame.info[f"energy_{name}"] = float(frame.get_potential_energy())
            frame.arrays[f"forces_{name}"] = frame.get_forces()
            frame.calc = None
    ase.io.write(args.out, frames, format="extxyz")
    print(f"Written: {args.out}, with energy_NAME and forces_NAME of {', '.join(names)}")


if __name__ == "__main__":
    main()
