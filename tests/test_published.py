"""The published datasets end to end, from a server on this machine that serves small files in their schemas."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import writers
import yaml
from conftest import RUN_FILES, Site
from problems import same_structures
from server import status

from mfbench import resources
from mfbench.bars import Transfer, transfers
from mfbench.cli.main import main
from mfbench.data import cache, catalogue, datasets, store
from mfbench.data.datasets import DataMissing
from mfbench.data.manifest import manifest
from mfbench.data.subset import Subset
from mfbench.errors import DataCorrupt, UserError

Capture = pytest.CaptureFixture[str]
MOLECULES = ("ethanol", "malonaldehyde", "aspirin", "benzene", "toluene")
FEW = ["--steps", "3", "--device", "cpu", "--n-high", "20"]


def metrics(folder: Path) -> pd.DataFrame:
    (run,) = folder.iterdir()
    assert {path.name for path in run.iterdir()} == RUN_FILES
    return pd.read_parquet(run / "metrics.parquet")


def high(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["role"] == "high") & (table["metric"] == "mae") & (table["part"] == "test")].set_index(
        "quantity"
    )


# the three cases


@pytest.mark.parametrize("arm", ["MF", "SF-E"])
@pytest.mark.parametrize("case", ["ani1ccx", "ani1x-tz"])
def test_ani_cases(case: str, arm: str, site: Site, capsys: Capture) -> None:
    """Pulled, verified, converted and trained on, and all that is about to happen is told first."""
    assert main(["run", case, "--data", "published", "--arm", arm, "--yes", *FEW]) == 0
    out = capsys.readouterr().out
    assert "ani1x-release.h5" in out
    assert "verified" in out
    assert "converted and checked" in out
    assert "structures with" in out
    assert "in memory" in out
    assert "3 steps, about" in out
    table = metrics(Path("runs"))
    assert set(table["data"]) == {"published"}
    assert high(table).loc["energy", "n"] == 50
    assert (high(table).loc["force", "n"] > 0) == (case == "ani1x-tz")
    assert set(table["part"]) == {"test", "unseen"}
    assert len([one for one in site.server.requests if "ani1x" in one.path]) == 1


@pytest.mark.parametrize("molecule", MOLECULES)
def test_one_molecule_cases(molecule: str, site: Site) -> None:
    """Official split below, official split above; geometries that recur are never trained on."""
    assert main(["run", "rmd17-cc", "--data", molecule, "--arm", "MF", "--yes", *FEW]) == 0
    table = metrics(Path("runs"))
    assert set(table["data"]) == {molecule}
    assert high(table).loc["force", "n"] > 0
    expected = {"ethanol": "ccsd(t)/cc-pvtz", "aspirin": "ccsd/cc-pvdz"}.get(molecule, "ccsd(t)/cc-pvdz")
    assert set(table.loc[table["role"] == "high", "level"]) == {expected}
    (run,) = Path("runs").iterdir()
    with np.load(run / "split.npz") as split:
        files = split["files"][split["structure_file"]]
        low = files[split["low_pool"]]
        assert set(low) == {f"rmd17_{molecule}.npz"}
        rows = split["structure_row"][split["low_pool"]]
    whole = datasets.load("rmd17", subset=Subset(molecules=(molecule,)))
    assert whole.in_set("train_01")[rows].all()
    assert not whole.in_set("test_01")[rows].any()


def test_published_is_ethanol(site: Site) -> None:
    assert main(["run", "rmd17-cc", "--data", "published", "--arm", "SF-E", "--yes", *FEW]) == 0
    assert set(metrics(Path("runs"))["data"]) == {"ethanol"}


def test_a_second_run_needs_no_network(site: Site) -> None:
    run = ["run", "rmd17-cc", "--data", "ethanol", "--arm", "SF-E", *FEW]
    assert main([*run, "--yes"]) == 0
    site.server.requests.clear()
    assert main([*run, "--seed", "1", "--offline"]) == 0
    assert not site.server.requests


def test_by_way_of_faults(site: Site) -> None:
    """A failure on the way costs a try, never the result."""
    site.server.faults["ani1x-release.h5"] = [status(503)]
    assert main(["run", "ani1ccx", "--data", "published", "--arm", "SF-E", "--yes", *FEW]) == 0
    assert high(metrics(Path("runs"))).loc["energy", "n"] == 50


# asking


def failed(arguments: list[str], capsys: Capture) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


RUN = ["run", "rmd17-cc", "--data", "ethanol", "--arm", "SF-E", *FEW]


def test_nobody_to_ask(site: Site, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    line = failed(RUN, capsys)
    assert "rmd17 (528 kB) and md17-cc (size not published) are not on this machine. Download and convert?" in line
    assert "--yes" in line
    assert not site.server.requests
    assert not Path("runs").exists()


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("Yes", 0), ("", 2), ("n", 2)])
def test_asked(answer: str, code: int, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    assert main(RUN) == code
    (question,) = asked  # one, for all that is missing
    assert "rmd17" in question
    assert "md17-cc" in question
    assert bool(site.server.requests) == (code == 0)


def test_offline(site: Site, capsys: Capture) -> None:
    line = failed([*RUN, "--offline"], capsys)
    assert "rmd17" in line
    assert "offline" in line
    assert not site.server.requests


def test_large_downloads_ask(site: Site, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mfbench.cli.data.ASK_ABOVE", 1000)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    line = failed(["data", "pull", "ani1x"], capsys)
    assert "Pulling ani1x downloads 416 kB to" in line
    assert not site.server.requests
    assert main(["data", "pull", "ani1x", "--yes"]) == 0


# data commands


def output(arguments: list[str], capsys: Capture) -> str:
    capsys.readouterr()
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_the_life_of_a_dataset(site: Site, capsys: Capture) -> None:
    assert "not here" in next(line for line in output(["data", "list"], capsys).splitlines() if "rmd17 " in line)
    assert str(site.cache) in output(["data", "where"], capsys)
    assert "rmd17 is not here; it would go to" in output(["data", "where", "rmd17"], capsys)
    out = output(["data", "pull", "rmd17"], capsys)
    assert "rmd17.tar.bz2 (" in out
    assert "verified" in out
    assert "ready" in next(line for line in output(["data", "list"], capsys).splitlines() if "rmd17 " in line)
    assert output(["data", "pull", "rmd17"], capsys) == "rmd17 is ready\n"
    info = output(["data", "info", "rmd17"], capsys)
    for text in ("CC0-1.0", "10.1088/2632-2153/abba6f", "at most 1,000 structures", "sha256", "train_01", "@article"):
        assert text in info
    where = output(["data", "where", "rmd17"], capsys).split()
    assert where == [str(site.cache / "rmd17" / name) for name in ("rmd17.tar.bz2", "rmd17.mfbench.h5")]
    checked = output(["data", "check", "rmd17"], capsys)
    assert "rmd17.tar.bz2, by hash" in checked
    assert "FAILED" not in checked
    assert checked.count("\n  ok") > 10
    assert "removed" in output(["data", "rm", "rmd17", "--raw", "--yes"], capsys)
    assert [path.name for path in (site.cache / "rmd17").glob("rmd17*")] == ["rmd17.mfbench.h5"]
    assert "removed" in output(["data", "rm", "rmd17", "--yes"], capsys)
    assert not (site.cache / "rmd17").exists()
    assert "nothing to remove" in failed(["data", "rm", "rmd17", "--yes"], capsys)


@pytest.mark.parametrize("name", ["ani1x", "md17-cc"])
def test_pull_and_check(name: str, site: Site, capsys: Capture) -> None:
    output(["data", "pull", name], capsys)
    checked = output(["data", "check", name], capsys)
    assert "FAILED" not in checked


def test_shipped_datasets(site: Site, capsys: Capture) -> None:
    assert "ships with mfbench" in output(["data", "pull", "mini-ani1x"], capsys)
    assert "FAILED" not in output(["data", "check", "mini-ani1x"], capsys)
    assert "mini-ani1x.h5" in output(["data", "where", "mini-ani1x"], capsys)
    assert "stays" in failed(["data", "rm", "mini-ani1x"], capsys)


def test_a_site_cache_is_read_and_not_written(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["data", "pull", "rmd17"]) == 0
    before = sorted(site.cache.rglob("*"))
    monkeypatch.setenv("MFBENCH_DATA", f"{site.cache}:{tmp_path / 'own'}")
    site.server.requests.clear()
    assert main([*RUN, "--yes"]) == 0
    assert sorted(site.cache.rglob("*")) == before
    assert {path.name for path in (tmp_path / "own").iterdir()} == {"md17-cc"}
    assert not [one for one in site.server.requests if "rmd17" in one.path]


def test_raw_files_of_a_site_cache_are_converted_elsewhere(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "rmd17.tar.bz2").write_bytes(site.files["rmd17.tar.bz2"].read_bytes())
    monkeypatch.setenv("MFBENCH_DATA", f"{shared}:{tmp_path / 'own'}")
    assert main(["data", "pull", "rmd17"]) == 0
    assert [path.name for path in shared.iterdir()] == ["rmd17.tar.bz2"]
    assert cache.find("rmd17", "rmd17.mfbench.h5") == tmp_path / "own" / "rmd17" / "rmd17.mfbench.h5"
    assert not site.server.requests


def test_a_changed_raw_file_is_noticed(site: Site, capsys: Capture) -> None:
    assert main(["data", "pull", "rmd17"]) == 0
    raw = site.cache / "rmd17" / "rmd17.tar.bz2"
    raw.write_bytes(raw.read_bytes()[:-1] + b"x")
    assert "expected sha256" in failed(["data", "check", "rmd17"], capsys)
    (site.cache / "rmd17" / "rmd17.mfbench.h5").unlink()
    assert "expected sha256" in failed(["data", "convert", "rmd17"], capsys)
    with pytest.raises(DataCorrupt, match="expected sha256"):
        datasets.load("rmd17")


def test_convert_from_a_folder(site: Site, tmp_path: Path, capsys: Capture) -> None:
    folder, out = site.files["rmd17.tar.bz2"].parent, tmp_path / "out" / "r.h5"
    assert str(out) in output(["data", "convert", "rmd17", "--data-folder", str(folder), "--out", str(out)], capsys)
    assert store.is_current(out, manifest("rmd17"))
    assert not site.cache.exists()
    with pytest.raises(DataMissing):
        datasets.load("rmd17")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["data"], "the following arguments are required: COMMAND"),
        (["data", "pull"], "required: NAME"),
        (["data", "pull", "rmd18"], "unknown dataset 'rmd18': expected one of"),
        (["data", "check", "rmd17"], "mfbench data pull rmd17"),
        (["data", "convert", "rmd17"], "mfbench data pull rmd17"),
        (["data", "convert", "rmd17", "--data-folder", "absent"], "no file 'rmd17.tar.bz2' in absent"),
        (["data", "import", "absent.extxyz", "--manifest", "absent.yaml"], "cannot read absent.yaml"),
        (["data", "rm", "../x", "--yes"], "unknown dataset '../x'"),
    ],
)
def test_bad_commands(arguments: list[str], expected: str, site: Site, capsys: Capture) -> None:
    assert expected in failed(arguments, capsys)


# one's own data


OWN: dict[str, Any] = {
    "title": "Mine",
    "format": "extxyz",
    "license": "not published",
    "citation": {"text": "me"},
    "labels": [
        {
            "level": "pbe/def2-svp",
            "energy": {"key": "pbe_energy", "unit": "eV"},
            "forces": {"key": "pbe_forces", "unit": "eV/Angstrom"},
        },
        {"level": "mymethod@75", "energy": {"key": "ccsd_energy", "unit": "Ha"}},
    ],
}


def write_own(folder: Path, **changes: Any) -> list[str]:
    """One's own data and their manifest; the arguments that import them."""
    writers.write_own(folder / "mydata.extxyz")
    return write_own_manifest(folder, **changes)


