"""What this process may use of the machine: the cores of its allocation, not those of the host."""

import os
from collections.abc import Iterator
from pathlib import Path

# Cores per process as SLURM, PBS, LSF and Grid Engine (in this order) tell their jobs, and as people do.
_SCHEDULERS = ("SLURM_CPUS_PER_TASK", "NCPUS", "LSB_DJOB_NUMPROC", "NSLOTS", "OMP_NUM_THREADS")


def available_cores(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Cores for this process: the least of affinity, cgroup quotas and the scheduler's allocation."""
    values = (os.environ.get(name, "") for name in _SCHEDULERS)
    allocated = [int(value) for value in values if value.isdecimal() and int(value) > 0]
    limits = [_affinity(), *allocated, *_quotas(root, membership)]
    return min(max(1, int(limit)) for limit in limits)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path, membership: Path) -> Iterator[float]:
    """CPU quotas, in cores, of the process's own cgroup and of all above it (cgroup v2 and v1)."""
    for folder in _cgroups(root, membership):
        try:
            if (folder / "cpu.max").exists():  # v2
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            if int(quota) > 0:  # v1 says -1 for no limit
                yield int(quota) / int(period)
        except (OSError, ValueError):  # no such controller here, or "max": no limit
            continue


def _cgroups(root: Path, membership: Path) -> Iterator[Path]:
    """Folders that may limit this process; in a container its own path may not exist: then the roots do."""
    yield root
    yield root / "cpu"
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:  # hierarchy:controllers:/path, with no controllers for v2
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            top = root / "cpu" if controllers else root
            parts = Path(path).parts[1:]
            yield from (top.joinpath(*parts[: depth + 1]) for depth in range(len(parts)))


def memory(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes of memory for this process: the machine's, or less where a cgroup says so; None where nothing tells."""
    limits = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for folder in _cgroups(root, membership):
        for name in ("memory.max", "memory.limit_in_bytes"):  # cgroup v2, v1
            try:
                limits.append(int((folder / name).read_text()))
            except (OSError, ValueError):  # no such controller here, or "max": no limit
                continue
    return min(limits, default=None)
