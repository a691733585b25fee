"""Many runs: what folders of run folders hold, read together."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from mfbench.errors import UserError
from mfbench.files import parse_json, read_bytes
from mfbench.results.checks import checked, one_line
from mfbench.results.folder import (
    EXTRA,
    NOT_PARQUET,
    PREDICTIONS_FILE,
    SETTINGS_FILE,
    UNSEALED,
    RunFolder,
    checkpoint_state,
)
from mfbench.results.index import FEWEST, Record, read_index, state, write_index
from mfbench.results.locks import at_work
from mfbench.results.predictions import Predictions
from mfbench.results.schema import conform, empty_table

Told = Callable[[int, int], None]  # of how many are done, and how many there are

_TOGETHER = 200  # finished runs that are checked at once, and told of


def silent(done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Reading:
    """What a folder of run folders held when it was looked at."""

    root: Path
    records: Mapping[str, Record]  # by name of folder, in order
    table: pd.DataFrame  # the rows of the finished ones, in that order
    unsaved: int = field(default=0, compare=False)  # runs that are not in the index yet

    def folder(self, name: str) -> RunFolder:
        """One of the run folders."""
        return RunFolder(self.root / name)

    def these(self, condition: str) -> dict[str, Record]:
        """Those that are finished, unfinished or broken."""
        return {name: one for name, one in self.records.items() if one.condition == condition}


def look(root: Path, before: Reading | None = None, told: Told = silent) -> Reading:
    """Read what is in a folder of run folders; of what was read before, or by others, only what was changed.

    Args:
        before: what was found the last time.
        told: called while finished runs are read.

    Returns:
        ``before`` itself where nothing was changed.

    Raises:
        UserError: the folder cannot be read.
    """
    if before is None:
        before = Reading(root, *read_index(root))
    links = _entries(root)
    names = sorted(links)
    states = {name: state(f"{root}/{name}")[0] for name in names}
    repeated = _repeated(root, links, [name for name in names if states[name]])
    kept = {
        name: one
        for name, one in before.records.items()
        if one.state and states.get(name) == one.state and name not in repeated
    }
    fresh = {name: _broken(RunFolder(root / name), problem) for name, problem in repeated.items()}
    tables = list[pd.DataFrame]()
    for records, table in _read([root / name for name in names if name not in kept and name not in repeated], told):
        fresh |= records
        tables.append(table)
    found = kept | fresh
    table = _joined(before, kept, fresh, tables)
    if found == before.records and (table is before.table or table.equals(before.table)):
        return before
    unsaved = before.unsaved + sum(bool(one.state) for one in fresh.values() if one.condition == "finished")
    now = Reading(root, {name: found[name] for name in names if name in found}, table, unsaved)
    if now.unsaved < FEWEST:
        return now
    _save(now)
    return replace(now, unsaved=0)


def _repeated(root: Path, links: Mapping[str, bool], names: Sequence[str]) -> dict[str, str]:
    """Links to runs that are there already, and what is wrong with each.

    A folder stays before a link, a link of the run's own name before another, and then the first by name.

    Args:
        links: whether each entry is a link.
        names: of those that hold files of runs, sorted.
    """
    if not any(links[name] for name in names):
        return {}
    place = os.path.realpath(root)
    taken = {f"{place}/{name}": name for name in names if not links[name]}  # places, and names of runs
    taken |= {name: name for name, link in links.items() if link} | {name: name for name in names}
    problems = dict[str, str]()
    for name in names:
        if not links[name]:
            continue
        path = root / name
        keys = (os.path.realpath(path), _run_of(RunFolder(path)))
        first = next((taken[key] for key in keys if taken.get(key, name) != name), "")
        if first:
            problems[name] = f"{path}: expected a run that is not there yet, got a link to the same run as {first}"
        else:
            taken |= dict.fromkeys(keys, name)
    return problems


def _run_of(folder: RunFolder) -> str:
    """The run that the rows in a folder, which may be a link, are of."""
    if not folder.finished:
        return folder.path.name
    with suppress(UserError):
        if (seal := folder.seal()) is not None:
            return seal.run
    return folder.name


def _joined(
    before: Reading, kept: Mapping[str, Record], fresh: Mapping[str, Record], tables: Sequence[pd.DataFrame]
) -> pd.DataFrame:
    """The rows of what was kept and of what was read, by the names of their folders."""
    was = before.these("finished")
    stays = _per_row(was, [name in kept for name in was]).astype(bool)
    if stays.all() and not any(map(len, tables)):
        return before.table
    here = {name: one for name, one in was.items() if name in kept}
    new = {name: one for name, one in fresh.items() if one.condition == "finished"}
    place = {name: k for k, name in enumerate(sorted({**here, **new}))}
    order = np.concatenate([_per_row(some, [place[name] for name in some]) for some in (here, new)])
    whole = pd.concat([before.table[stays], *tables], ignore_index=True)
    return whole if (np.diff(order) >= 0).all() else whole.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)


def _per_row(records: Mapping[str, Record], values: Sequence[int]) -> NDArray[np.int64]:
    """A value for each row of the records' tables, of one for each record."""
    counts = np.asarray([one.rows for one in records.values()], dtype=np.int64)
    return np.repeat(np.asarray(values, dtype=np.int64), counts)


