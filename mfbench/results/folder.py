"""Run folders: the names of their files, and how they are written and read.

A *run folder* holds one experiment:

    settings.json      the experiment, resolved and complete
    provenance.json    versions, commit, device, data hashes, seeds, time
    history.csv        one row per validation
    predictions.h5     reference and predicted labels of the test structures
    split.npz          indices of the parts and of what was selected
    weights.safetensors
    metrics.parquet    the rows of the results table
    seal.json          the sha256 of all of these; written last, by rename: it exists = the run finished
    extra/             what later checks add, each file with a seal of its own; more rows of the results table in some
                       of its Parquet files

Runs from before there were seals are finished with ``metrics.parquet``: they are read, and said to be unsealed. Since
then the file itself says that a seal comes after it, so that a run that was cut short between the two is no old one.
"""

import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from safetensors import SafetensorError, safe_open

from mfbench.errors import UserError
from mfbench.files import as_json, digest, parse_json, read_bytes, settle, sha256, sweep, write_bytes
from mfbench.results.checks import checked, one_line
from mfbench.results.locks import Lock, locked, read, to_stderr
from mfbench.results.predictions import Predictions, arrays_from
from mfbench.results.seal import Seal, read_seal, write_seal

SETTINGS_FILE, PROVENANCE_FILE, HISTORY_FILE = "settings.json", "provenance.json", "history.csv"

PREDICTIONS_FILE, SPLIT_FILE, WEIGHTS_FILE = "predictions.h5", "split.npz", "weights.safetensors"

METRICS_FILE, SEAL_FILE = "metrics.parquet", "seal.json"

FORMAT_VERSION = 1

EXTRA = "extra"  # folder, in a finished run folder, of what later checks add

SCANS_FILE = "scans.parquet"  # there: the curves of scans of bonds and torsions

STAGES = "stages"  # folder, among the run folders, of trainings that several experiments start from

TRAINED = (SETTINGS_FILE, PROVENANCE_FILE, HISTORY_FILE, PREDICTIONS_FILE, SPLIT_FILE, WEIGHTS_FILE)  # before metrics

UNSEALED = "from before results were sealed: nothing tells whether files were changed"

WEIGHTS_KEY = "mfbench"  # in the metadata of the weights: JSON of the potential's heads, levels and elements

_MARK = {b"mfbench": b"sealed"}  # in the metadata of a table that a seal follows

