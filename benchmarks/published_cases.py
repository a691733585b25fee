"""The three cases at the size of the published data, by the commands of the README, without the network.

Twins of the published files are made in their schemas, with as many structures and plausible numbers, and served on
this machine; then they are pulled, verified, converted and trained on as a user would do it. Their labels are made
up: time and memory are what is measured, and `data check`, which is timed too, refuses them as it should.

    python benchmarks/published_cases.py --fraction 0.1 --frames 5000
    python benchmarks/published_cases.py --folder /scratch --out benchmarks/results/published-cases-DATE.json
"""

import argparse
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import ani1x_scale
import numpy as np
import yaml
from numpy.typing import NDArray

from mfbench import resources, units
from mfbench.elements import numbers_of
from mfbench.files import sha256

FORMULAS = {
    "aspirin": "C9H8O4",
    "azobenzene": "C12H10N2",
    "benzene": "C6H6",
    "ethanol": "C2H6O",
    "malonaldehyde": "C3H4O2",
    "naphthalene": "C10H8",
    "paracetamol": "C8H9NO2",
    "salicylic": "C7H6O3",
    "toluene": "C7H8",
    "uracil": "C4H4N2O2",
}
SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O"}


def trajectory(molecule: str, frames: int, seed: int) -> dict[str, NDArray]:
    """Numbers (N,), positions (F, N, 3) in Angstrom, energies and forces in kcal/mol and kcal/mol/Angstrom."""
    rng = np.random.default_rng(seed)
    numbers = numbers_of(FORMULAS[molecule])
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3)[: len(numbers)] * 1.4
    free = sum(ani1x_scale.isolated_atoms()[SYMBOLS[int(z)]]["pbe_svp.energy"] for z in numbers) * units.HARTREE
    shape = (frames, len(numbers), 3)
    return {
        "numbers": numbers,
        "positions": grid + rng.normal(0, 0.1, shape),
        "energies": (free - 4.5 * len(numbers) + rng.normal(0, 0.2, frames)) / units.EV_PER_KCAL,
        "forces": rng.normal(0, 1.1, shape) / units.EV_PER_KCAL,
    }


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def write_rmd17(path: Path, members: list[dict[str, Any]], frames: int) -> None:
    """An archive of all ten molecules and the five official splits."""
    with tarfile.open(path, "w:bz2") as archive:
        for member in members:
            if named := member.get("index_of"):
                order = np.random.default_rng(int(named[-1])).permutation(frames)
                count = min(1000, frames // 2)
                rows = order[:count] if named.startswith("train") else order[count : 2 * count]
                raw = "".join(f"{row}\n" for row in rows).encode()
            else:
                made = trajectory(member["molecule"], frames, seed=len(member["molecule"]))
                raw = npz(
                    nuclear_charges=made["numbers"],
                    coords=made["positions"],
                    energies=made["energies"],
                    forces=made["forces"],
                    old_indices=np.arange(frames),
                    old_energies=made["energies"],
                    old_forces=made["forces"],
                )
            info = tarfile.TarInfo(member["path"])
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))