def _save(reading: Reading) -> None:
    """Write the index: what was read of finished runs that were left alone since."""
    finished = reading.these("finished")
    settled = _per_row(finished, [bool(one.state) for one in finished.values()]).astype(bool)
    write_index(reading.root, {name: one for name, one in finished.items() if one.state}, reading.table[settled])


def _read(paths: Sequence[Path], told: Told) -> Iterator[tuple[dict[str, Record], pd.DataFrame]]:
    """Records of run folders, and the rows of the finished ones among them, some at a time."""
    done = 0
    for some in batched(paths, _TOGETHER):
        records, good = dict[str, Record](), list[tuple[RunFolder, list[tuple[str, pa.Table]]]]()
        for path in some:
            folder, (seen, settled) = RunFolder(path), state(str(path))
            try:
                if path.is_symlink() and not path.exists():
                    raise UserError(
                        f"{path}: expected a run folder, got a link to {os.readlink(path)}, which is not there"
                    )
                if folder.finished:
                    tables = folder.tables()
                    records[path.name] = _finished(folder, tables)
                    good.append((folder, tables))
                elif folder.file(SETTINGS_FILE).is_file():
                    records[path.name] = _unfinished(folder)
            except (UserError, OSError) as error:
                told_of = str(error) if isinstance(error, UserError) else f"cannot read {path}: {error}"
                records[path.name] = _broken(folder, told_of)
            record = records.get(path.name)
            # That the process which makes a run has died shows in no file.
            if record is not None and settled and not record.facts.get("running") and state(str(path))[0] == seen:
                records[path.name] = replace(record, state=seen)
        table = _together(good)
        if table is None:  # some are wrong: which?
            frames = [empty_table()]
            for folder, _ in good:
                try:
                    frames.append(folder.rows())
                except UserError as error:
                    name = folder.path.name
                    records[name] = replace(_broken(folder, str(error)), state=records[name].state)
            table = conform(pd.concat(frames))
        done += len(some)
        told(done, len(paths))
        yield records, table


def _finished(folder: RunFolder, tables: Sequence[tuple[str, pa.Table]]) -> Record:
    said = folder.provenance()  # pages show it
    facts = {"finished": str(said.get("finished", "")), "commit": str(said.get("commit", "")), "bytes": _size(folder)}
    return Record("finished", rows=sum(table.num_rows for _, table in tables), sealed=folder.sealed, facts=facts)


def _unfinished(folder: RunFolder) -> Record:
    problem, facts = "", {"running": at_work(folder.lock), "bytes": _size(folder)}
    try:
        facts |= _settings(folder)
        states = [checkpoint_state(path) for path in folder.checkpoints()]
        facts |= {key: sum(one[key] for one in states) for key in ("step", "seconds")}
    except UserError as error:
        problem = str(error)
    return Record("unfinished", problem=one_line(problem), facts=facts)


def _broken(folder: RunFolder, problem: str) -> Record:
    facts: dict[str, Any] = {"bytes": _size(folder)}
    with suppress(UserError):
        facts |= _settings(folder)
    return Record("broken", problem=one_line(problem), facts=facts)


# Of settings.json, for those that have no rows: what is text, what counts, and what it must be.
_SAID = {"case": str, "data": str, "arm": str, "backbone": str, "preset": str, "n_low": int, "n_high": int} | {
    "split_seed": int,
    "seed": int,
}


def _settings(folder: RunFolder) -> dict[str, Any]:
    """Facts out of the settings of a run that has no rows, whoever wrote them."""
    said = parse_json(read_bytes(folder.file(SETTINGS_FILE)), folder.file(SETTINGS_FILE))
    facts = {name: said[name] for name, kind in _SAID.items() if type(said.get(name)) is kind}
    optimisation = said.get("optimisation")
    if isinstance(optimisation, dict) and type(optimisation.get("steps")) is int and said.get("epochs") is None:
        facts["steps"] = optimisation["steps"]
    return {name: one_line(value) if isinstance(value, str) else value for name, value in facts.items()}


def _size(folder: RunFolder) -> int:
    """The bytes of a run's files."""
    size = 0
    for at in (folder.path, folder.file(EXTRA)):
        with suppress(OSError), os.scandir(at) as entries:
            size += sum(one.stat().st_size for one in entries if one.is_file())
    return size


