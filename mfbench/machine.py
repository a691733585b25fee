"""What this process may use of the machine: the cores of its allocation, not those of the host."""

import math
import os
from pathlib import Path

_SCHEDULERS = ("SLURM_CPUS_PER_TASK", "PBS_NCPUS", "NCPUS", "LSB_DJOB_NUMPROC", "NSLOTS", "FLUX_TASK_CPUS")


def available_cores(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores for this process: the least of affinity, cgroup quota and the scheduler's allocation."""
    limits = [os.process_cpu_count() or 1 if hasattr(os, "process_cpu_count") else _affinity()]
    quota = _cgroup_quota(root)
    if quota is not None:
        limits.append(max(1, math.floor(quota)))
    limits += [int(os.environ[name]) for name in _SCHEDULERS if os.environ.get(name, "").isdigit()]
    return max(1, min(limits))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroup_quota(root: Path) -> float | None:
    """CPU quota in cores of cgroup v2 (``cpu.max``) or v1 (``cpu.cfs_quota_us``); None where unlimited."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        us = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        return us / int((root / "cpu" / "cpu.cfs_period_us").read_text()) if us > 0 else None
    except (OSError, ValueError):
        return None
