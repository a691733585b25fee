"""Archives: what is declared comes out, whole; hostile and damaged ones are refused, with nothing half-made."""

import bz2
import hashlib
import io
import os
import random
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mfbench.data import archives
from mfbench.data.manifest import DataFile, Member
from mfbench.errors import DataCorrupt, UserError

TARS = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}
KINDS = [".zip", *TARS]
CONTENT = {
    "set/a.npz": random.Random(1).randbytes(70_000),
    "set/b.csv": b"1\n2\n3\n" * 2000,
    "set/unwanted.npz": random.Random(2).randbytes(3000),
}


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


MEMBERS = tuple(Member(path=path, md5=md5(CONTENT[path])) for path in ("set/b.csv", "set/a.npz"))


def pack(path: Path, items: Sequence[tuple[str, bytes]]) -> Path:
    """An archive of what kind its name says."""
    if path.suffix == ".zip":
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            warnings.simplefilter("ignore")  # about names that occur twice
            for name, data in items:
                made.writestr(name, data)
    else:
        pack_tar(path, [(regular(name, data), data) for name, data in items])
    return path


def pack_tar(path: Path, items: Sequence[tuple[tarfile.TarInfo, bytes]]) -> Path:
    mode: Any = next(mode for suffix, mode in TARS.items() if path.name.endswith(suffix))
    with tarfile.open(path, mode) as made:
        for info, data in items:
            made.addfile(info, io.BytesIO(data))
    return path


def regular(name: str, data: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info


def special(name: str, kind: bytes, to: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info, b""


def declared(path: Path, members: Sequence[Member] = MEMBERS) -> DataFile:
    return DataFile(name=path.name, members=tuple(members))


def refused(path: Path, members: Sequence[Member] = MEMBERS, checked: bool = True, **limits: int) -> str:
    """Why an archive is refused, by ``unpack`` and by ``check``; asserts that nothing is left of it."""
    folder = path.parent / "out"
    with pytest.raises(DataCorrupt) as caught:
        archives.unpack(path, members, folder, **limits)
    assert not folder.exists() or not list(folder.iterdir())
    text = str(caught.value)
    assert text.startswith(f"{path.name}: ")
    assert "\n" not in text
    if checked:
        with pytest.raises(DataCorrupt, match="^" + path.name.replace(".", r"\.")):
            archives.check(path, declared(path, members))
    return text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "./", "././"])
def test_members_come_out_in_the_order_asked_for(tmp_path: Path, kind: str, prefix: str) -> None:
    path = pack(tmp_path / f"x{kind}", [(prefix + name, data) for name, data in CONTENT.items()])
    archives.check(path, declared(path))
    made = archives.unpack(path, MEMBERS, tmp_path / "out")
    assert made == [tmp_path / "out" / "b.csv", tmp_path / "out" / "a.npz"]
    assert [one.read_bytes() for one in made] == [CONTENT[member.path] for member in MEMBERS]
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["a.npz", "b.csv"]


def test_archives_of_several_streams(tmp_path: Path) -> None:
    """As parallel compressors write them."""
    plain = pack(tmp_path / "x.tar", list(CONTENT.items())).read_bytes()
    path = tmp_path / "x.tar.bz2"
    path.write_bytes(b"".join(bz2.compress(plain[k : k + 5000]) for k in range(0, len(plain), 5000)))
    archives.check(path, declared(path))
    assert archives.unpack(path, MEMBERS, tmp_path)[1].read_bytes() == CONTENT["set/a.npz"]


@pytest.mark.parametrize("kind", TARS)
def test_a_tar_is_read_no_further_than_needed(tmp_path: Path, kind: str) -> None:
    """So what is damaged behind the last member is found by ``check`` alone."""
    path = pack(tmp_path / f"x{kind}", [*CONTENT.items(), ("more", random.Random(3).randbytes(1_300_000))])
    path.write_bytes(path.read_bytes()[:1_200_000])
    archives.unpack(path, MEMBERS, tmp_path / "out")
    with pytest.raises(DataCorrupt, match="not a readable archive"):
        archives.check(path, declared(path))


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_member(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / f"x{kind}", [("set/a.npz", CONTENT["set/a.npz"]), *((f"m{k}", b"") for k in range(8))])
    text = refused(path)
    assert text.endswith("expected set/b.csv; it holds 'm0', 'm1', 'm2', 'm3', 'm4' and 3 more")


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_occurs_twice(tmp_path: Path, kind: str) -> None:
    twice = [("set/a.npz", b"1"), ("./set/a.npz", b"2"), ("set/b.csv", b"3")]
    members = [Member(path="set/a.npz"), Member(path="set/b.csv")]
    assert "expected set/a.npz once, found it twice" in refused(pack(tmp_path / f"x{kind}", twice), members)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_md5(tmp_path: Path, kind: str) -> None:
    changed = {**CONTENT, "set/a.npz": CONTENT["set/a.npz"][:-1] + b"?"}
    text = refused(pack(tmp_path / f"x{kind}", list(changed.items())))
    assert f"set/a.npz: expected md5 {md5(CONTENT['set/a.npz'])}, got {md5(changed['set/a.npz'])}" in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["../set/a.npz", "/set/a.npz", "set/../../a.npz", "..\\a.npz", "set/a.npz/../b.npz"])
