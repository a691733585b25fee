"""Extended xyz as people write it: put into the spelling that ASE reads, then read by ASE.

What ASE would refuse or read as something else: deuterium as ``D``, atomic numbers and labels (``8``, ``O1``) for
elements, exponents with D, ``None`` for a label, a lattice of zeros, bare numbers on the comment line, names that look
like numbers, a byte order mark, Latin-1, gzip.
"""

import gzip
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

import ase.io
from ase import Atoms
from ase.data import atomic_numbers

from mfbench.errors import DataCorrupt

_CHUNK = 1 << 20  # characters that ASE is given at a time

_MOST_LINE = 1 << 20  # characters of a line: more than any real one

_MOST_PACKED = 1100  # times a gzip file's size: what it holds at most

# Possessive and bounded, so that no line takes longer than its length: a key begins behind a space or another value.
_PAIR = re.compile(
    r"""(?<![^\s"'}\]])([^\s=]{1,256}+)\s*+=\s*+"""
    r"""("(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|\{[^}]{0,65536}+\}|\[[^\]]{0,65536}+\]|\S++)"""
)

_EXPONENT = re.compile(r"(?<=[\d.])[dD](?=[+-]?\d)")

_LABELLED = re.compile(r"([A-Z][a-z]?)\d+")

_ISOTOPES = {"D": "H", "T": "H"}

_NONE = ("none", "null", "n/a")

_UNREADABLE = (OSError, ValueError, KeyError, IndexError, TypeError, AssertionError, StopIteration, EOFError)


@dataclass(frozen=True)
class Frame:
    """One frame: as ASE reads it, and the words of its comment line as they are written."""

    row: int
    atoms: Atoms
    words: Mapping[str, str]
    isotopes: int = 0  # atoms that are written as deuterium or tritium, and read as hydrogen
    bare: bool = False  # its comment line has words and no keys


def count(path: Path) -> int:
    """How many frames a file holds.

    Raises:
        DataCorrupt: the file is cut short, where ASE would take a last frame for no frame at all.
    """
    return _encoding(path)[1]


def frames(path: Path, comment: tuple[str, ...] = (), columns: Mapping[str, int] | None = None) -> Iterator[Frame]:
    """Yield the frames of a file.

    Args:
        comment: names of the words of a comment line without keys.
        columns: by name, the number (from 1) of the first of three columns, in frames whose comment has no keys.

    Raises:
        DataCorrupt: see ``count``; or ASE cannot read a frame.
    """
    encoding, _ = _encoding(path)
    pending: list[_Text] = []
    with _opened(path, encoding) as file:
        size = 0
        for row, lines in _pieces(path, file):
            text = _respelled(path, row, lines, comment, columns or {})
            pending.append(text)
            size += len(text.text)
            if size > _CHUNK:
                yield from _read(path, pending)
                pending, size = [], 0
    yield from _read(path, pending)


def _opened(path: Path, encoding: str) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=encoding)
    return open(path, encoding=encoding)


def _encoding(path: Path) -> tuple[str, int]:
    """How the text is encoded, and how many frames it holds."""
    for encoding in ("utf-8-sig", "latin-1"):
        try:
            with _opened(path, encoding) as file:
                return encoding, sum(1 for _ in _pieces(path, file))
        except UnicodeDecodeError:
            continue
    raise AssertionError("every file is Latin-1")