NOT_PARQUET = (OSError, ValueError, KeyError, TypeError, NotImplementedError, MemoryError, pa.ArrowException)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run; it knows the names of its files, reads them checked, and writes them whole."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.resolve().name

    def file(self, name: str) -> Path:
        """Where a file of the run is."""
        return self.path / name

    def checkpoint(self, stage: int) -> Path:
        """Where a stage that is this run's alone stands."""
        return self.path / f"checkpoint-{stage}.safetensors"

    def checkpoints(self) -> list[Path]:
        """The checkpoints that there are, by stage."""
        return sorted(self.path.glob("checkpoint-*.safetensors"), key=lambda path: (len(path.name), path.name))

    def locked(self, told: Callable[[str], None] = to_stderr) -> AbstractContextManager[Lock]:
        """Hold the run while the block writes to it (see ``locks``). The lock is beside the folder."""
        return locked(self.lock, self.name, told)

    @property
    def lock(self) -> Path:
        """The file of the run's lock."""
        # A link to a folder of runs that is not there must not make it.
        path = self.path.resolve() if self.path.is_dir() else self.path.absolute()
        return path.with_name(f".{path.name}.lock")

    # Whether it is finished

    @property
    def sealed(self) -> bool:
        """Whether there is a seal."""
        return self.file(SEAL_FILE).is_file()

    @property
    def finished(self) -> bool:
        """Whether the folder holds a finished run."""
        return self.sealed or (self.file(METRICS_FILE).is_file() and not _marked(self.file(METRICS_FILE)))

    def seal(self, name: str = "") -> Seal | None:
        """What vouches for the run's files, or for one in ``extra``; None for those from before there were seals.

        Raises:
            UserError: the seal is damaged, or of another run than the folder's name says.
        """
        path = self.file(f"{name}.{SEAL_FILE}" if name.startswith(f"{EXTRA}/") else SEAL_FILE)
        if not path.is_file():
            return None
        seal = read_seal(path)
        if seal.run not in (self.path.name, self.name):
            raise UserError(
                f"{path}: expected the seal of the run {self.name}, got that of {seal.run}: was the folder renamed, or "
                "were files of two runs mixed? A run's folder has the run's name"
            )
        return seal

    # Reading

    def read(self, name: str) -> bytes:
        """The content of a file, as it was sealed.

        Raises:
            UserError: it is missing, or not the one that was sealed.
        """
        path, seal = self.file(name), self.seal(name)
        if seal is not None and not path.is_file():
            raise UserError(
                f"{path}: expected it in the folder of a finished run, found none; restore it from a copy, or delete "
                "the run's folder and give the command that made it again"
            )
        content = read_bytes(path)
        if seal is None and name.startswith(f"{EXTRA}/") and self.sealed:
            raise UserError(
                f"{path}: expected its seal beside it, found none; delete the file and make the check again"
            )
        if seal is None:
            return content
        try:
            seal.check(name, content, path)
        except UserError:
            # Whoever adds to a finished run may have replaced both since the seal was read.
            seal, content = self.seal(name), read_bytes(path)
            if seal is None:
                raise
            seal.check(name, content, path)
        return content

    def settings(self) -> dict[str, Any]:
        """The experiment as it was saved."""
        return parse_json(self.read(SETTINGS_FILE), self.file(SETTINGS_FILE))

    def provenance(self) -> dict[str, Any]:
        """Where the run came from: empty where nothing tells; raises UserError where it is not as it is written."""
        path = self.file(PROVENANCE_FILE)
        if not path.is_file() and (not self.sealed or PROVENANCE_FILE not in self.listed()):
            return {}
        found = parse_json(self.read(PROVENANCE_FILE), path)
        versions = found.get("versions", {})
        for key, value in {"versions": versions, **{key: found.get(key, "") for key in _ORIGIN}}.items():
            expected = "names and texts" if key == "versions" else "text"
            values = value.values() if key == "versions" and isinstance(value, dict) else [value]
            if not all(isinstance(one, str | int) and one_line(str(one)) == str(one) for one in values):
                raise UserError(f"{path}: {key}: expected {expected}, got {value!r:.80}")
        return found

    def predictions(self) -> Predictions:
        """What was predicted for the test structures."""
        return arrays_from(self.read(PREDICTIONS_FILE), Predictions, self.file(PREDICTIONS_FILE))

    def history(self) -> pd.DataFrame:
        """A row for each look at the validation errors; of an unfinished run, what its checkpoints tell.

        Returns:
            ``step`` (of its stage), ``seconds``, ``loss``, ``learning_rate``, ``LEVEL energy mae`` and the like (in
            kcal/mol and kcal/mol/Angstrom), ``selected`` (what the best weights are chosen by), ``stage``.

        Raises:
            UserError: a file is damaged.
        """
        if self.finished:
            there = HISTORY_FILE in self.listed()
            return parse_history(self.read(HISTORY_FILE), self.file(HISTORY_FILE)) if there else empty_history()
        looks = [
            {**row, "stage": float(path.stem.rpartition("-")[2])}
            for path in self.checkpoints()
            for row in checkpoint_state(path)["history"]
        ]
        return _as_history(pd.DataFrame(looks), self.path) if looks else empty_history()

    def scans(self) -> pd.DataFrame:
        """The curves of scans of bonds and torsions, where they were checked; no rows where they were not.

        Returns:
            Columns molecule, kind (bond or torsion), atoms, coordinate (Angstrom, or degrees from the start), energy
            (eV), force (along the coordinate, eV/Angstrom or eV/radian) and level.
        """
        name = f"{EXTRA}/{SCANS_FILE}"
        if not self.file(name).is_file():
            return no_scans()
        return parse_parquet(self.read(name), self.file(name)).to_pandas()

    def listed(self) -> tuple[str, ...]:
        """The names of the files that were sealed; of a run from before, those that are there."""
        seal = self.seal()
        names = [*TRAINED, METRICS_FILE]
        return tuple(name for name in names if (self.file(name).is_file() if seal is None else name in seal.files))

    def metrics(self) -> pd.DataFrame:
        """The rows of the results table that the run itself made."""
        return self._own(self.table(METRICS_FILE), METRICS_FILE)

    def table(self, name: str) -> pd.DataFrame:
        """The rows of the results table in one of the run's files."""
        return parse_metrics(self.read(name), self.file(name))

    def tables(self) -> list[tuple[str, pa.Table]]:
        """The files that hold rows of the results table, the run's own first, and what is in them, unchecked."""
        names = [METRICS_FILE, *(f"{EXTRA}/{path.name}" for path in sorted(self.file(EXTRA).glob("*.parquet")))]
        found = [(name, parse_parquet(self.read(name), self.file(name))) for name in names]
        # Later checks keep curves, too.
        return [
            one for k, one in enumerate(found) if not k or {"quantity", "metric", "value"} <= set(one[1].column_names)
        ]

    def rows(self) -> pd.DataFrame:
        """The run's rows of the results table, followed by those that later checks added."""
        found = [self._own(_rows(table, self.file(name)), name) for name, table in self.tables()]
        return checked(pd.concat(found), self.path) if len(found) > 1 else found[0]

    def _own(self, table: pd.DataFrame, name: str) -> pd.DataFrame:
        """The table, if it is this run's."""
        if strange := [run for run in table["run"].unique() if run not in (self.path.name, self.name)]:
            raise UserError(
                f"{self.file(name)}: expected rows of the run {self.name}, got some of {strange[0]!r:.120}: was the "
                "folder renamed, or were files of two runs mixed? A run's folder has the run's name"
            )
        return table

    # Writing

    def write(self, name: str, content: bytes) -> None:
        """Write a file of a run that is being made."""
        write_bytes(self.file(name), content)

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Begin a run: what it is to be."""
        self.write(SETTINGS_FILE, as_json(settings))

    def write_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Write where a run came from."""
        self.write(PROVENANCE_FILE, as_json(provenance))

    def finish(self, metrics: pd.DataFrame, required: Sequence[str] = ()) -> None:
        """Finish a run: write its metrics, then the seal of all its files.

        Args:
            required: files without which it is not finished.

        Raises:
            UserError: a file is missing, or the metrics hold what no reader would take.
        """
        if missing := [name for name in required if not self.file(name).is_file()]:
            raise UserError(
                f"{self.path}: expected {', '.join(missing)}, which this process wrote there, found none: was the "
                "folder moved or removed while the run was on? Give the same command again"
            )
        table = checked(metrics.assign(remark=[one_line(str(text)) for text in metrics["remark"]]), self.path)
        self.write(METRICS_FILE, as_parquet(table, _MARK))
        settle(self.path)  # the seal is the last to be there, after a power failure, too
        there = [name for name in (*TRAINED, METRICS_FILE) if self.file(name).is_file()]
        seal = Seal(self.name, {name: sha256(self.file(name)) for name in there}, {})
        write_seal(self.file(SEAL_FILE), seal)

    def reopen(self) -> None:
        """Take back that a run is finished, before all of it is replaced: until all is there, there is nothing."""
        extra = f"{EXTRA}/{METRICS_FILE}"
        for name in (SEAL_FILE, METRICS_FILE, extra, f"{extra}.{SEAL_FILE}"):
            self.file(name).unlink(missing_ok=True)

    def write_extra(self, name: str, content: bytes) -> None:
        """Write a file of a later check, and its seal; by one who holds the run's lock.

        The seal comes first and vouches for the file of before, too, until the new one is there: whatever is cut
        short, one of the two is what the seal says.
        """
        path, full = self.file(f"{EXTRA}/{name}"), f"{EXTRA}/{name}"
        before = {full: sha256(path)} if path.is_file() else {}
        files = {full: digest(content)}
        write_seal(self.file(f"{full}.{SEAL_FILE}"), Seal(self.name, files, before))
        write_bytes(path, content)
        if before:
            write_seal(self.file(f"{full}.{SEAL_FILE}"), Seal(self.name, files, {}))

    def remove(self) -> None:
        """Delete the run; of a link to one, the link alone.

        Raises:
            UserError: some process is at work on it.
        """

        def refuse(text: str) -> None:
            raise UserError(f"{self.path}: expected a run that nobody is at work on, so it is not deleted; {text}")

        if self.path.is_symlink():
            self.path.unlink()
            return
        with self.locked(refuse):
            self.reopen()  # cut short from here on, it is no finished run that lacks files
            shutil.rmtree(self.path)

    def leftovers(self) -> list[Path]:
        """Files that a crash left in a finished run."""
        holder = read(self.lock)
        found = [self.lock] if holder is not None and holder.dead() else []
        with suppress(OSError):
            found += [entry for entry in self.path.iterdir() if entry.name.endswith(".part")]
            found += self.checkpoints()
            found += self.file(EXTRA).glob(".*.part")
        return found

    def sweep(self) -> None:
        """Remove what crashes left; by one who holds the run's lock."""
        for folder in (self.path, self.file(EXTRA)):
            sweep(folder, own=True)
        if self.finished:
            for path in self.checkpoints():
                path.unlink(missing_ok=True)


