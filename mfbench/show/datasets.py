"""Datasets as text for the terminal: lists, what is declared, where they are, what was done to them and found."""

from collections.abc import Iterable, Sequence

from mfbench import theory
from mfbench.data.catalogue import Checked, Entry, Footprint, Info, Outcome, Place, SearchFolder, State, size
from mfbench.data.findings import Finding
from mfbench.elements import SYMBOLS

_UNKNOWN = "not known beforehand"


def state_text(state: State) -> str:
    """Where a dataset stands on this machine, in a word or two."""
    if state.where == "ships":
        return "ships with mfbench"
    if state.where == "partly here":
        return f"{state.files_here} of {state.files} files"
    return state.where


def listing_text(entries: Sequence[Entry]) -> str:
    """All datasets, a line each."""
    rows = [("NAME", "STRUCTURES", "DOWNLOAD", "STATE", "LEVELS")]
    rows += [
        (
            one.name,
            "?" if one.n_structures is None else f"{one.n_structures:,}",
            "-" if not one.downloadable else "?" if one.bytes is None else size(one.bytes),
            state_text(one.state),
            _few([theory.level(name).label for name in one.levels]),
        )
        for one in entries
    ]
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    return "\n".join("  ".join([*(cell.ljust(w) for cell, w in zip(row, widths)), row[4]]).rstrip() for row in rows)


def _few(labels: list[str]) -> str:
    return ", ".join(labels) if len(labels) <= 4 else f"{', '.join(labels[:3])} and {len(labels) - 3} more"


def info_text(found: Info) -> str:
    """All that is declared of a dataset, and where it is."""
    declared = found.declared
    lines = [
        f"{declared.name}: {declared.title}",
        f"  licence     {declared.license}",
        f"  cite        {declared.citation.text}" + (f", doi:{declared.citation.doi}" if declared.citation.doi else ""),
        *([f"  data doi    {declared.doi}"] if declared.doi else []),
        f"  structures  {_number(declared.n_structures)}"
        + (f", {declared.n_molecules:,} molecules" if declared.n_molecules else ""),
        *([f"  training    at most {declared.max_train:,} structures (its authors)"] if declared.max_train else []),
        f"  state       {state_text(found.state)}",
        "  levels",
        *_labels_lines(found),
        *[f"  free atoms  {', '.join(SYMBOLS[z] for z in own)} at {name}" for name, own in found.free_atoms.items()],
        "  files",
        *_files_lines(found),
        *([f"  sets        {', '.join(found.sets)}"] if found.sets else []),
        *([f"  accepted    {'; '.join(declared.accept)}: {declared.reason}"] if declared.accept else []),
        *([f"  notes       {declared.notes}"] if declared.notes else []),
        *(["", declared.citation.bibtex.rstrip()] if declared.citation.bibtex else []),
    ]
    return "\n".join(lines)


def _labels_lines(found: Info) -> list[str]:
    lines = []
    for labels in sorted(found.declared.labels, key=lambda one: theory.level(one.level)):
        for what, given, n in (("energy", labels.energy, labels.n_energy), ("forces", labels.forces, labels.n_forces)):
            if given is not None:
                keys = " + ".join(given.key)
                lines.append(f"    {labels.level:22s} {what}  {keys} in {given.unit}: {_number(n)}")
    return lines


def _files_lines(found: Info) -> list[str]:
    lines = []
    for held in found.files:
        file = held.declared
        lines.append(f"    {file.name}: {size(file.bytes) if file.bytes else 'size not published'}")
        lines.append(f"      sha256 {file.sha256}" if file.sha256 else "      no published hash of the whole")
        for member in file.members:
            if not member.index_of:
                check = f", md5 {member.md5}" if member.md5 else ""
                lines.append(f"      holds {member.path}: {_number(member.n_structures)} structures{check}")
        lines += [f"      from {url}" for url in file.urls]
        lines += [f"      at {held.path}"] if held.path else []
    if found.converted:
        lines.append(f"    converted: {found.converted} ({size(found.converted.stat().st_size)})")
    return lines


def _number(n: int | None) -> str:
    return _UNKNOWN if n is None else f"{n:,}"


def search_path_text(folders: Iterable[SearchFolder]) -> str:
    """The folders that are searched, a line each."""
    return "\n".join(f"{one.path} ({'read and written' if one.written else 'read'})" for one in folders)


def place_text(place: Place) -> str:
    """Where a dataset's files are, a line each."""
    return "\n".join(map(str, place.paths)) or f"{place.name} is not here; it would go to {place.folder}"


def outcome_text(outcome: Outcome) -> str:
    """What was done, in a line."""
    if outcome.done == "removed":
        return f"removed {size(outcome.bytes)} from {outcome.path}"
    how = "verified" if outcome.done == "downloaded" else "converted and checked"
    return f"{outcome.path} ({size(outcome.bytes)}, {how})"


def looked_text(checked: Checked) -> str:
    """What a check looked at, in a line."""
    by = {"hash": ", by hash", "members": ", by the checks of its members", "content": ""}
    return f"{checked.name}: {'; '.join(one.name + by[one.verified_by] for one in checked.looked_at)}"


def findings_text(findings: Iterable[Finding]) -> str:
    """A line a finding, and one for each structure that it names."""
    lines = []
    for one in findings:
        mark = "FAILED" if one.failed else "accepted" if one.accepted else "ok" if one.ok else "not checked"
        lines.append(f"  {mark:11s}  {one.check}: {one.found}" + (f"; expected {one.expected}" if not one.ok else ""))
        lines += [f"{'':15s}{line}" for line in one.where if not one.ok]
        lines += [f"{'':15s}accepted: {one.accepted}"] if one.accepted else []
        lines += [f"{'':15s}{one.remedy}"] if one.failed and one.remedy else []
    return "\n".join(lines)


def footprint_text(found: Footprint) -> str:
    """What data take in memory."""
    return f"{found.structures:,} structures with {found.atoms:,} atoms, {size(found.bytes)} in memory"