def test_paths_lead_nowhere(tmp_path: Path, kind: str, name: str) -> None:
    """A member's path is compared: such names are other members, and nothing is written by them."""
    inner = tmp_path / "inner"
    inner.mkdir()
    path = pack(inner / f"x{kind}", [(name, b"evil"), *CONTENT.items()])
    archives.check(path, declared(path))
    archives.unpack(path, MEMBERS, inner / "out")
    assert sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*") if one.is_file()) == sorted(
        ["inner/out/a.npz", "inner/out/b.csv", f"inner/x{kind}"]
    )


@pytest.mark.parametrize(
    ("kind", "to"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "set/a.npz"),
        (tarfile.LNKTYPE, "set/a.npz"),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (tarfile.DIRTYPE, ""),
    ],
)
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_member_is_a_regular_file(tmp_path: Path, kind: bytes, to: str, suffix: str) -> None:
    items = [(regular(name, data), data) for name, data in CONTENT.items() if name != "set/b.csv"]
    path = pack_tar(tmp_path / f"x{suffix}", [*items, special("set/b.csv", kind, to)])
    assert "set/b.csv is a folder, a link or a device: expected a regular, readable file" in refused(path)


def test_a_file_through_a_link(tmp_path: Path) -> None:
    """A link to a folder, then a file below it: written by its own name all the same."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    items = [special("set", tarfile.SYMTYPE, str(elsewhere)), *((regular(n, d), d) for n, d in CONTENT.items())]
    path = pack_tar(tmp_path / "x.tar", items)
    made = archives.unpack(path, MEMBERS, tmp_path / "out")
    assert not list(elsewhere.iterdir())
    assert not any(one.is_symlink() for one in made)


def test_a_link_where_a_member_goes_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.npz").symlink_to(victim)
    made = archives.unpack(pack(tmp_path / "x.tar", list(CONTENT.items())), MEMBERS, out)
    assert victim.read_text() == "precious"
    assert made[1].read_bytes() == CONTENT["set/a.npz"]


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o644, stat.S_IFDIR | 0o755])
def test_links_in_a_zip(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as made:
        info = zipfile.ZipInfo("set/a.npz")
        info.external_attr = mode << 16
        made.writestr(info, "/etc/passwd")
    text = refused(path, [Member(path="set/a.npz")])
    assert "set/a.npz is a folder, a link or a device" in text


def zip_bytes(content: bytes = b"0123456789" * 100, method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        made.writestr("a.npz", content)
    return bytearray(buffer.getvalue())


def patched(path: Path, at_local: int, at_central: int, value: bytes) -> Path:
    """A zip with one field of its member overwritten, in both of its headers."""
    data = zip_bytes()
    for signature, offset in ((b"PK\3\4", at_local), (b"PK\1\2", at_central)):
        begin = data.index(signature) + offset
        data[begin : begin + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        ((6, 8), b"\1\0", "a.npz is encrypted"),
        ((8, 10), b"\x63\0", "compression"),
        ((14, 16), b"\1\2\3\4", "Bad CRC-32"),
        ((22, 24), (10).to_bytes(4, "little"), "Bad CRC-32"),
        ((22, 24), (5000).to_bytes(4, "little"), "expected 5,000 bytes as it says, got 1,000"),
        ((18, 20), (3).to_bytes(4, "little"), "not a readable archive"),
    ],
)
def test_zips_that_lie(tmp_path: Path, at: tuple[int, int], value: bytes, message: str) -> None:
    """About encryption, method, checksum, and the sizes of the member."""
    path = patched(tmp_path / "x.zip", *at, value)
    assert message in refused(path, [Member(path="a.npz")])


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_bombs(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by what comes out, not by what they say: by the bound that is asked for, and by their own size."""
    path = pack(tmp_path / f"x{kind}", [("a.npz", bytes(5_000_000))])
    wanted = [Member(path="a.npz")]
    archives.check(path, declared(path, wanted))
    assert "refused as a bomb" in refused(path, wanted, checked=False, max_bytes=1_000_000)
    monkeypatch.setattr(archives, "_SMALL", 100_000)
    assert "refused as a bomb" in refused(path, wanted)


@pytest.mark.parametrize("kind", [".tar.gz", ".tar.bz2", ".tar.xz"])
def test_bombs_beside_the_member(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / f"x{kind}", [("bomb", bytes(5_000_000)), ("a.npz", b"1")])
    assert "refused as a bomb" in refused(path, [Member(path="a.npz")], checked=False, max_bytes=1_000_000)