_ORIGIN = ("device", "finished", "commit", "platform", "threads")  # texts of provenance.json that are shown


def no_scans() -> pd.DataFrame:
    """Of a run whose scans were not checked."""
    return pd.DataFrame(columns=["molecule", "kind", "atoms", "coordinate", "energy", "force", "level"])


def is_finished(run: str | Path) -> bool:
    """Whether the run folder holds a finished run."""
    return RunFolder(Path(run)).finished


def is_sealed(run: str | Path) -> bool:
    """Whether the run folder holds a finished run with a seal: one from before there were seals has none."""
    return RunFolder(Path(run)).sealed


def read_run(run: Path) -> pd.DataFrame:
    """The rows of one finished run, followed by those that later checks added."""
    return RunFolder(run).rows()


# Parquet


def as_parquet(table: pd.DataFrame, mark: Mapping[bytes, bytes] | None = None) -> bytes:
    """A table as a Parquet file."""
    made = pa.Table.from_pandas(table, preserve_index=False)
    out = io.BytesIO()
    pyarrow.parquet.write_table(made.replace_schema_metadata({**(made.schema.metadata or {}), **(mark or {})}), out)
    return out.getvalue()


def _marked(file: Path) -> bool:
    """Whether a table is one that a seal follows."""
    try:
        metadata = pyarrow.parquet.read_schema(file).metadata or {}
    except NOT_PARQUET:  # whoever reads it says so
        return False
    return all(metadata.get(key) == value for key, value in _MARK.items())


