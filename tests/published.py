"""Small files in the schemas of the published datasets, made of the mini data, and manifests that declare them.

What differs from the shipped manifests is what must: addresses, sizes, hashes, counts and probes. Formats, keys,
levels, units, members and named sets stay, so that a test which passes here reads the published files.
"""

import copy
import shutil
from pathlib import Path
from typing import Any

import yaml
from writers import write_ani1x, write_md17_cc, write_rmd17

from mfbench import resources
from mfbench.data.datasets import load
from mfbench.data.manifest import Citation, DataFile, Manifest
from mfbench.data.structures import Structures
from mfbench.files import sha256


def make(folder: Path, manifests: Path, url: str) -> dict[str, Path]:
    """Write the files to a folder, and a folder of manifests and cases that take them from a server.

    Args:
        url: address of the folder on the server.

    Returns:
        The files by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(resources.manifests(), manifests)
    declared = {
        name: yaml.safe_load((manifests / f"{name}.yaml").read_text()) for name in ("ani1x", "rmd17", "md17-cc")
    }
    write_ani1x(folder / "ani1x-release.h5")
    write_rmd17(folder / "rmd17.tar.bz2", declared["rmd17"]["files"][0]["members"])
    for k, file in enumerate(declared["md17-cc"]["files"]):
        write_md17_cc(folder / file["name"], file["members"], k)
    for name, content in declared.items():
        content.pop("probes")
        content.pop("n_structures")
        content["n_molecules"] = {"ani1x": 18, "rmd17": 10, "md17-cc": 5}[name]
        for labels in content["labels"]:
            labels.pop("n_energy", None)
            labels.pop("n_forces", None)
        for file in content["files"]:
            path = folder / file["name"]
            file["urls"] = [f"{url}/{file['name']}"]
            if file.get("sha256"):
                file |= {"sha256": sha256(path), "bytes": path.stat().st_size}
            for member in file.get("members", ()):
                member.pop("n_structures", None)
                member.pop("md5", None)
        (manifests / f"{name}.yaml").write_text(yaml.safe_dump(content))
    smaller = {"test": 0.25, "validation": 20, "max_test": 50, "sizes": [40]}
    for name in ("ani1ccx", "ani1x-tz", "rmd17-cc"):
        path = manifests / "cases" / f"{name}.yaml"
        content = yaml.safe_load(path.read_text())
        for key, rules in content["data"].items():
            if key != "mini":
                rules |= copy.deepcopy(smaller)
                if "unseen_molecules" in rules:
                    rules["unseen_molecules"] = 3
                if "high_pool" in rules:
                    rules["high_pool"] = 60
        path.write_text(yaml.safe_dump(content))
    return {path.name: path for path in folder.iterdir()}


# Files at hand


def declare(fmt: str, paths: list[Path], n: int, labels: list[dict[str, Any]]) -> Manifest:
    """A manifest of files at hand."""
    return Manifest.model_validate(
        {
            "name": "own",
            "title": "at hand",
            "format": fmt,
            "license": "any",
            "citation": Citation(text="somebody"),
            "n_structures": n,
            "files": [DataFile(name=path.name, bytes=path.stat().st_size, sha256=sha256(path)) for path in paths],
            "labels": labels,
        }
    )


def label(
    level: str, energy: str, forces: str | None, unit: str, n: int, n_forces: int | None = None
) -> dict[str, Any]:
    """One level's labels in a manifest, the forces in ``unit``/Angstrom."""
    return {
        "level": level,
        "energy": {"key": energy, "unit": unit},
        "forces": forces and {"key": forces, "unit": f"{unit}/Angstrom"},
        "n_energy": n,
        "n_forces": (n if n_forces is None else n_forces) if forces else 0,
    }


RMD17 = label("pbe/def2-svp", "energies", "forces", "kcal/mol", 2000)


def rmd17_split(folder: Path, molecule: str) -> Structures:
    paths = [folder / "rmd17" / f"rmd17_{molecule}_{part}_01.npz" for part in ("train", "test")]
    return load(declare("rmd17", paths, 2000, [RMD17]), folder)


def md17_cc(folder: Path, names: tuple[str, ...], level: str, n: int) -> Structures:
    paths = [folder / "md17_cc" / name for name in names]
    return load(declare("sgdml", paths, n, [label(level, "E", "F", "kcal/mol", n)]), folder)
