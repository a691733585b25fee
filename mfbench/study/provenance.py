"""Where a number came from: versions, commit, machine."""

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from mfbench.learning.threads import device_name
from mfbench.machine import available_cores
from mfbench.version import __version__

_PACKAGES = ("torch", "numpy", "pandas", "h5py", "schnetpack", "ase")


def commit() -> str:
    """Commit of the checkout that the package runs from, with ``+changes``; empty for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def describe(device: torch.device, threads: int) -> dict[str, Any]:
    """Versions, commit and machine."""
    versions = {"mfbench": __version__, "python": sys.version.split()[0]}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "versions": versions,
        "commit": commit(),
        "device": device_name(device),
        "device_type": device.type,
        "platform": platform.platform(),
        "cores": available_cores(),
        "threads": threads,
    }