def write_own_manifest(folder: Path, **changes: Any) -> list[str]:
    (folder / "mydata.yaml").write_text(yaml.safe_dump(OWN | changes))
    return ["data", "import", "mydata.extxyz", "--manifest", "mydata.yaml"]


def test_import_and_run(site: Site, tmp_path: Path, capsys: Capture) -> None:
    out = output(write_own(tmp_path), capsys)
    assert "mydata is ready" in out
    assert "FAILED" not in out
    assert "ready" in next(line for line in output(["data", "list"], capsys).splitlines() if line.startswith("mydata"))
    assert "300" in output(["data", "info", "mydata"], capsys)
    assert output(["data", "check", "mydata"], capsys)
    (tmp_path / "mydata.extxyz").unlink()  # the cache holds all that is needed
    case = {
        "name": "mycase",
        "title": "Mine",
        "basis": "my own",
        "low": "pbe/def2-svp",
        "high": "mymethod@75",
        "data": {"mini": {"datasets": ["mydata"], "overlap": "nested", "test": 0.2, "sizes": [30]}},
    }
    Path("mycase.yaml").write_text(yaml.safe_dump(case))
    assert main(["run", "mycase.yaml", "--arm", "MF", "--steps", "3", "--device", "cpu"]) == 0
    table = metrics(Path("runs"))
    assert set(table["level"]) == {"pbe/def2-svp", "mymethod@75"}
    assert high(table).loc["energy", "n"] == 60


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": "rmd17"}, "the name 'rmd17' is taken"),
        ({"files": [{"name": "x", "sha256": "0" * 64}]}, "files: expected a name and labels for each file"),
        ({"format": "pickle"}, "format: Input should be"),
        ({"title": None}, "title: Input should be a valid string"),
        ({"n_structures": 299}, "expected 299 structures, got 300"),
        ({"lables": []}, "lables: unknown key; did you mean 'labels'"),
        (
            {"labels": [{"level": "pbe/def2-svp", "energy": {"key": "pbe_energy", "unit": "kcal/mol"}}]},
            "expected atomisation energies",
        ),
        ({"labels": [{"level": "pbe/def2-svp", "energy": {"key": "nothing", "unit": "eV"}}]}, "['nothing']"),
    ],
)
def test_imports_that_are_refused_leave_nothing(
    changes: dict[str, Any], expected: str, site: Site, tmp_path: Path, capsys: Capture
) -> None:
    assert expected in failed(write_own(tmp_path, **changes), capsys)
    assert "mydata" not in output(["data", "list"], capsys)
    assert not [path for path in site.cache.rglob("*") if path.is_file() and not path.name.endswith(".lock")]


