"""What ``mfbench data ...`` does: where datasets are, pulled, converted, checked, imported and removed."""

from collections.abc import Container
from pathlib import Path

from mfbench import resources
from mfbench.bars import counts
from mfbench.data import cache, checks, datasets, store
from mfbench.data.datasets import DataRequest
from mfbench.data.manifest import Manifest, manifest, own_dataset, shipped_folder
from mfbench.data.reading import read
from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.files import replacing, sha256
from mfbench.machine import memory
from mfbench.records import as_record, read_mapping, write_yaml


def size(count: float) -> str:
    """A number of bytes for people, in decimal units: ``5.6 GB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def state(declared: Manifest) -> str:
    """Where a dataset stands on this machine, in a word or two."""
    if declared.shipped:
        return "ships with mfbench" if own_dataset(declared.name) is None else "ships with its package"
    if datasets.find_converted(declared):
        return "ready"
    here = [file for file in declared.files if cache.find(declared.name, file.name)]
    if len(here) == len(declared.files):
        return "downloaded"
    return f"{len(here)} of {len(declared.files)} files" if here else "not here"


def where(name: str | None) -> str:
    """The search path, or where a dataset's files are."""
    if name is None:
        *sites, last = cache.roots()
        return "\n".join([*(f"{site} (read)" for site in sites), f"{last} (read and written)"])
    declared = manifest(name)
    if declared.shipped:
        return "\n".join(str(shipped_folder(declared) / file.name) for file in declared.files)
    names = [*(file.name for file in declared.files), cache.converted_name(name)]
    found = [str(path) for one in names if (path := cache.find(name, one))]
    return "\n".join(found) or f"{name} is not here; it would go to {cache.folder_of(name)}"


def convert(name: str, folder: Path | None = None, out: Path | None = None, trusted: Container[str] = ()) -> str:
    """Verify and convert a dataset's raw files (all but the ``trusted``); says where the converted file is."""
    declared = manifest(name)
    paths = datasets.raw_files(declared, folder, trusted)
    with counts(declared.name) as progress:
        path = datasets.convert(declared, paths, out, progress)
    return f"{path} ({size(path.stat().st_size)}, converted and checked)"


def check(name: str, folder: Path | None = None) -> tuple[list[checks.Finding], str]:
    """Check a dataset: hashes of its raw files where they are here, then everything that physics can tell.

    Returns:
        The findings, and what was looked at.
    """
    declared = manifest(name)
    looked = []
    if declared.shipped or folder is not None:
        paths = datasets.raw_files(declared, folder)
        looked += [f"{path.name}, by hash" for path in paths]
    else:
        for file in declared.files:
            if path := cache.find(name, file.name):
                datasets.verify(file, path)
                looked.append(f"{file.name}, by {'hash' if file.sha256 else 'the checks of its members'}")
        paths = []
    with counts(name) as progress:
        if paths and datasets.is_small(paths):
            structures = read(declared, paths)
            found = checks.check(declared, structures, lambda done: progress("checking", done, len(structures)))
        else:
            converted = datasets.find_converted(declared) or datasets.convert(
                declared, paths or datasets.raw_files(declared), progress=progress
            )
            looked.append(str(converted))
            with store.Reader(converted) as reader:
                found = checks.check(declared, reader, lambda done: progress("checking", done, len(reader.outline)))
    return found, "; ".join(looked)


def import_files(paths: list[Path], description: Path) -> tuple[str, list[checks.Finding]]:
    """Take people's own data into the cache: described by a manifest, converted, and checked like any other.

    The manifest may leave out ``files`` (they are those given) and the counts, which are filled in.

    Returns:
        The dataset's name and the findings of its checks.

    Raises:
        UserError: the manifest is not sound, or its name is taken by a shipped dataset.
        DataCorrupt: the files are not what it declares, or fail a check; nothing is kept then.
    """
    content = read_mapping(description)
    if content.get("files"):
        raise UserError(f"{description}: expected no files: they are those of the command line, and hashed now")
    for path in paths:
        if not path.is_file():
            raise UserError(f"no file {path} to import")
    content["files"] = [{"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)} for path in paths]
    content.setdefault("name", description.stem)
    declared = as_record(content, Manifest, description)
    if (resources.manifests() / f"{declared.name}.yaml").is_file() or own_dataset(declared.name) or declared.shipped:
        raise UserError(f"{description}: the name {declared.name!r} is taken by another dataset: choose another")
    folder = cache.folder_of(declared.name)
    trial = folder / f".{declared.name}.trial.h5"  # an earlier import stays until this one is known to be sound
    try:
        with counts(declared.name) as progress:
            datasets.convert(declared, paths, trial, progress)
        with store.Reader(trial) as reader:
            found = checks.check(declared, reader)
            checks.require(found)
            counted = _counted(declared, reader.outline)
        trial.replace(folder / cache.converted_name(declared.name))
    finally:
        trial.unlink(missing_ok=True)
        trial.with_name(f".{trial.name}.lock").unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    with replacing(folder / f"{declared.name}.yaml") as temporary:  # only now is it there for other commands
        write_yaml(temporary, counted)
    return declared.name, found


def _counted(declared: Manifest, outline: Structures) -> Manifest:
    """The manifest with the counts that were found."""
    labels = []
    for one in declared.labels:
        column = outline.level_index(one.level)
        n_energy, n_forces = (int(mask[:, column].sum()) for mask in (outline.energy_mask, outline.force_mask))
        labels.append(one.model_copy(update={"n_energy": n_energy, "n_forces": n_forces}))
    found = {"n_structures": len(outline), "n_molecules": len(outline.molecules), "labels": tuple(labels)}
    return declared.model_copy(update=found)


def footprint(request: DataRequest) -> str:
    """What the data of a run take in memory, told before they are loaded; raises UserError if they cannot fit."""
    structures = atoms = need = 0
    for declared, held, subset in request.parts():
        path = datasets.find_converted(declared)
        if path is None:
            continue
        with store.Reader(path, held, subset) as reader:
            outline = reader.outline
            n = int(outline.offsets[-1])
            per_atom = 1 + 3 * outline.positions.itemsize + 12 * int(outline.force_mask.any(0).sum())
            structures, atoms = structures + len(outline), atoms + n
            need += n * per_atom + len(outline) * (40 + 10 * len(outline.levels))
    there = memory()
    if there is not None and need > there:
        raise UserError(
            f"these data need {size(need)} of memory and this machine has {size(there)}: choose fewer structures in "
            "a case of your own (subsets: molecules, formulas, max_atoms, labelled, sets)"
        )
    return f"{structures:,} structures with {atoms:,} atoms, {size(need)} in memory" if structures else ""