def _pieces(path: Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Row and lines of each frame, the number of atoms aside."""
    row, most = 0, path.stat().st_size * (_MOST_PACKED if path.suffix == ".gz" else 1)
    while count := file.readline(_MOST_LINE).strip():
        if not count.isdecimal() or len(count) > 9:
            raise DataCorrupt(f"{path}: structure {row}: expected a number of atoms, got {count!r:.40}")
        if int(count) > most:
            raise DataCorrupt(f"{path}: structure {row}: expected {count} atoms, the file is far too small: cut short?")
        lines = list(islice(iter(lambda: file.readline(_MOST_LINE), ""), int(count) + 1))
        if len(lines) < int(count) + 1:
            raise DataCorrupt(f"{path}: structure {row}: expected {count} atoms, the file ends before: cut short")
        if not lines[-1].endswith("\n"):  # a number that lost its last digits would be read as another number
            raise DataCorrupt(f"{path}: expected a newline at its end: cut short? If it is whole, add one")
        yield row, lines
        row += 1
    while piece := file.read(_CHUNK):
        if piece.strip():
            where = f"after structure {row - 1}" if row else "at its beginning"
            raise DataCorrupt(f"{path}: expected a number of atoms {where}, got an empty line")


@dataclass(frozen=True)
class _Text:
    """One frame in ASE's spelling."""

    row: int
    text: str
    words: Mapping[str, str]
    isotopes: int
    bare: bool


def _respelled(path: Path, row: int, lines: list[str], comment: tuple[str, ...], columns: Mapping[str, int]) -> _Text:
    where = f"{path}: structure {row}"
    head, rest = lines[0].strip(), lines[1:]
    words = _words(where, head)
    bare = bool(head) and not words
    width = len(rest[0].split()) if rest else 0
    if bare and (comment or columns):
        values = head.split()
        if len(values) < len(comment):
            raise DataCorrupt(
                f"{where}: comment: expected {len(comment)} words ({', '.join(comment)}), got {head!r:.60}"
            )
        words = {name: value for name, value in zip(comment, values) if name != "_"}
        head = " ".join(f"{name}={value}" for name, value in words.items())
    if columns and "Properties" not in words:
        words = {"Properties": _properties(where, columns, width), **words}
        head = f"Properties={words['Properties']} {head}"
    species = _species_column(where, words.get("Properties", ""), width)
    isotopes, body = 0, []
    for k, line in enumerate(rest):
        parts = line.split()
        symbol = parts[species] if species is not None and species < len(parts) else None
        if symbol is not None and symbol not in atomic_numbers:
            parts[species or 0] = _element(f"{where}, atom {k}", symbol)
            isotopes += symbol in _ISOTOPES
            line = " ".join(parts) + "\n"
        body.append(_EXPONENT.sub("e", line) if "D" in line or "d" in line else line)
    return _Text(row, f"{len(rest)}\n{_PAIR.sub(_for_ase, head)}\n{''.join(body)}", words, isotopes, bare)


def _words(where: str, head: str) -> dict[str, str]:
    """Keys and values as they are written, quotes aside."""
    found: dict[str, str] = {}
    for key, value in _PAIR.findall(head):
        if key in found:
            raise DataCorrupt(f"{where}: expected the key {key!r} once on the comment line, got it twice")
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        if value.lower() in _NONE:
            continue
        found[key.strip("\"'")] = re.sub(r"\\(.)", r"\1", value[1:-1]) if quoted else value
    return found


def _for_ase(pair: re.Match[str]) -> str:
    """One key with its value: nothing for one without a value and for a lattice of zeros; exponents with E."""
    key, value = pair[1], pair[2].strip("\"'")
    if value.lower() in _NONE or (key.lower() == "lattice" and _all_zero(value)):
        return ""
    with_e = _EXPONENT.sub("e", value)
    return f"{key}={with_e}" if with_e != value and _is_number(with_e) else pair[0]


def _all_zero(value: str) -> bool:
    return all(_is_number(part) and float(part) == 0 for part in value.split())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _properties(where: str, columns: Mapping[str, int], width: int) -> str:
    """Of frames whose comment line names no columns: an element, a position, and what the manifest says."""
    found, at = ["species:S:1:pos:R:3"], 5
    for name, first in sorted(columns.items(), key=lambda item: item[1]):
        if first < at or first + 2 > width:
            raise DataCorrupt(f"{where}: columns: {name}: expected a number from {at} to {width - 2}, got {first}")
        found += [f"_{at}:S:{first - at}"] if first > at else []
        found, at = [*found, f"{name}:R:3"], first + 3
    return ":".join(found)


def _species_column(where: str, properties: str, width: int) -> int | None:
    """Which column of the atoms names the element; None: none does.

    Raises:
        DataCorrupt: more columns are named than there are: ASE would make room for them first.
    """
    parts, at, species = properties.split(":"), 0, None
    if not properties:
        return 0
    for name, _, size in zip(parts[::3], parts[1::3], parts[2::3]):
        species = at if name == "species" and species is None else species
        at += int(size) if size.isdecimal() and len(size) < 10 else 0
    if at > width:
        raise DataCorrupt(f"{where}: Properties: expected as many columns as the atoms have, {width}, got {at:,}")
    return species


def _element(where: str, symbol: str) -> str:
    if symbol.isdecimal() and len(symbol) < 4 and 0 < int(symbol) < len(atomic_numbers):
        return next(name for name, number in atomic_numbers.items() if number == int(symbol))
    if symbol in _ISOTOPES:
        return _ISOTOPES[symbol]
    if (found := _LABELLED.fullmatch(symbol)) and found[1] in atomic_numbers:
        return found[1]
    if symbol.upper() in ("H", "C", "N", "O", "F", "S", "P", "CL", "BR"):  # CA, CO or NA could be two things
        return symbol.capitalize()
    raise DataCorrupt(f"{where}: expected an element, got {symbol!r}: write its symbol or its atomic number")


def _read(path: Path, texts: list[_Text]) -> Iterator[Frame]:
    """Have ASE read some frames."""
    if not texts:
        return
    try:
        read = list(ase.io.iread(io.StringIO("".join(one.text for one in texts)), index=":", format="extxyz"))
    except _UNREADABLE:
        read = []
    for k, one in enumerate(texts):
        try:
            atoms = read[k] if len(read) == len(texts) else ase.io.read(io.StringIO(one.text), format="extxyz")
        except _UNREADABLE as error:
            raise DataCorrupt(f"{path}: structure {one.row}: not extended xyz that ASE can read: {error}") from error
        assert isinstance(atoms, Atoms)
        yield Frame(one.row, atoms, one.words, one.isotopes, one.bare)