@dataclass(frozen=True)
class Runs:
    """What folders of runs hold."""

    table: pd.DataFrame  # the rows of all finished runs that can be read, each followed by those of later checks
    folders: tuple[Path, ...]  # of those runs
    problems: tuple[str, ...]  # one for each run that was left out: which, and why
    unsealed: tuple[str, ...]  # names of runs from before there were seals: what was changed in them, nothing tells

    def remarks(self) -> list[str]:
        """What a reader of the table must know, each in a line: what was left out and why, and what is not sealed."""
        said = [f"left out: {one_line(problem)}" for problem in self.problems]
        if self.unsealed:
            names = ", ".join(self.unsealed[:3]) + (", ..." if len(self.unsealed) > 3 else "")
            said.append(f"{len(self.unsealed):,} of {len(self.folders):,} runs are {UNSEALED}: {names}")
        return said


def read_runs(folders: str | Path | Iterable[str | Path]) -> Runs:
    """Read all finished runs in a folder (or folders) of run folders; what cannot be read is named and left out.

    Raises:
        UserError: a folder cannot be read, or there are finished runs, none of which can be.
    """
    roots = [Path(one) for one in ([folders] if isinstance(folders, str | Path) else folders)]
    readings = [look(root) for root in sorted(roots)]
    found = runs_of(readings)
    if found.problems and not found.folders:
        more = f"; and {len(found.problems) - 3:,} more" if len(found.problems) > 3 else ""
        raise UserError(f"no run in {', '.join(map(str, roots))} can be read: {'; '.join(found.problems[:3])}{more}")
    return found


def runs_of(readings: Sequence[Reading]) -> Runs:
    """The finished runs of folders that were looked at."""
    good = [(one, name) for one in readings for name in one.these("finished")]
    tables = [one.table for one in readings]
    return Runs(
        table=tables[0] if len(tables) == 1 else conform(pd.concat([empty_table(), *tables])),
        folders=tuple(one.folder(name).path for one, name in good),
        problems=tuple(record.problem for one in readings for record in one.these("broken").values()),
        unsealed=tuple(one.folder(name).name for one, name in good if not one.records[name].sealed),
    )


def _together(read: Sequence[tuple[RunFolder, Sequence[tuple[str, pa.Table]]]]) -> pd.DataFrame | None:
    """All rows in order, checked at once, which takes a tenth of the time of one by one; None where some are wrong."""
    tables = [(folder, table) for folder, found in read for _, table in found]
    alike: dict[tuple[str, ...], list[int]] = {}  # tables from before some column was there have fewer
    for k, (_, table) in enumerate(tables):
        alike.setdefault(tuple(table.column_names), []).append(k)
    try:
        frames = []
        for group in alike.values():
            frame = pa.concat_tables([tables[k][1] for k in group], promote_options="permissive").to_pandas()
            names = [[tables[k][0].path.name, tables[k][0].name] for k in group]
            counts = [tables[k][1].num_rows for k in group]
            own = [np.repeat([pair[k] for pair in names], counts) for k in (0, 1)]
            if not ((frame["run"].to_numpy() == own[0]) | (frame["run"].to_numpy() == own[1])).all():
                return None
            frames.append(checked(frame, "").set_axis(np.repeat(group, counts)))
        return checked(pd.concat(frames).sort_index(kind="stable"), "") if frames else empty_table()
    except (UserError, *NOT_PARQUET):
        return None


def predictions_of(folders: Iterable[Path]) -> Callable[[str], Predictions | None]:
    """What runs predicted, by name, read when it is asked for; None of a run that is not there or kept none."""
    by_name = {folder.name: folder for folder in folders}

    @lru_cache(maxsize=64)
    def stored(run: str) -> Predictions | None:
        if run not in by_name:
            return None
        folder = RunFolder(by_name[run])
        return folder.predictions() if PREDICTIONS_FILE in folder.listed() else None

    return stored


def load_runs(folders: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """The results table of all finished runs in a folder (or folders) of run folders.

    Runs that cannot be read are left out, with a warning that names them; ``read_runs`` returns what is wrong.

    Returns:
        The rows of every run, each followed by those that later checks added, ordered by run; empty where there is
        none. ``errors`` and ``physical`` part the two.

    Raises:
        UserError: a folder cannot be read, or there are finished runs, none of which can be.
    """
    runs = read_runs(folders)
    for problem in runs.problems:
        warnings.warn(f"left out: {one_line(problem)}", stacklevel=2)
    return runs.table


def _entries(root: Path) -> dict[str, bool]:
    """Names of what may be run folders in a folder, and whether each is a link; none where it does not exist."""
    try:
        with os.scandir(root) as entries:
            return {
                one.name: one.is_symlink()
                for one in entries
                if one.name[0] != "." and (one.is_dir() or one.is_symlink())
            }
    except FileNotFoundError as error:
        if not root.is_symlink():
            return {}
        raise UserError(f"{root}: expected a folder, got a link to {os.readlink(root)}, which is not there") from error
    except OSError as error:
        raise UserError(f"{root}: expected a folder of runs, cannot read it: {error.strerror}") from error
