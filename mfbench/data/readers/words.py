"""What keys of a structure say besides its labels: molecule, set and state, and of which level its labels are."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbench.data.manifest import TAGGED, Content, Manifest
from mfbench.data.molecules import CHARGE_KEYS, SPIN_KEYS, named, state_of
from mfbench.data.readers.base import Column, rows_of
from mfbench.data.structures import Frames
from mfbench.elements import formula
from mfbench.errors import DataCorrupt

# Keys by which people part the labels of several levels in one file; and one that parts structures as often.
_PARTING = ("head", "theory", "level", "method", "level_of_theory")
_CONFIG = "config_type"


class Kind(NamedTuple):
    """What frames share that are put together, their atoms aside."""

    molecule: str
    set: str  # "": none
    told: tuple[tuple[str, str], ...]  # keys that labels depend on, and their values


@dataclass
class Words:
    """The keys of one file that the manifest names, or that say something of a structure; and what was seen of them."""

    path: Path
    content: Content
    manifest: Manifest
    labels: frozenset[str]  # keys of energies and forces
    where: frozenset[str]  # keys that labels depend on
    tags: frozenset[str]  # those, and the keys of molecule and set
    states: Mapping[str, str]  # the manifest's keys of charge and spin: in lower case, and as they are spelt
    seen: set[str] = field(default_factory=set)
    parted: dict[str, dict[str, set[str]]] = field(default_factory=dict)  # parting key -> label key -> values
    structures: int = 0
    molecules: bool = False  # a structure of more than one atom
    bare: bool = False  # of xyz: a comment line without keys

    @classmethod
    def of(cls, path: Path, content: Content, manifest: Manifest) -> "Words":
        """Of a file of which nothing was seen so far."""
        labels = manifest.labels_in(content)
        where = frozenset(key for one in labels for key in one.where)
        return cls(
            path,
            content,
            manifest,
            frozenset(key for one in labels for part in (one.energy, one.forces) if part for key in part.key),
            where,
            where | {key for key in (manifest.molecule_key, manifest.set_key) if key},
            {key.lower(): key for key in (manifest.charge_key, manifest.spin_key) if key},
        )

    def parts(self, key: str) -> bool:
        """Whether labels may be of several levels by this key, of which the manifest says nothing."""
        return key.lower() in (*_PARTING, _CONFIG) and key not in self.tags and key not in self.manifest.ignored_keys

    def wants(self, key: str) -> bool:
        """Whether a key of the file, spelt as there, is one of these."""
        if key in self.manifest.ignored_keys:
            return key in self.tags
        return key in self.tags or key.lower() in (*self.states, *CHARGE_KEYS, *SPIN_KEYS) or self.parts(key)

    def kind(self, words: Mapping[str, str], numbers: NDArray, where: str, name: str | None = None) -> Kind:
        """Molecule, set and level of a structure.

        Args:
            numbers: atomic numbers, (N,).
            where: for errors.
            name: of its molecule, where neither a key nor the manifest names it; None: its formula.
        """
        stated = {key: word for key, word in words.items() if key not in self.manifest.ignored_keys}
        state = state_of(stated, numbers, (self.manifest.charge_key, self.manifest.spin_key), where)
        told = self.content.molecule or words.get(self.manifest.molecule_key or "") or name or formula(numbers)
        return Kind(
            named(told, state),
            words.get(self.manifest.set_key or "", ""),
            tuple(sorted((key, words[key]) for key in self.where & words.keys())),
        )

    def see(self, labels: Iterable[str], words: Iterable[str], n_atoms: int) -> None:
        """Note which keys structures have."""
        self.seen |= self.labels.intersection(labels) | self.tags.intersection(words)
        if self.states:
            self.seen |= self.states.keys() & {key.lower() for key in words}
        self.molecules |= n_atoms > 1

    def see_parting(self, words: Mapping[str, Iterable[str]], labelled: Callable[[str], Iterable[bool]]) -> None:
        """Note the values of parting keys for structures of one molecule, free atoms aside.

        Args:
            labelled: which of the structures have a label of this key.
        """
        for key in filter(self.parts, words):
            for label in self.labels:
                values = {word for word, has in zip(words[key], labelled(label)) if has}
                self.parted.setdefault(key, {}).setdefault(label, set()).update(values)

    def told(self, frames: Iterable[Frames]) -> Iterator[Frames]:
        """All frames of the file, the last with notes for people.

        Raises:
            DataCorrupt: a key that no structure has; or one key's labels are of several levels, as another key tells.
        """
        last: Frames | None = None
        for one in frames:
            if last is not None:
                yield last
            last, self.structures = one, self.structures + len(one.rows)
        if last is not None:
            self._require()
            self._not_parted()
            yield replace(last, notes={**last.notes, **self._ignored()})

    def _require(self) -> None:
        if not self.molecules and self.labels & self.seen:  # free atoms: a file of them needs energies alone
            return
        missing = sorted((self.labels | self.tags | self.states.keys()) - self.seen)
        if not missing:
            return
        hint = (
            "; its comment lines are bare: name their words in order with `comment: [energy]`, and what follows the "
            "positions by number with `columns: {forces: 5}`"
            if self.bare
            else ""
        )
        named = [self.states.get(key, key) for key in missing]
        raise DataCorrupt(
            f"{self.path}: expected the keys {named} that the manifest names; no structure has them{hint}"
        )

    def _not_parted(self) -> None:
        """Refuse labels of several levels under one key, where a key tells them apart that the manifest ignores."""
        for key, by_label in self.parted.items():
            for label, values in by_label.items():
                if len(values) > 1 and key.lower() != _CONFIG:
                    shown = ", ".join(sorted(values)[:4])
                    own = (
                        f"give each level its own with `where: {{{key}: {min(values)}}}`"
                        if self.manifest.format in TAGGED
                        else "give each level a file of its own"
                    )
                    raise DataCorrupt(
                        f"{self.path}: key {label!r}: expected labels of one level; the key {key!r} parts them "
                        f"({shown}): {own}; if all are one level, say `ignored_keys: [{key}]`"
                    )

    def _ignored(self) -> dict[str, int]:
        """For people: the key that parts structures as often as labels, where the manifest does not name it."""
        notes = {}
        for key, by_label in self.parted.items():
            values = set().union(*by_label.values())
            if key.lower() == _CONFIG and len(values) > 1:
                shown = ", ".join(sorted(values)[:6])
                notes[f"{key} has {len(values)} values ({shown}) and is not looked at"] = self.structures
        return notes


def said(where: str, key: str, column: Column, rows: slice, count: int) -> list[str]:
    """What a column says of some of ``count`` structures; see ``texts`` and ``rows_of``."""
    return texts(where, key, rows_of(where, key, column, rows, count, ((), (1,)), f"say `ignored_keys: [{key}]`"))


def texts(where: str, key: str, raw: NDArray) -> list[str]:
    """Names as they are written, (C,); numbers are names, too, and whole ones are written so."""
    values = raw.ravel().tolist()
    if raw.dtype.kind in "iub":
        return [str(one) for one in values]
    if raw.dtype.kind == "f":
        return [str(int(one)) if one.is_integer() else repr(one) for one in values]
    decoded = [one.decode() if isinstance(one, bytes) else one for one in values]
    if not all(isinstance(one, str) for one in decoded):
        raise DataCorrupt(f"{where}: key {key!r}: expected names, text or numbers, got {raw.dtype}")
    return decoded


def labelled(values: NDArray) -> NDArray[np.bool_]:
    """Which of C frames have a label, of values (C, ...): NaN is none."""
    if values.dtype.kind != "f":
        return np.ones(len(values), bool)
    return ~np.isnan(values).all(axis=tuple(range(1, values.ndim)))
