"""`ingest` reads files that are compressed, encoded, cut or still growing."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os

import pytest
from backports import zstd
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from producers.capture.decoding import Decoder
from producers.capture.file_input import FollowedFile
from producers.ledger import Ledger, Progress, digest
from producers.lines.context import Identity
from producers.lines.json_text import NotJsonError, split
from producers.lines.normalise import Normaliser
from schemas.topics import Kind

COMPRESS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd.compress}
FILES = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
PIECES = st.lists(st.binary(min_size=1, max_size=60), max_size=6)


def decoded(data, sizes=(7,)):
    """Feed data in pieces of the given sizes, and return the decoded bytes and the reason of a cut."""
    decoder, out, at, turn = Decoder(), [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        out += decoder.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    out += decoder.finish()
    return b"".join(out), decoder.cut


@pytest.mark.parametrize("name", COMPRESS)
@given(members=st.lists(st.binary(max_size=200), min_size=1, max_size=4), size=st.integers(1, 50))
@FILES
def test_compressed_members_one_behind_the_other_are_read(name, members, size):
    """All members of a compressed file are read, in pieces of any size, also with padding between them."""
    members = [b"x" + member for member in members]
    data = b"".join(COMPRESS[name](member) + b"\0" * (8 if name == "gzip" else 0) for member in members)
    assert decoded(data, (size,)) == (b"".join(members), "")


@pytest.mark.parametrize("name", COMPRESS)
@given(cut=st.integers(1, 400))
@FILES
def test_cut_compressed_data_gives_whole_lines_and_says_so(name, cut):
    """A cut archive gives only its whole lines, and a reason unless it is cut between two members."""
    lines = [os.urandom(20).hex().encode() + b"\n" for _ in range(40)]
    data = b"".join(COMPRESS[name](b"".join(lines[at : at + 8])) for at in range(0, 40, 8))
    found, why = decoded(data[: max(6, len(data) - cut)])
    assert b"".join(lines).startswith(found)
    assert not found or found.endswith(b"\n")
    assert why or len(found) % (41 * 8) == 0


def test_a_compressed_file_that_is_flushed_and_never_closed_is_read():
    """The flushed part of a gzip file that was never closed is read up to its last whole line."""
    import zlib

    packer = zlib.compressobj(wbits=31)
    data = packer.compress(b'{"a":1}\n{"b":') + packer.flush(zlib.Z_SYNC_FLUSH)
    assert decoded(data) == (
        b'{"a":1}\n',
        "it ends in the middle of its gzip data, and its last line is cut: that is left out",
    )


@given(junk=st.binary(min_size=1, max_size=30))
@FILES
def test_damaged_data_ends_at_the_damage(junk):
    """The lines before the damage are kept."""
    whole = gzip.compress(b"line\n" * 3)
    found, why = decoded(whole + b"\x1f\x8bX" + junk)
    assert found.startswith(b"line\nline\nline\n")
    assert why


@given(text=st.text(max_size=80), size=st.integers(1, 9))
@FILES
def test_any_encoding_with_a_mark_is_utf8_afterwards(text, size):
    """Text in UTF-16 or UTF-32 is turned into UTF-8, and a JSON line in UTF-16 also without a mark."""
    assume(not text.startswith("\0"))
    for name in ("utf-16", "utf-32"):
        assert decoded(text.encode(name, "replace"), (size,))[0] == text.encode("utf-8", "replace")
    line = json.dumps({"a": text}, ensure_ascii=False)
    for name in ("utf-16-le", "utf-16-be"):
        assert decoded(line.encode(name, "replace"), (size,))[0] == line.encode("utf-8", "replace")


@given(pieces=PIECES)
@FILES
def test_other_bytes_are_passed_on(pieces):
    """Bytes that begin like no other format are passed on unchanged."""
    data = b"{" + b"".join(pieces)
    if data[1:2] != b"\0":
        assert decoded(data) == (data, "")


def test_a_file_that_is_truncated_replaced_or_renamed_is_followed(tmp_path):
    """A file is followed as by `tail -F`: the old file is read to its end, then the new one."""
    path = tmp_path / "f"
    path.write_bytes(b"1\n2\n")
    file = FollowedFile(str(path))
    assert (file.read(), file.read(), file.begins_anew()) == (b"1\n2\n", b"", "")
    with path.open("ab") as more:
        more.write(b"3\n")
    assert file.read() == b"3\n"
    path.write_bytes(b"4\n")  # the file is now shorter
    assert (file.read(), file.begins_anew(), file.read()) == (b"", "truncated", b"4\n")
    assert (file.read(), file.begins_anew()) == (b"", "")
    path.write_bytes(b"5\n6\n7\n")  # the file is now longer
    assert (file.read(), file.begins_anew(), file.read()) == (b"", "truncated", b"5\n6\n7\n")
    assert file.read() == b""
    path.rename(tmp_path / "f.1")
    assert file.begins_anew() == ""  # no new file has the name yet
    with (tmp_path / "f.1").open("ab") as more:
        more.write(b"8\n")
    path.write_bytes(b"9\n")
    assert (file.begins_anew(), file.read(), file.read()) == ("", b"8\n", b"")
    assert (file.begins_anew(), file.read()) == ("replaced", b"9\n")
    (tmp_path / "new").write_bytes(b"10\n")
    (tmp_path / "new").replace(path)
    assert (file.read(), file.begins_anew(), file.read()) == (b"", "replaced", b"10\n")
    file.close()


@given(pieces=PIECES)
@FILES
def test_progress_does_not_depend_on_how_it_is_read(pieces):
    """The same bytes give the same digest, whatever the sizes of the reads."""
    one, many = Progress(), Progress()
    one.take(b"".join(pieces))
    for piece in pieces:
        many.take(piece)
    assert one.said() == many.said()


def test_a_source_whose_runs_were_deleted_is_forgotten(tmp_path):
    """A file is forgotten once all of its runs are deleted."""
    gone: dict[str, int] = {}
    ledger = Ledger(tmp_path, lambda run_id: gone.get(run_id, 0))
    entry = ledger.entry("key")
    entry.said = {"runs": ["a", "b"]}
    entry.write()
    entry.add([digest({"x": 1}), digest({"x": 2})])
    gone["a"] = 2**62
    assert list(ledger.entry("key").digests()) == [digest({"x": 1}), digest({"x": 2, "run_id": "r"})]
    gone["b"] = 2**62
    assert ledger.entry("key").taken_us == 0


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(said=st.dictionaries(st.text(max_size=9), PLAIN, min_size=1, max_size=5))
@FILES
def test_what_python_prints_of_a_dict_is_the_dict(said):
    """The printed text of a Python dict is read as the same values as its JSON."""
    if repr(said).startswith("{'"):
        assert {name: json.loads(text) for name, text in split(repr(said)).items()} == said


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{'loss': 0.5, 'epoch': 0.01}", {"loss": "0.5", "epoch": "0.01"}),
        ("{'r': np.float64(1.0), 'a': np.int64(3)}", {"r": "1.0", "a": "3"}),
        ("{'ok': np.True_, 'x': nan, 'y': -inf}", {"ok": "true", "x": "NaN", "y": "-Infinity"}),
        ("{'v': array([1., 2.], dtype=float32), 't': (1, 2)}", {"v": "[1.0, 2.0]", "t": "[1, 2]"}),
        ("{'t': tensor(0.25, device='cuda:0')}", {"t": "0.25"}),
    ],
)
def test_python_texts_of_trainers_are_read(line, expected):
    """Dicts are read as TRL, NumPy 2 and PyTorch print them."""
    assert split(line) == expected


@pytest.mark.parametrize("line", ["{'a': <object at 0x7f>}", "{'a': open('x')}", "{'a': 1", "{'a': {1, 2}}"])
def test_a_dict_without_json_is_told_of(line):
    """A dict that has no JSON form is refused without being executed, and the message says so."""
    with pytest.raises(NotJsonError, match="Python"):
        split(line)


def test_numbers_as_numpy_prints_them_are_numbers():
    """A field that holds the printed text of a NumPy scalar is read as its value."""
    normalise = Normaliser(Identity("S", "r"))
    line = b'{"type":"step","reward":"np.float32(1.5)","step":"np.int64(4)","terminated":"np.True_"}'
    event = normalise(line, 1, 0)
    record = event.record
    assert event.kind is Kind.STEPS
    assert (record["reward"], record["step_index"], record["terminated"]) == (1.5, 4, True)