def write_md17_cc(path: Path, members: list[dict[str, Any]], frames: int) -> None:
    """A zip of a training and a test file; the first geometries recur, turned, in the rMD17 twin."""
    with zipfile.ZipFile(path, "w") as archive:
        for k, member in enumerate(members):
            count = min(member["n_structures"], frames // 2)
            made = trajectory(member["molecule"], count, seed=100 + k)
            recurring = trajectory(member["molecule"], frames, seed=len(member["molecule"]))["positions"][
                k * 5 : k * 5 + 5
            ]
            turn = np.linalg.qr(np.random.default_rng(k).normal(size=(3, 3)))[0]
            made["positions"][:5] = recurring @ turn + 1
            energies = made["energies"][:, None]
            raw = npz(z=made["numbers"], R=made["positions"], E=energies, F=made["forces"], name=member["molecule"])
            archive.writestr(member["path"], raw)


def publish(folder: Path, port: int, fraction: float, frames: int, raw: Path | None) -> None:
    """Make the files, and manifests that take them from a server on this machine."""
    served, manifests = folder / "served", folder / "manifests"
    served.mkdir(parents=True)
    shutil.copytree(resources.manifests(), manifests)
    for name in ("ani1x", "rmd17", "md17-cc"):
        content = yaml.safe_load((manifests / f"{name}.yaml").read_text())
        for key in ("probes", "n_structures", "n_molecules"):
            content.pop(key)
        for labels in content["labels"]:
            labels["n_energy"] = labels["n_forces"] = None
        for file in content["files"]:
            path = served / file["name"]
            if name == "ani1x" and raw is not None:
                os.link(raw, path)
            elif name == "ani1x":
                ani1x_scale.write_release(path, ani1x_scale.plan(fraction), ani1x_scale.isolated_atoms())
            elif name == "rmd17":
                write_rmd17(path, file["members"], frames)
            else:
                write_md17_cc(path, file["members"], frames)
            file["urls"] = [f"http://127.0.0.1:{port}/{path.name}"]
            if file.get("sha256"):
                file |= {"sha256": sha256(path), "bytes": path.stat().st_size}
            for member in file.get("members", ()):
                member.pop("md5", None)
                member.pop("n_structures", None)
        (manifests / f"{name}.yaml").write_text(yaml.safe_dump(content))


def command(folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Run ``mfbench`` in a process of its own, on the twins; time, peak memory and what it said."""
    code = (
        "import sys; from pathlib import Path; from mfbench import resources; from mfbench.cli.main import main; "
        f"resources.manifests = lambda: Path({str(folder / 'manifests')!r}); sys.exit(main(sys.argv[1:]))"
    )
    environment = {**os.environ, "MFBENCH_DATA": str(folder / "cache")}
    began = time.monotonic()
    done = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    out = done.stdout.read() if done.stdout else ""
    _, code_of_exit, usage = os.wait4(done.pid, 0)
    wanted = ("Data:", "Training:", "mfbench: error")
    told = [line.strip() for line in out.splitlines() if line.startswith(wanted) or "steps in" in line]
    row = {
        "command": f"mfbench {' '.join(arguments)}",
        "seconds": round(time.monotonic() - began, 1),
        "peak_MiB": round(usage.ru_maxrss / 1024),
        "exit": os.waitstatus_to_exitcode(code_of_exit),
        "told": told,
    }
    print(f"{row['command']}: {row['seconds']} s, peak {row['peak_MiB']:,} MiB, exit {row['exit']}", flush=True)
    for line in told:
        print(f"    {line}", flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where some 20 GB go (a temporary folder)")
    parser.add_argument("--fraction", type=float, default=1.0, help="of ANI-1x's 4,956,005 conformers")
    parser.add_argument("--frames", type=int, default=100_000, help="of each rMD17 molecule")
    parser.add_argument("--raw", type=Path, help="a twin of ani1x-release.h5 that is there already, on the same disk")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        began = time.monotonic()
        publish(folder, port, args.fraction, args.frames, args.raw)
        print(f"twins made in {time.monotonic() - began:.0f} s", flush=True)
        web = [
            sys.executable,
            "-m",
            "http.server",
            str(port),
            "--bind",
            "127.0.0.1",
            "--directory",
            str(folder / "served"),
        ]
        server = subprocess.Popen(web, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            few = ["--arm", "MF", "--steps", str(args.steps), "--device", "cpu", "--yes"]
            rows = [
                command(folder, ["data", "pull", "ani1x", "--yes"]),
                command(folder, ["data", "pull", "rmd17", "--yes"]),
                command(folder, ["data", "pull", "md17-cc", "--yes"]),
                command(folder, ["run", "ani1ccx", "--data", "published", *few]),
                command(folder, ["run", "ani1x-tz", "--data", "published", *few]),
                command(folder, ["run", "rmd17-cc", "--data", "ethanol", *few]),
                command(folder, ["run", "rmd17-cc", "--data", "aspirin", *few]),
                command(folder, ["data", "check", "ani1x"]),
                command(folder, ["data", "check", "rmd17"]),
            ]
        finally:
            server.terminate()
            server.wait()
    if args.out:
        report = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": ani1x_scale.describe(),
            "fraction": args.fraction,
            "frames": args.frames,
            "steps": args.steps,
            "rows": rows,
        }
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    failed = [row["command"] for row in rows if row["exit"] and " data check " not in row["command"]]
    if failed:
        sys.exit(f"failed: {failed}")


if __name__ == "__main__":
    main()
