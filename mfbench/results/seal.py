"""Seals: the sha256 of every file of a finished run, written last, and of each later table by itself.

A *seal* is a small JSON file that also holds its own sha256. What it vouches for is compared byte for byte with what
is read. A run's seal is written after all its files: that it is there says that the run is finished.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfbench.errors import UserError
from mfbench.files import as_json, digest, parse_json, read_bytes, write_bytes

_FORMAT = 1

_AGAIN = "restore it from a copy, or delete the run's folder and give the command that made it again"


@dataclass(frozen=True)
class Seal:
    """What a seal says: of which run, and the sha256 of its files by their names; of some, other ones beside it."""

    run: str
    files: Mapping[str, str]
    before: Mapping[str, str]  # of files that are just being replaced

    def check(self, name: str, content: bytes, path: Path) -> None:
        """Raise UserError where the content of a file is not the one that was sealed."""
        if name not in self.files:
            raise UserError(
                f"{path}: expected a file of the finished run ({', '.join(sorted(self.files))}), got one that was "
                "added later; remove it"
            )
        got = digest(content)
        if got not in (self.files[name], self.before.get(name)):
            raise UserError(
                f"{path}: expected sha256 {self.files[name][:16]}..., got {got[:16]}...: the file was changed or "
                f"damaged after it was written; {_AGAIN}"
            )


def write_seal(path: Path, seal: Seal) -> None:
    """Write a seal by temp file and rename."""
    said: dict[str, Any] = {"format": _FORMAT, "run": seal.run, "files": dict(seal.files)}
    if seal.before:
        said["before"] = dict(seal.before)
    write_bytes(path, as_json({**said, "sha256": digest(as_json(said))}))


def read_seal(path: Path) -> Seal:
    """Read a seal; raises UserError where it is damaged, or made by a later version."""
    said = parse_json(read_bytes(path), path)
    own = said.pop("sha256", None)
    if own != digest(as_json(said)):
        raise UserError(
            f"{path}: expected the seal as it was written, got another: it was changed or damaged; {_AGAIN}"
        )
    if said.get("format") != _FORMAT:
        raise UserError(
            f"{path}: expected a seal of format {_FORMAT}, got {said.get('format')!r:.20}: made by another version of "
            "mfbench?"
        )
    return Seal(said["run"], said["files"], said.get("before", {}))