def test_a_sparse_bomb(tmp_path: Path) -> None:
    """A file of holes only: next to nothing in the archive, and beyond any disk when it is written."""
    info = tarfile.TarInfo("a.npz")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(1 << 40)}
    info.pax_headers |= {"GNU.sparse.numblocks": "1", "GNU.sparse.map": f"{1 << 40},0", "GNU.sparse.name": "a.npz"}
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as made:
        made.addfile(info)
    assert "refused as a bomb" in refused(path, [Member(path="a.npz")])


@pytest.mark.parametrize("size", [0, 100, 1 << 40])
def test_a_tar_that_lies_about_a_size(tmp_path: Path, size: int) -> None:
    data = bytearray(pack(tmp_path / "x.tar", [("a.npz", b"0123456789" * 100), ("b.npz", b"1")]).read_bytes())
    info = tarfile.TarInfo("a.npz")
    info.size = size
    data[:512] = info.tobuf()[-512:] if size < 1 << 33 else info.tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    wanted = [Member(path="a.npz", md5=md5(b"0123456789" * 100)), Member(path="b.npz")]
    refused(path, wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_the_name_says_what_it_is(tmp_path: Path, kind: str, other: str) -> None:
    content = pack(tmp_path / f"x{kind}", list(CONTENT.items())).read_bytes()
    path = tmp_path / f"y{other}"
    path.write_bytes(content)
    same = TARS.get(kind) == TARS.get(other)
    if same:
        archives.check(path, declared(path))
    else:
        assert "not a readable archive" in refused(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"", b"PK", b"<html>not here</html>", bytes(20_000), bytes(range(256)) * 10])
def test_no_archive_at_all(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / f"x{kind}"
    path.write_bytes(content)
    refused(path)


def test_other_names_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "x.rar"
    path.write_bytes(b"Rar!")
    with pytest.raises(UserError, match=r"x\.rar: expected an archive whose name ends in \.zip, \.tar, \.tar\.gz"):
        archives.unpack(path, MEMBERS, tmp_path / "out")
    with pytest.raises(UserError, match="no file"):
        archives.unpack(tmp_path / "x.zip", MEMBERS, tmp_path / "out")
    with pytest.raises(UserError, match="expected members of different names"):
        archives.unpack(path, [Member(path="a/x"), Member(path="b/x")], tmp_path / "out")


def outcome(path: Path, out: Path) -> bool:
    """Whether the right bytes came out; anything but them, or a DataCorrupt without a trace, fails."""
    results = []
    run: Callable[[], object]
    for run in (lambda: archives.unpack(path, MEMBERS, out), lambda: archives.check(path, declared(path))):
        try:
            run()
        except DataCorrupt:
            results.append(False)
        else:
            results.append(True)
    left = sorted(one.name for one in out.iterdir()) if out.exists() else []
    assert left == (["a.npz", "b.csv"] if results[0] else [])
    if results[0]:
        assert [(out / member.name).read_bytes() for member in MEMBERS] == [CONTENT[m.path] for m in MEMBERS]
        for member in MEMBERS:
            (out / member.name).unlink()
    return all(results)


@pytest.mark.parametrize("kind", KINDS)
def test_cut_anywhere(tmp_path: Path, kind: str) -> None:
    whole = pack(tmp_path / f"x{kind}", list(CONTENT.items())).read_bytes()
    points = {0, 1, 2, 100, 511, 512, 513, 1024, *range(0, len(whole), 1999), *(len(whole) - k for k in range(1, 12))}
    for point in sorted(points):
        path = tmp_path / f"cut{kind}"
        path.write_bytes(whole[:point])
        right = outcome(path, tmp_path / "out")
        assert not right or (kind == ".tar" and point > 76_000)  # a plain tar ends with zeros that nobody misses


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_anywhere(tmp_path: Path, kind: str) -> None:
    """Any damage is found, or does not touch the members: no other error, and no wrong bytes."""
    whole = pack(tmp_path / f"x{kind}", list(CONTENT.items())).read_bytes()
    chance = random.Random(7)
    for k in range(60):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 4, 30])):
            near = chance.choice([chance.randrange(len(data)), chance.randrange(300), -1 - chance.randrange(300)])
            data[near] = chance.randrange(256)
        if k % 10 == 0:
            data += b"trailing garbage"
        path = tmp_path / f"damaged{kind}"
        path.write_bytes(data)
        outcome(path, tmp_path / "out")


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "x.zip", list(CONTENT.items()))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file.*: .*MFBENCH_DATA"):
        archives.unpack(path, MEMBERS, tmp_path / "file")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left on device: remove data with `mfbench data rm`"):
        archives.unpack(path, MEMBERS, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
