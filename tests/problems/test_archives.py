"""Archives of reviews that are truncated, altered, hostile or not archives."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auxgrad.errors import DataError
from auxgrad.problems.reviews import AclImdb
from auxgrad.problems.reviews.archive import Limits, files
from auxgrad.problems.reviews.corpus import load
from auxgrad.problems.reviews.reading import REVIEW_FILE

REVIEWS = {
    f"aclImdb/{split}/{kind}/{i}_1.txt": f"{kind} word{i}".encode()
    for split in ("train", "test")
    for kind in ("neg", "pos")
    for i in range(12)
}


def member(name: str, content: bytes = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def packed(members, mode="w:gz", layout=tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, format=layout) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content) if content else None)
    return stream.getvalue()


def whole(*more, mode="w:gz") -> bytes:
    return packed([*(member(*review) for review in REVIEWS.items()), *more], mode)


@pytest.fixture
def refused(tmp_path):
    """Return a function from the bytes of an archive to the message that refuses it."""
    home = tmp_path / "home"
    home.mkdir()

    def line(content: bytes) -> str:
        file = home / "a b.tar.gz"
        file.write_bytes(content)
        with pytest.raises(DataError) as caught:
            load(AclImdb(path=file, cache_dir=home / "cache", num_words=20))
        text = str(caught.value)
        assert len(text.splitlines()) == 1
        assert text.startswith(f"data.path={file}: ")
        assert {*tmp_path.rglob("*")} <= {home, file, home / "cache", *home.glob("cache/*.lock")}
        return text.removeprefix(f"data.path={file}: ")

    return line


def test_the_archive_of_these_tests_is_a_good_one(tmp_path):
    prints = set()
    for mode in ("w:gz", "w"):
        file = tmp_path / f"{mode[2:]}.tar"
        file.write_bytes(whole(mode=mode))
        prints.add(load(AclImdb(path=file, cache_dir=tmp_path, num_words=20)).fingerprint)
    assert len(prints) == 1


ONLY = "only files and folders are allowed"


@pytest.mark.parametrize(
    ("odd", "line"),
    [
        (member("../up.txt"), "member '../up.txt' points outside the archive"),
        (
            member("aclImdb/train/pos/../../../../../up.txt", b"x"),
            "member 'aclImdb/train/pos/../../../../../up.txt' points outside the archive",
        ),
        (
            member("/train/pos/absolute.txt", b"x"),
            "member '/train/pos/absolute.txt' points outside the archive",
        ),
        (
            member("aclImdb/train/pos/l.txt", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
            f"member 'aclImdb/train/pos/l.txt' is a symbolic link; {ONLY}",
        ),
        (
            member("l", type=tarfile.SYMTYPE, linkname="l"),
            f"member 'l' is a symbolic link; {ONLY}",
        ),
        (
            member("l.txt", type=tarfile.LNKTYPE, linkname="aclImdb/train/pos/0_1.txt"),
            f"member 'l.txt' is a hard link; {ONLY}",
        ),
        (member("null", type=tarfile.CHRTYPE), f"member 'null' is a device; {ONLY}"),
        (member("disk", type=tarfile.BLKTYPE), f"member 'disk' is a device; {ONLY}"),
        (member("pipe", type=tarfile.FIFOTYPE), f"member 'pipe' is a named pipe; {ONLY}"),
        (
            member("train/pos/s.txt", b"x", type=tarfile.GNUTYPE_SPARSE),
            f"member 'train/pos/s.txt' is of an unusual kind; {ONLY}",
        ),
        (member("new", type=b"Z"), f"member 'new' is of an unusual kind; {ONLY}"),
        (
            member("line\nbreak", type=tarfile.FIFOTYPE),
            f"member 'line\\nbreak' is a named pipe; {ONLY}",
        ),
        (
            member("train/pos/big.txt", bytes(2**20 + 1)),
            "member 'train/pos/big.txt' has 1,048,577 bytes; the limit is 1,048,576",
        ),
    ],
    ids=lambda value: value[0].name if isinstance(value, tuple) else "",
)
def test_a_member_that_is_refused(refused, odd, line):
    assert refused(whole(odd)) == line


def header(info: tarfile.TarInfo, **fields) -> bytes:
    """Return a header that declares content that is missing."""
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def seal(raw: bytearray, start: int = 0) -> None:
    """Correct the checksum of a header."""
    raw[start + 148 : start + 156] = b" " * 8
    raw[start + 148 : start + 156] = b"%06o\0 " % sum(raw[start : start + 512])


def test_a_bomb_is_refused_before_it_is_unpacked(refused):
    declared = header(tarfile.TarInfo("bomb.bin"), size=2**40)
    line = refused(gzip.compress(declared))
    assert line.startswith("member 'bomb.bin' has 1,099,511,627,776 bytes; the limit is 2,147,4")
    name = header(tarfile.TarInfo("name"), size=2**33, type=tarfile.GNUTYPE_LONGNAME)
    line = refused(gzip.compress(name + bytes(10**6)))
    assert line == (
        "not a complete .tar.gz archive (a header of 8,589,934,592 bytes; the limit is 1,048,576)"
    )


def test_a_negative_size_does_not_go_round_for_ever(refused):
    for kind in (tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        raw = bytearray(header(tarfile.TarInfo("back"), type=kind))
        raw[124:136] = b"\xff" * 4 + struct.pack(">q", -512)
        seal(raw)
        assert "-512 bytes" in refused(packed([member("first")], "w")[:512] + raw + bytes(1024))


def test_limits_on_the_whole(tmp_path):
    file = tmp_path / "a.tar.gz"
    file.write_bytes(packed(member(f"{i}", b"content") for i in range(5)))
    assert len([*files(file, bool, Limits(members=5))]) == 5

    def line(limits: Limits) -> str:
        with pytest.raises(DataError) as caught:
            list(files(file, bool, limits))
        return str(caught.value)

    assert line(Limits(members=4)) == f"data.path={file}: has more than 4 members, which is not allowed"
    # Five members take two blocks each; zeros fill the archive up to twenty blocks.
    unpacked = 20 * 512
    assert len([*files(file, bool, Limits(total=unpacked))]) == 5
    for total in (unpacked - 1, 5 * 512 - 1, 5 * 1024 - 1):
        assert line(Limits(total=total)) == (
            f"data.path={file}: has more than {total:,} bytes when it is unpacked, which is not allowed"
        )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"no archive", "truncated header"),
        (b"\x1f\x8b", "Compressed file ended before the end-of-stream marker was reached"),
        (os.urandom(2000), ""),
        (gzip.compress(b"no archive"), "truncated header"),
        (b"PK\x03\x04" + bytes(1000), ""),
    ],
    ids=["empty", "text", "cut", "noise", "gzip of text", "zip"],
)
def test_something_else_than_an_archive(refused, content, reason):
    assert refused(content).startswith(f"not a complete .tar.gz archive ({reason}")


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_wherever_an_archive_is_cut_it_is_refused(tmp_path, mode):
    content = whole(mode=mode)
    file = tmp_path / "a.tar.gz"
    # After the first block of zeros nothing is needed.
    last = len(content) if mode == "w:gz" else 512 * (2 * len(REVIEWS) + 1)
    for cut in [*range(0, last, last // 60), last - 1]:
        file.write_bytes(content[:cut])
        with pytest.raises(DataError, match="not a complete"):
            list(files(file, REVIEW_FILE.fullmatch))


def test_an_altered_archive_is_refused_by_its_checksum(refused):
    content = bytearray(gzip.compress(whole(mode="w"), compresslevel=0))
    place = content.index(b"pos word7")
    content[place : place + 3] = b"neg"
    assert refused(bytes(content)).startswith("not a complete .tar.gz archive (CRC check failed")
    altered = bytearray(whole(mode="w"))
    altered[512 * 20 + 3] ^= 1  # The name of the eleventh member.
    assert refused(bytes(altered)) == "not a complete .tar.gz archive (no end-of-archive marker)"


names = st.one_of(
    st.sampled_from([*REVIEWS, "aclImdb/", "aclImdb/imdb.vocab", "xtrain/pos/1.txt", ".", "..", "/"]),
    st.sampled_from(["../x/train/pos/1.txt", "/train/neg/2.txt", "train/pos/\n.txt", "t" * 300]),
    st.text(st.characters(exclude_characters="\0"), max_size=20),
)
kinds = st.one_of(
    st.just(tarfile.REGTYPE),
    st.sampled_from([tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]),
    st.sampled_from([tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, b"S", b"?"]),
)
# Records that override the header of a member: sizes, names, maps of sparse files.
attributes = st.dictionaries(
    st.sampled_from(
        ["size", "path", "GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.map", "GNU.sparse.size"]
    ),
    st.sampled_from(["0", "1", "-512", "7,x", "1e9", "9" * 30, "9" * 5000, "../x"]),
    max_size=3,
)


@st.composite
def archives(draw) -> tuple[dict[str, bytes], bytes]:
    """Draw the reviews in an archive, and its bytes, which may be truncated, altered or extended."""
    good = dict(draw(st.lists(st.sampled_from([*REVIEWS.items()]), max_size=6)))
    odd = draw(st.lists(st.tuples(names, kinds, attributes, st.binary(max_size=600)), max_size=3))
    members = [member(*review) for review in good.items()]
    members += [member(name, content, type=kind, pax_headers=own) for name, kind, own, content in odd]
    layout = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
    try:
        content = bytearray(packed(draw(st.permutations(members)), "w", layout))
    except (UnicodeEncodeError, ValueError):  # This format cannot store the name.
        content = bytearray(packed([], "w"))
        odd = [("", b"?", {}, b"")]
    is_whole = not odd
    if draw(st.integers(0, 2)) == 0:
        is_whole = False
        start = 512 * draw(st.integers(0, len(content) // 512 - 1))
        for _ in range(draw(st.integers(1, 3))):
            content[start + draw(st.integers(0, 511))] = draw(st.integers(0, 255))
        seal(content, start)
    is_packed = draw(st.booleans())
    for stage in range(1 + is_packed):
        if stage:
            content = bytearray(gzip.compress(bytes(content), compresslevel=1, mtime=0))
        if draw(st.integers(0, 3)) == 0:
            is_whole = False
            content[draw(st.integers(0, len(content) - 1))] ^= draw(st.integers(1, 255))
        if draw(st.integers(0, 3)) == 0:
            is_whole = False
            del content[draw(st.integers(0, len(content))) :]
        if draw(st.integers(0, 5)) == 0:
            is_whole = False
            content += draw(st.binary(max_size=600))
    return good if is_whole else {}, bytes(content)


def or_its_line(read):
    """Return the result of a function, or the one-line message of its DataError."""
    try:
        return read()
    except DataError as error:
        return str(error)


@settings(max_examples=300, deadline=None)
@given(archives())
@example(({}, packed([member(".", type=b"S")], "w")))
def test_any_bytes_give_the_reviews_in_them_or_a_data_error(made):
    expected, content = made
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "inner", "folder")
        folder.mkdir(parents=True)
        file = folder / "a.tar.gz"
        file.write_bytes(content)
        found = or_its_line(lambda: dict(files(file, REVIEW_FILE.fullmatch)))
        assert not expected or found == expected
        for each in (found, or_its_line(AclImdb(path=file).read)):
            assert not isinstance(each, str) or len(each.splitlines()) == 1
        assert {*Path(place).rglob("*")} == {folder.parent, folder, file}