def test_a_refused_import_leaves_the_earlier_one(site: Site, tmp_path: Path, capsys: Capture) -> None:
    output(write_own(tmp_path), capsys)
    before = datasets.load("mydata")
    raw = (tmp_path / "mydata.extxyz").read_text()
    (tmp_path / "mydata.extxyz").write_text(raw.replace("pbe_energy=-", "pbe_energy=-9"))
    assert "expected atomisation energies" in failed(write_own_manifest(tmp_path), capsys)
    same_structures(datasets.load("mydata"), before)


def test_the_search_goes_on_after_a_stale_converted_file(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["data", "pull", "rmd17"]) == 0
    stale = tmp_path / "shared" / "rmd17" / "rmd17.mfbench.h5"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of an earlier version")
    monkeypatch.setenv("MFBENCH_DATA", f"{tmp_path / 'shared'}:{site.cache}")
    assert datasets.find_converted(manifest("rmd17")) == site.cache / "rmd17" / "rmd17.mfbench.h5"


# rMD17's rule


def test_more_than_the_authors_allow(site: Site, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error; with the override, the results say so."""
    path = resources.manifests() / "rmd17.yaml"
    content = yaml.safe_load(path.read_text()) | {"max_train": 30}
    folder = Path.cwd() / "manifests"
    folder.mkdir()
    for shipped in path.parent.glob("*.yaml"):
        (folder / shipped.name).write_text(shipped.read_text())
    (folder / "rmd17.yaml").write_text(yaml.safe_dump(content))
    cases = resources.cases()
    monkeypatch.setattr(resources, "manifests", lambda: folder)
    monkeypatch.setattr(resources, "cases", lambda: cases)
    run = ["run", "rmd17-cc", "--data", "ethanol", "--arm", "MF", "--yes", "--n-low", "31", *FEW]
    line = failed(run, capsys)
    assert "at most 30 low-level training structures, got 31" in line
    assert "--exceed-max-train" in line
    assert main([*run, "--exceed-max-train"]) == 0
    table = metrics(Path("runs"))
    assert set(table["n_low"]) == {31}
    assert all("exceed_max_train=True" in name for name in table["preset"])


def test_both_levels_count(site: Site, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one set gives both levels, its authors' limit is on all that is trained on."""
    content = yaml.safe_load((resources.manifests() / "rmd17.yaml").read_text()) | {"max_train": 50}
    (tmp_path / "rmd17.yaml").write_text(yaml.safe_dump(content))
    case = {
        "name": "mycase",
        "title": "Two DFTs",
        "basis": "a test",
        "low": "pbe/def2-svp",
        "high": "pbe+vdw-ts",
        "data": {
            "mini": {
                "datasets": ["rmd17.yaml"],
                "subsets": {"rmd17": {"molecules": ["ethanol"]}},
                "overlap": "disjoint",
                "test": 0.1,
                "validation": 10,
                "high_pool": 40,
                "sizes": [30],
            }
        },
    }
    (tmp_path / "mycase.yaml").write_text(yaml.safe_dump(case))
    run = ["run", "mycase.yaml", "--arm", "MF", "--steps", "2", "--device", "cpu", "--yes"]
    assert main(["data", "pull", "rmd17"]) == 0
    line = failed(run, capsys)
    assert "rmd17: expected at most 50 training structures at both levels together, got" in line
    assert main([*run, "--exceed-max-train"]) == 0


def test_a_finished_run_needs_its_data_no_more(site: Site, capsys: Capture) -> None:
    first = output([*RUN, "--yes"], capsys)
    assert main(["data", "rm", "rmd17", "--yes"]) == 0
    again = output([*RUN, "--offline"], capsys)
    assert again.splitlines()[-1] == first.splitlines()[-1]


def test_a_large_dataset_is_converted_from_a_folder(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And from then on read from what was converted, whatever the folder."""
    monkeypatch.setattr(datasets, "_SMALL", 1000)
    folder = site.files["rmd17.tar.bz2"].parent
    loaded = datasets.load("rmd17", folder, ("pbe/def2-svp",), Subset(molecules=("uracil",)))
    assert len(loaded) == writers.FRAMES
    assert (site.cache / "rmd17" / "rmd17.mfbench.h5").is_file()


def test_no_space_to_convert(site: Site, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = site.files["rmd17.tar.bz2"].parent
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2_000_000))
    line = failed(["data", "convert", "rmd17", "--data-folder", str(folder)], capsys)
    assert "converting rmd17 needs about" in line
    assert "where 2 are free: remove data with `mfbench data rm`" in line


def test_the_bar_of_a_download_tells_what_it_waits_for(capsys: Capture) -> None:
    with transfers() as show:
        for done, state in ((0, "connecting"), (0, "retrying: HTTP 503"), (500, "downloading"), (0, "connecting")):
            show(Transfer("x.h5", done, 1000, "host", state))
    shown = capsys.readouterr().err
    assert "x.h5" in shown.split("\r")[1]
    assert "retrying: HTTP 503, host" in shown


def test_records_of_a_datasets_life(site: Site) -> None:
    """What another program needs is typed: no sentence has to be taken apart."""
    name, told = "md17-cc", list[catalogue.Outcome]()
    entry = next(one for one in catalogue.listing() if one.name == name)
    assert (entry.state.where, entry.state.files_here, entry.downloadable) == ("not here", 0, True)
    assert entry.levels == manifest(name).levels
    place = catalogue.where(name)
    assert (place.paths, place.folder) == ((), site.cache / name)
    (folder,) = catalogue.search_path()
    assert (folder.path, folder.written) == (site.cache, True)

    done = catalogue.pull(name, told=told.append)
    assert done == told
    assert [one.done for one in done] == ["downloaded"] * entry.state.files + ["converted"]
    assert all(one.bytes == one.path.stat().st_size for one in done)
    assert catalogue.pull(name) == []
    info = catalogue.info(name)
    assert (info.state.where, info.state.files_here) == ("ready", entry.state.files)
    assert info.converted == done[-1].path
    assert [held.path for held in info.files] == [one.path for one in done[:-1]]
    assert set(catalogue.where(name).paths) == {one.path for one in done}

    checked = catalogue.check(name)
    assert not any(one.failed for one in checked.findings)
    assert {one.verified_by for one in checked.looked_at} == {"members", "content"}

    raw = catalogue.removal(name, raw_only=True)
    assert (set(raw.paths), raw.whole) == ({one.path for one in done[:-1]}, False)
    assert catalogue.remove(raw) == catalogue.Outcome("removed", site.cache / name, sum(o.bytes for o in done[:-1]))
    assert catalogue.state(manifest(name)).where == "ready"  # converted: the raw files are needed no more
    catalogue.remove(catalogue.removal(name))
    assert not (site.cache / name).exists()
    with pytest.raises(UserError, match="ships with mfbench and stays"):
        catalogue.removal("mini-ani1x")


def test_progress_is_the_callers(site: Site, capsys: Capture) -> None:
    """Without a bar of its own the catalogue prints nothing; what it is given is told of bytes and structures."""
    seen: list[str] = []

    @contextmanager
    def transfers() -> Iterator[Callable[[Transfer], None]]:
        yield lambda transfer: seen.append(transfer.state)

    @contextmanager
    def counts(name: str) -> Iterator[Callable[[str, int, int | None], None]]:
        yield lambda doing, done, total: seen.append(f"{name}: {doing}")

    catalogue.pull("ani1x", watch=catalogue.Watch(transfers, counts))
    catalogue.check("ani1x", watch=catalogue.Watch(transfers, counts))
    assert {"downloading", "ani1x: converting", "ani1x: checking"} <= set(seen)
    assert capsys.readouterr() == ("", "")
