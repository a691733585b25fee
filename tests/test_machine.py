"""Cores: the least of affinity, cgroup quotas and the scheduler's allocation."""

import os
from pathlib import Path

import pytest

from mfbench import machine


@pytest.fixture(autouse=True)
def host_of_64_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    for name in machine._SCHEDULERS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "cgroup").mkdir()
    return tmp_path / "cgroup"


def cores(tree: Path, membership: str = "0::/\n") -> int:
    own = tree.parent / "self"
    own.write_text(membership)
    return machine.available_cores(tree, own)


def write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def test_affinity_alone(tree: Path) -> None:
    assert cores(tree) == 64
    assert machine.available_cores(tree / "absent", tree / "absent") == 64


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("max 100000\n", 64),
        ("400000 100000\n", 4),
        ("250000 100000\n", 2),
        ("50000 100000\n", 1),
        ("9900000 100000\n", 64),
        ("nonsense", 64),
    ],
)
def test_cgroup_v2(tree: Path, content: str, expected: int) -> None:
    write(tree / "cpu.max", content)
    assert cores(tree) == expected


@pytest.mark.parametrize(("quota", "expected"), [("300000", 3), ("-1", 64), ("10000", 1)])
def test_cgroup_v1(tree: Path, quota: str, expected: int) -> None:
    write(tree / "cpu" / "cpu.cfs_quota_us", f"{quota}\n")
    write(tree / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert cores(tree, "3:cpuset:/x\n1:cpu,cpuacct:/\n0::/\n") == expected


def test_the_tightest_cgroup_above_the_process_counts(tree: Path) -> None:
    write(tree / "cpu.max", "max 100000")
    write(tree / "slice" / "cpu.max", "600000 100000")
    write(tree / "slice" / "job.scope" / "cpu.max", "max 100000")
    write(tree / "other" / "cpu.max", "100000 100000")
    assert cores(tree, "0::/slice/job.scope\n") == 6
    write(tree / "slice" / "job.scope" / "cpu.max", "500000 100000")
    assert cores(tree, "0::/slice/job.scope\n") == 5


def test_nested_cgroup_v1(tree: Path) -> None:
    write(tree / "cpu" / "job" / "cpu.cfs_quota_us", "700000")
    write(tree / "cpu" / "job" / "cpu.cfs_period_us", "100000")
    assert cores(tree, "4:cpu,cpuacct:/job\n3:memory:/other\n") == 7


def test_a_path_of_the_host_that_the_container_does_not_see(tree: Path) -> None:
    write(tree / "cpu.max", "200000 100000")
    assert cores(tree, "0::/docker/0123abc\n") == 2


@pytest.mark.parametrize("name", ["SLURM_CPUS_PER_TASK", "NCPUS", "LSB_DJOB_NUMPROC", "NSLOTS"])
def test_scheduler(tree: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "8")
    assert cores(tree) == 8
    monkeypatch.setenv(name, "")
    assert cores(tree) == 64
    monkeypatch.setenv(name, "0")
    assert cores(tree) == 64


def test_least_of_all(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tree / "cpu.max", "500000 100000")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert cores(tree) == 5
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 7}, raising=False)
    assert cores(tree) == 2
