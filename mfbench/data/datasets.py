"""Datasets: ``load(name) -> Structures``, from verified files, in internal units, checked by physics.

A dataset that ships, or whose files are small, is read as it is. Any other is converted once (``convert``) to a
file of flat arrays, from which chosen levels and structures are read at the speed of the disk.
"""

from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from mfbench.data import archives, cache, checks, store
from mfbench.data.geometries import geometry_ids
from mfbench.data.manifest import DataFile, Dataset, Manifest, check_file, manifest, shipped_folder, verified
from mfbench.data.reading import Notes, frames_of, read
from mfbench.data.structures import Structures, join
from mfbench.data.subset import Subset, pick
from mfbench.errors import DataCorrupt, UserError, unknown
from mfbench.files import replacing, require_space

# Raw files up to this size together are read as they are, with no converted copy.
_SMALL = 1 << 26  # bytes

Progress = Callable[[str, int, int | None], None]  # told what is done, how many structures of how many


def silent(doing: str, done: int, total: int | None) -> None:
    """Report nothing."""


class DataMissing(UserError):
    """A dataset's files are not on this machine."""


def load(
    name: str | Manifest | Dataset,
    folder: str | Path | None = None,
    levels: Sequence[str] | None = None,
    subset: Subset | None = None,
    progress: Progress = silent,
) -> Structures:
    """A dataset's structures, with geometry ids; converted first where it is large and was not yet.

    Args:
        name: of a dataset that ships, was imported or was added (see ``extensions``); or the thing itself.
        folder: where its raw files are (searched below it too), in place of the cache.
        levels: names of the levels whose labels are wanted; all by default.
        subset: which structures; all by default.

    Raises:
        DataMissing: its files are not here: `mfbench data pull` gets them.
        DataCorrupt: a file is not what the manifest declares.
        UserError: no such dataset, level or subset.
    """
    declared = name if isinstance(name, Manifest) else manifest(name)
    if not declared.shipped and (converted := find_converted(declared)):
        return store.read(converted, levels, subset)
    paths = raw_files(declared, None if folder is None else Path(folder))
    if not is_small(paths):
        return store.read(convert(declared, paths, progress=progress), levels, subset)
    structures = read(declared, paths)
    checks.quick(declared, structures)
    return pick(structures, declared.name, levels, subset)


@dataclass(frozen=True)
class DataRequest:
    """Chosen levels and structures of one or more datasets, to be used as one; hashable."""

    datasets: tuple[str, ...]
    levels: tuple[str, ...] | None = None  # None: all
    subsets: tuple[tuple[str, Subset], ...] = ()  # by name of the dataset
    folder: Path | None = None  # where the raw files are, in place of the cache

    def pieces(self) -> list[tuple[Manifest, tuple[str, ...] | None, Subset | None]]:
        """Manifest, levels and subset of each dataset."""
        subsets, found = dict(self.subsets), []
        there = {level for name in self.datasets for level in manifest(name).levels}
        for level in self.levels or ():
            if level not in there:
                raise unknown(f"level of the data {', '.join(self.datasets)}", level, there)
        for name in self.datasets:
            declared = manifest(name)
            held = None if self.levels is None else tuple(one for one in self.levels if one in declared.levels)
            if held == ():
                raise UserError(f"dataset {declared.name} holds none of the levels {', '.join(self.levels or ())}")
            found.append((declared, held, subsets.pop(declared.name, None)))
        if subsets:
            raise unknown("dataset of a subset", min(subsets), [declared.name for declared, *_ in found])
        return found

    def load(self, progress: Progress = silent) -> Structures:
        """The structures; geometries that recur between datasets share an id."""
        return joined([load(one, self.folder, levels, subset, progress) for one, levels, subset in self.pieces()])


def is_small(paths: list[Path]) -> bool:
    """Whether raw files are read as they are, with no converted copy."""
    return sum(path.stat().st_size for path in paths) <= _SMALL


def joined(pieces: Sequence[Structures]) -> Structures:
    """Several datasets as one, their geometry ids set anew over the whole."""
    if len(pieces) == 1:
        return pieces[0]
    whole = join(pieces)
    return replace(whole, geometry=geometry_ids(whole))


def find_converted(declared: Manifest) -> Path | None:
    """The dataset's converted file on the search path, where it is made of what the manifest declares now."""
    candidates = cache.find_all(declared.name, cache.converted_name(declared.name))
    return next((path for path in candidates if store.is_current(path, declared)), None)


def raw_files(declared: Manifest, folder: Path | None = None, trusted: Container[str] = ()) -> list[Path]:
    """The dataset's files, verified: those that ship, those in a folder, or those in the cache.

    Args:
        trusted: names of files in the cache that were verified just now.

    Raises:
        DataMissing: they are not here. DataCorrupt: they are not the declared ones.
    """
    if declared.shipped:
        return [verified(file, shipped_folder(declared)) for file in declared.files]
    if folder is not None:
        return [verified(file, folder) for file in declared.files]
    found = [(file, cache.find(declared.name, file.name)) for file in declared.files]
    if missing := [file.name for file, path in found if path is None]:
        raise DataMissing(
            f"dataset {declared.name!r} is not on this machine (no {', '.join(missing)} in "
            f"{', '.join(map(str, cache.roots()))}): get it with `mfbench data pull {declared.name}`, "
            "or name the folder that holds its files with --data-folder"
        )
    for file, path in found:
        if path is not None and file.name not in trusted:
            try:
                verify(file, path)
            except DataCorrupt as error:
                remedy = f"Remove it, then `mfbench data pull {declared.name}` gets it anew"
                raise DataCorrupt(f"{error}. {remedy}") from error
    return [path for _, path in found if path is not None]


def verify(file: DataFile, path: Path) -> None:
    """Raise DataCorrupt where a file is not the declared one: by its hash, or the checks of an archive's members."""
    check_file(file, path)
    if file.sha256 is None:
        archives.check(path, file)


def convert(
    declared: Manifest,
    paths: list[Path],
    out: Path | None = None,
    progress: Progress = silent,
    notes: Notes | None = None,
) -> Path:
    """Convert a dataset's files to one file of flat arrays, checked, by temp file and rename.

    Args:
        paths: its files, in the manifest's order.
        out: the file to write; in the cache by default.
        notes: what the readers tell is added to these.

    Returns:
        The converted file. If it is there and current, it is left as it is.

    Raises:
        DataCorrupt: the files are not what the manifest declares.
    """
    out = out or cache.folder_of(declared.name) / cache.converted_name(declared.name)
    out.parent.mkdir(parents=True, exist_ok=True)
    total = declared.n_structures
    with FileLock(out.with_name(f".{out.name}.lock")), ExitStack() as stack:
        if store.is_current(out, declared):
            return out
        _require_space(declared, paths, out.parent)
        with replacing(out) as temporary:
            frames = frames_of(declared, paths, stack, out.parent, notes)
            store.write(temporary, declared, frames, lambda done: progress("converting", done, total))
            with store.Reader(temporary) as reader:
                checks.quick(declared, reader)
    return out


def _require_space(declared: Manifest, paths: list[Path], folder: Path) -> None:
    """Raise UserError where a converted file, and what is unpacked for it, would hardly fit."""
    sizes = ((3 if file.members else 1) * path.stat().st_size for file, path in zip(declared.files, paths))
    remedy = f"remove data with `mfbench data rm`, or set {cache.VARIABLE}"
    require_space(folder, (1 << 24) + sum(sizes), f"converting {declared.name}", remedy)
