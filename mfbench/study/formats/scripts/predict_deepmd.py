"""Predict the exported test part with a model of ``dp --pt train input.json``: energies and forces of every level.

python predict_deepmd.py model.ckpt.pt
"""

import argparse
import json
from pathlib import Path

import ase.io
from deepmd.calculator import DP


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("."), help="what mfbench exported (.)")
    parser.add_argument("--out", type=Path, default=Path("predicted.extxyz"))
    args = parser.parse_args()
    about = json.loads((args.folder / "train.extxyz.json").read_text())
    names = [level["name"] for level in about["levels"].values()]
    frames = list(ase.io.iread(args.folder / "test.extxyz", ":"))
    for name in names:
        calculator = DP(args.model, head=name)
        for frame in frames:
            frame.calc = calculator
            frame.info[f"energy_{name}"] = float(frame.get_potential_energy())
            frame.arrays[f"forces_{name}"] = frame.get_forces()
            frame.calc = None
    ase.io.write(args.out, frames, format="extxyz")
    print(f"Written: {args.out}, with energy_NAME and forces_NAME of {', '.join(names)}")


if __name__ == "__main__":
    main()