def parse_parquet(content: bytes, path: Path) -> pa.Table:
    """The table that was read from ``path``; raises UserError where it is none."""
    try:
        # Not pandas.read_parquet, which loads Arrow's machinery for folders of many files first: seconds.
        # Nor with threads, which wait for one another longer than they read.
        return pyarrow.parquet.ParquetFile(io.BytesIO(content)).read(use_threads=False)
    except NOT_PARQUET as error:
        raise UserError(f"{path} is not a results table of mfbench: {error}") from error


def _rows(table: pa.Table, path: Path) -> pd.DataFrame:
    """A table as rows of the results table, checked; raises UserError where it cannot be."""
    try:
        return checked(table.to_pandas(), path)
    except UserError as error:
        told = str(error) if str(path) in str(error) else f"{path} is not a results table of mfbench: {error}"
        raise UserError(told) from error
    except NOT_PARQUET as error:
        raise UserError(f"{path} is not a results table of mfbench: {error}") from error


def parse_metrics(content: bytes, path: Path) -> pd.DataFrame:
    """The results rows that were read from ``path`` (Parquet), checked; raises UserError where it holds no such."""
    return _rows(parse_parquet(content, path), path)


def read_metrics(file: Path) -> pd.DataFrame:
    """One file of results rows (Parquet), checked; against the seal, too, where it is a run's."""
    inside = file.parent.name == EXTRA
    folder = RunFolder(file.parent.parent if inside else file.parent)
    return folder.table(f"{EXTRA}/{file.name}" if inside else file.name)


# Histories

_HISTORY = ("step", "seconds", "loss", "learning_rate", "selected", "stage")


def empty_history() -> pd.DataFrame:
    """A history of no validation."""
    return pd.DataFrame({name: pd.Series(dtype="float64") for name in _HISTORY})


def parse_history(content: bytes, path: Path) -> pd.DataFrame:
    """The history that was read from ``path`` (CSV); raises UserError where it is none."""
    try:
        return _as_history(pd.read_csv(io.BytesIO(content)), path)
    except ValueError as error:
        raise UserError(f"{path}: expected the history of a training, got something else: {error}") from error


def _as_history(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Numbers under the names of a history."""
    if missing := [name for name in _HISTORY if name not in frame]:
        raise UserError(f"{path}: expected the history of a training, found no column {missing[0]!r}")
    return frame.astype("float64")


def checkpoint_state(path: Path) -> dict[str, Any]:
    """Where a training stands, out of its checkpoint: at least ``step``, ``seconds`` and ``history``.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with safe_open(path, "np") as file:
            said = json.loads((file.metadata() or {})["state"])
        return {**said, "step": int(said["step"]), "seconds": float(said["seconds"]), "history": list(said["history"])}
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
