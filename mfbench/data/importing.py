"""Taking people's own files into the cache: described, read, checked, and only then kept."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mfbench import resources
from mfbench.data import cache, checks, datasets, store
from mfbench.data.catalogue import SILENT, Checked, Watch
from mfbench.data.findings import Finding, require
from mfbench.data.manifest import Manifest, own_dataset
from mfbench.data.reading import Notes
from mfbench.data.structures import Structures
from mfbench.errors import UserError
from mfbench.files import replacing, sha256
from mfbench.records import as_record, read_mapping, write_yaml


def import_files(paths: list[Path], description: Path, watch: Watch = SILENT) -> Checked:
    """Take people's own data into the cache: described by a manifest, converted, and checked like any other.

    Hashes and counts are filled in. The manifest names ``files`` only where they differ: each with the ``labels`` that
    it holds, in keys of its own.

    Returns:
        The findings of its checks, which it passed.

    Raises:
        UserError: the manifest is not sound, or its name is taken by a shipped dataset.
        DataCorrupt: the files are not what it declares, or fail a check; nothing is kept then.
    """
    content = read_mapping(description)
    for path in paths:
        if not path.is_file():
            raise UserError(f"no file {path} to import")
    content["files"] = _files(description, content.get("files") or [], paths)
    if not content.get("labels"):
        content["labels"] = _labels_of_all(content["files"])
    content.setdefault("name", description.stem)
    declared = as_record(content, Manifest, description)
    if (resources.manifests() / f"{declared.name}.yaml").is_file() or own_dataset(declared.name) or declared.shipped:
        raise UserError(f"{description}: the name {declared.name!r} is taken by another dataset: choose another")
    folder = cache.folder_of(declared.name)
    trial = folder / f".{declared.name}.trial.h5"  # an earlier import stays until this one is known to be sound
    try:
        notes: Notes = Counter()
        with watch.counts(declared.name) as progress:
            datasets.convert(declared, paths, trial, progress, notes)
        with store.Reader(trial) as reader:
            found = checks.check(declared, reader)
            require(found)
            counted = _counted(declared, reader.outline, found)
        trial.replace(folder / cache.converted_name(declared.name))
    finally:
        trial.unlink(missing_ok=True)
        trial.with_name(f".{trial.name}.lock").unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    with replacing(folder / f"{declared.name}.yaml") as temporary:  # only now is it there for other commands
        write_yaml(temporary, counted)
    told = [Finding(f"as read, {file}", True, "", f"{note}, in {n:,} structures") for (file, note), n in notes.items()]
    idle = [one for one in declared.accept if one not in (counted.failed or ())]
    told += [Finding(f"accept: {one}", True, "", "no check of that name failed") for one in idle]
    return Checked(declared.name, (*told, *found))


def _files(description: Path, said: Any, paths: list[Path]) -> list[dict[str, Any]]:
    """The files of the command line, hashed now, with what the manifest says of each."""
    by_name: dict[str, dict[str, Any]] = {}
    for one in said if isinstance(said, list) else [said]:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str) or one.keys() & {"bytes", "sha256"}:
            raise UserError(
                f"{description}: files: expected a name and labels for each file (sizes and hashes are found now), got "
                f"{one!r:.80}"
            )
        if one["name"] in by_name:
            raise UserError(f"{description}: files: expected each name once, got {one['name']} twice")
        by_name[one["name"]] = one
    names = [path.name for path in paths]
    if by_name and (strange := sorted(set(by_name) ^ set(names))):
        raise UserError(
            f"{description}: files: expected those of the command line ({', '.join(names)}), and each of them; "
            f"{', '.join(strange)} differ"
        )
    return [
        {**by_name.get(path.name, {}), "name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in paths
    ]


def _labels_of_all(files: list[dict[str, Any]]) -> list[Any]:
    """What the dataset's labels are where only its files say so: of each level, the first of a kind."""
    levels: dict[Any, dict[str, Any]] = {}
    for one in (one for file in files for one in file.get("labels") or [] if isinstance(one, dict)):
        level = levels.setdefault(str(one.get("level")), {})
        for key, value in one.items():
            if key != "where":
                level.setdefault(key, value)
    return [*levels.values()]


def _counted(declared: Manifest, outline: Structures, findings: Iterable[Finding]) -> Manifest:
    """The manifest with the counts that were found, and the accepted checks that did fail."""
    labels = []
    for one in declared.labels:
        column = outline.level_index(one.level)
        n_energy, n_forces = (int(mask[:, column].sum()) for mask in (outline.energy_mask, outline.force_mask))
        labels.append(one.model_copy(update={"n_energy": n_energy, "n_forces": n_forces}))
    beyond = {name for one in findings if one.accepted for name in (one.name, one.check)}
    failed = tuple(name for name in declared.accept if name in beyond)
    found = {"n_structures": len(outline), "n_molecules": len(outline.molecules), "labels": tuple(labels)}
    return declared.model_copy(update={**found, "failed": failed})
