"""The threads and the device that torch may use here."""

import platform
from pathlib import Path

import torch

from mfbench.errors import UserError
from mfbench.machine import available_cores


def device_of(name: str) -> str:
    """The device called so; ``auto`` is a GPU where there is one. Raises UserError where there is none so called."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}: expected auto, cpu, cuda or cuda:K") from error
    if kind not in ("cpu", "cuda"):
        raise UserError(f"unknown device {name!r}: expected auto, cpu, cuda or cuda:K")
    if kind == "cuda" and (torch.device(name).index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name!r}: torch sees {torch.cuda.device_count()} GPUs here; use --device cpu")
    return name


def use_threads(asked: int | None) -> int:
    """Set torch's threads to what was asked for, or to the cores of this process's allocation."""
    threads = asked or available_cores()
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return threads


def device_name(device: torch.device) -> str:
    """The processor's or the accelerator's name, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
