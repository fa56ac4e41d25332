"""Rollout files of each trainer give the known totals, however the files are written or damaged."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from producers.lines import watched
from producers.lines.context import Context, Identity
from producers.lines.normalise import Normaliser
from producers.lines.rollout import MARK, _unescaped
from producers.rollouts import source
from producers.rollouts.checkpoint import FileState, State
from producers.rollouts.formats.verl import Verl
from producers.rollouts.model import Note, is_reward_name, status_of
from producers.rollouts.parsing import Finding
from producers.rollouts.recognise import Left, recognise
from producers.rollouts.source import Source
from producers.rollouts.tokenizer import load
from producers.rollouts.watcher import Watcher
from schemas.rollouts import Entry, GroupKey, Key, settled
from schemas.token_arrays import unpack
from schemas.topics import Kind
from schemas.values import clean
from tests.support.rollouts import COPIES, DATA, EXPECTED, matches

Records = dict[Kind, list[dict[str, Any]]]
SIDECARS = ("metadata.json", "tokenizer.json")
PARTS = {name: ["first", "second"] if (DATA / name / "first").exists() else ["."] for name in EXPECTED}


class Training:
    """A folder, its watcher and the spools that it writes, one for each start of the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.said: list[str] = []
        self.spools: list[list[bytes]] = []
        self.start(State())

    def start(self, state: State) -> None:
        """Start a new process with the state."""
        self.spools.append([])
        self.watcher = Watcher(self.folder, state, self.spools[-1].append, self.said.append)
        self.keep()

    def keep(self) -> None:
        """Save what a process saves from time to time."""
        self._kept = json.dumps(asdict(self.watcher.state)), len(self.lines())

    def kill(self) -> None:
        """End the process and start one that knows the last saved state and the spool."""
        kept, lines = self._kept
        state = json.loads(kept)
        state["files"] = {path: FileState(**item) for path, item in state["files"].items()}
        known = State(**state)
        for line in self.lines()[lines:]:
            said = json.loads(line)
            known.take(said[MARK], said["run_id"] if said["type"] == "rollout" else None)
        self.start(known)

    def lines(self) -> list[bytes]:
        """Return all lines of the newest spool."""
        return b"".join(self.spools[-1]).split(b"\n")[:-1]

    def end(self) -> Records:
        """End the watch and return the records, settled as persist would settle them."""
        while self.watcher.poll():
            pass
        self.watcher.end()
        found: Records = defaultdict(list)
        for number, spool in enumerate(self.spools):
            normalise = Normaliser(Identity(f"S{number}", "none", sdk=True))
            for seq, line in enumerate(b"".join(spool).split(b"\n")[:-1], 1):
                event = normalise(line, seq, 1)
                for kind, record in ((event.kind, event.record), *event.beside):
                    found[kind].append(record)
        settle(found[Kind.ROLLOUTS])
        return found


def settle(rows: list[dict[str, Any]]) -> None:
    """Settle the rows as persist does."""
    entries = [
        Entry(
            Key(row["run_id"], row["stream_id"], row["seq"]),
            GroupKey(row["split"], row["training_step"], row["group_id"]),
            *(row[name] for name in ("sample_key", "scope", "generation", "precedence", "reward", "attempt")),
            superseded=False,
            derived_advantage=None,
        )
        for row in rows
    ]
    newest: dict[str, int] = {}
    for entry in entries:
        newest[entry.scope] = max(entry.generation, newest.get(entry.scope, 0))
    changed = {entry.key: entry for entry in settled(entries, {e.sample_key for e in entries}, newest)}
    for row in rows:
        if (entry := changed.get(Key(row["run_id"], row["stream_id"], row["seq"]))) is not None:
            row |= {name: getattr(entry, name) for name in ("attempt", "superseded", "derived_advantage")}


def check(name: str, found: Records) -> None:
    """Compare the totals of a data set; each rollout must be an episode, and each turn a step."""
    rollouts = found[Kind.ROLLOUTS]
    matches(name, rollouts)
    key = itemgetter("run_id", "stream_id", "seq", "episode_index")
    assert list(map(key, found[Kind.EPISODES])) == list(map(key, rollouts))
    assert [row["episode_index"] for row in rollouts] == list(range(len(rollouts)))
    turns = Counter((row["run_id"], row["episode_index"]) for row in found[Kind.STEPS])
    assert turns == {(row["run_id"], row["episode_index"]): row["turns"] for row in rollouts if row["turns"]}
    assert len({key(row)[:3] for row in found[Kind.STEPS]}) == len(found[Kind.STEPS])
    assert len(found[Kind.DLQ]) == EXPECTED[name]["torn_lines"]


def looked_after(name: str, folder: Path) -> Training:
    """Copy a data set into a folder part by part; the watcher looks after each."""
    training = Training(folder)
    for part in PARTS[name]:
        shutil.copytree(DATA / name / part, training.folder, dirs_exist_ok=True)
        training.watcher.poll()
    return training


@pytest.mark.parametrize("name", EXPECTED)
def test_a_data_set_as_it_lies_there(name: str, tmp_path: Path) -> None:
    """A complete data set gives its known totals and values, and the summary counts the same."""
    training = looked_after(name, tmp_path / "training")
    found = training.end()
    check(name, found)
    totals, expected = training.watcher.totals, EXPECTED[name]
    assert totals.read == expected["lines"] + expected["rows"] + totals.formats["rllm"]
    assert totals.superseded == expected["superseded"] + COPIES.get(name, 0)
    assert totals.metrics == len(found[Kind.METRICS])
    assert totals.dead_letters == expected["torn_lines"]


def pieces(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Cut data into pieces of random size, which may end inside a line or a character."""
    while data:
        size = rng.choice([1, 7, 64, 500, 4096, 65536])
        yield data[:size]
        data = data[size:]


def test_a_disk_that_fails_while_it_is_read_is_read_again(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read that fails in the middle of a file is repeated, also if the file does not change."""
    write(training, "rollout/1.jsonl", *map(verl, ("one", "two", "three")))
    read, failures = os.pread, iter([False, True])

    def failing(file: int, size: int, at: int) -> bytes:
        if next(failures, False):
            raise OSError(errno.EIO, "Input/output error")
        return read(file, 150, at)

    monkeypatch.setattr(source, "READ_BYTES", 150)
    monkeypatch.setattr(os, "pread", failing)
    training.watcher.poll()
    assert "cannot be read (Input/output error): tried again." in training.said[-1]
    found = training.end()
    assert [record["final_text"] for record in found[Kind.ROLLOUTS]] == ["one", "two", "three"]
    assert Kind.DLQ not in found


def test_a_folder_whose_disk_is_unmounted_and_mounted(training: Training) -> None:
    """A folder that is suddenly empty or gone is reported once, and nothing in it is read twice."""
    write(training, "rollout/1.jsonl", verl("one"))
    training.watcher.poll()
    mounted = training.folder.rename(training.folder.with_name("elsewhere"))
    training.watcher.poll()
    training.folder.mkdir()
    training.watcher.poll()
    training.folder.rmdir()
    mounted.rename(training.folder)
    write(training, "rollout/2.jsonl", verl("two"))
    found = training.end()
    assert [record["final_text"] for record in found[Kind.ROLLOUTS]] == ["one", "two"]
    assert [said.removeprefix(str(training.folder)) for said in training.said[1:]] == [
        " cannot be read (No such file or directory): waits until it is there again.",
        " is there again.",
    ]
    shutil.rmtree(training.folder / "rollout")
    training.watcher.poll()
    assert training.said[-1].endswith(" is empty now: waits for files.")


@pytest.mark.parametrize("name", EXPECTED)
def test_a_line_read_whole_is_what_its_fields_are_one_by_one(name: str, tmp_path: Path) -> None:
    """A line gives the same records whether it is read whole or field by field."""
    training = looked_after(name, tmp_path / "training")
    training.watcher.end()
    same_either_way(training.lines())


def same_either_way(lines: list[bytes]) -> None:
    """Assert that a blank at a line's start, which sends it to the normaliser, changes no record."""
    whole, by_fields = (Normaliser(Identity("S", "none", sdk=True)) for _ in range(2))
    for seq, line in enumerate(lines, 1):
        events = (whole(line, seq, 1), by_fields(line.replace(b"{", b"{ ", 1), seq, 1))
        one, other = (json.dumps(event, sort_keys=True, default=repr) for event in events)
        assert one == other  # as text, because NaN equals no NaN
        assert whole.context == by_fields.context


def test_a_plain_rollout_is_read_whole_and_its_text_is_written_once(training: Training) -> None:
    """A line of a plain rollout holds its text once; the step is derived from the messages."""
    write(training, "rollout/1.jsonl", verl("an answer"))
    training.watcher.poll()
    (line,) = training.lines()
    assert line.count(b"an answer") == 1
    assert watched.read(line, 1, 1, Identity("S", "none"), Context()) is not None
    (step,) = training.end()[Kind.STEPS]
    assert (step["observation"], step["action"]) == ('"user\\n2+2?\\n"', '"an answer"')


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_data_set_in_pieces_with_kills(name: str, seed: int, tmp_path: Path) -> None:
    """A data set that is written in pieces, while the process is killed, gives the same totals."""
    rng = random.Random(seed)
    training = Training(tmp_path / "training")
    for part in PARTS[name]:
        source = DATA / name / part
        files = sorted(path for path in source.rglob("*") if path.is_file())
        files.sort(key=lambda path: path.name not in SIDECARS)  # a sidecar exists before the rollouts
        for path in files:
            target = training.folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"")
            for piece in pieces(path.read_bytes(), rng):
                with target.open("ab") as file:
                    file.write(piece)
                if rng.random() < 0.3:
                    training.watcher.poll()
                if rng.random() < 0.05:
                    training.keep()
                if rng.random() < 0.05:
                    training.kill()
            training.watcher.poll()
    check(name, training.end())


def write(training: Training, path: str, *rows: dict[str, Any] | bytes) -> Path:
    """Append rows to a file."""
    target = training.folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("ab") as file:
        for row in rows:
            file.write(
                row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() + b"\n"
            )
    return target


def verl(output: str, **own: Any) -> dict[str, Any]:
    """Return a line as verl writes it."""
    return {"input": "user\n2+2?\n", "output": output, "score": 1.0, "step": 1} | own


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """Return a watched, empty folder."""
    return Training(tmp_path / "training")


def test_a_rewritten_file_with_fewer_samples_supersedes_all_of_the_old_one(training: Training) -> None:
    """A rewritten file supersedes all old samples, also if it has fewer and is longer than the old one."""
    path = write(training, "rollout/1.jsonl", *(verl(f"old {n}") for n in range(4)))
    training.watcher.poll()
    path.write_bytes(b"")
    write(training, "rollout/1.jsonl", *(verl("new " * 100) for _ in range(2)))
    found = training.end()[Kind.ROLLOUTS]
    assert [(r["sample_id"], r["attempt"], r["superseded"]) for r in found] == [
        ("0", 1, True), ("1", 1, True), ("2", 1, True), ("3", 1, True), ("0", 2, False), ("1", 2, False)
    ]  # fmt: skip


def test_a_file_that_was_deleted_after_its_import_keeps_its_rows(training: Training) -> None:
    """A deleted file keeps its rows; a new file under its name is a new attempt."""
    path = write(training, "rollout/1.jsonl", verl("a"))
    training.watcher.poll()
    path.unlink()
    training.watcher.poll()
    write(training, "rollout/1.jsonl", verl("b"))
    found = training.end()[Kind.ROLLOUTS]
    assert [(r["final_text"], r["superseded"]) for r in found] == [("a", True), ("b", False)]


def test_a_record_behind_a_torn_one_in_the_same_line_is_found(training: Training) -> None:
    """A line with a torn and a whole record gives a dead letter and a rollout."""
    whole = json.dumps(verl("second")).encode()
    write(training, "rollout/1.jsonl", verl("first"), whole[:30] + whole + b"\n")
    found = training.end()
    assert [r["final_text"] for r in found[Kind.ROLLOUTS]] == ["first", "second"]
    assert [letter["raw"] for letter in found[Kind.DLQ]] == [whole[:30]]


def test_a_torn_last_line_waits_for_its_rest(training: Training) -> None:
    """A torn last line is a dead letter only at the end, and is read whole once its rest is there."""
    whole = json.dumps(verl("é" * 10), ensure_ascii=False).encode()
    write(training, "rollout/1.jsonl", verl("a"), whole[:-20])
    training.watcher.poll()
    training.watcher.end()
    assert training.watcher.totals.dead_letters == 1
    write(training, "rollout/1.jsonl", whole[-20:] + b"\n")
    training.start(training.watcher.state)
    assert [r["final_text"] for r in training.end()[Kind.ROLLOUTS]] == ["a", "é" * 10]


def test_unknown_fields_are_kept_and_missing_ones_are_null(training: Training) -> None:
    """Unknown fields go to the episode's metrics and extras; missing fields are null."""
    write(
        training, "rollout/1.jsonl", {"input": "a", "output": "b", "gts": 4, "later": {"x": [1]}, "num_x": 3}
    )
    found = training.end()
    (rollout,), (episode,) = found[Kind.ROLLOUTS], found[Kind.EPISODES]
    assert (rollout["reward"], rollout["training_step"], rollout["split"]) == (None, 1, "train")
    assert json.loads(episode["extras"]) == {"later": {"x": [1]}, "gts": 4}
    assert json.loads(episode["metrics"]) == {"num_x": 3}


def test_parquet_of_another_version_keeps_what_it_has(training: Training) -> None:
    """Unknown columns are kept, nested ones, too; missing columns are null."""
    columns = {
        "prompt": ["2+2?", "2+2?"],
        "completion": ["4", "5"],
        "accuracy_reward": [1.0, 0.0],
        "later": [{"x": [1, None]}, None],
        "when": [datetime(2026, 11, 30, tzinfo=UTC), None],
    }
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    write(training, "completions/completions_00003.parquet", file.getvalue())
    found = training.end()
    rows = found[Kind.ROLLOUTS]
    assert [(row["training_step"], row["advantage"], row["final_text"]) for row in rows] == [
        (3, None, "4"),
        (3, None, "5"),
    ]
    assert [json.loads(row["rewards"])["accuracy_reward"]["value"] for row in rows] == [1.0, 0.0]
    first, second = (json.loads(episode["extras"] or "{}") for episode in found[Kind.EPISODES])
    assert first["later"] == {"x": [1, None]}
    assert first["when"].startswith("2026-11-30")
    assert (second.get("later"), second.get("when")) == (None, None)
    assert found[Kind.DLQ] == []


def test_a_row_that_does_not_fit_is_a_dead_letter(training: Training) -> None:
    """A row that does not fit is a dead letter with its reason, and the other rows are read."""
    write(training, "rollout/1.jsonl", verl("a"), {"input": "a", "score": 1}, b"[1, 2]\n", verl("b"))
    found = training.end()
    assert [r["final_text"] for r in found[Kind.ROLLOUTS]] == ["a", "b"]
    assert [letter["reason"] for letter in found[Kind.DLQ]] == ["unfit_rollout", "broken_json"]


def test_tokens_that_are_no_numbers_are_kept_in_extras(training: Training) -> None:
    """Tokens that are no numbers go to the extras; their rollout and the next row are read."""
    group = {"scores": [1.0], "tokens": [[1, [2]]], "masks": [[-100, 2]], "messages": [[]]}
    write(training, "groups.jsonl", group, group | {"tokens": [[1, 2]]})
    found = training.end()
    assert len(found[Kind.ROLLOUTS]) == 2
    assert len(found[Kind.TOKENS]) == 1
    assert json.loads(found[Kind.EPISODES][0]["extras"])["tokens"]["token_ids"] == [1, [2]]


def test_a_member_of_a_group_without_a_score_is_a_rollout(training: Training) -> None:
    """A sample without a score, as in an aborted group, is a rollout without a reward."""
    group = {"scores": [1.0], "tokens": [[1], [2]], "masks": [[1], [2]]}
    write(training, "groups.jsonl", group)
    assert [row["reward"] for row in training.end()[Kind.ROLLOUTS]] == [1.0, None]


def test_what_fits_no_line_is_a_dead_letter(training: Training) -> None:
    """A record that cannot be written as a line is a dead letter, and the watch goes on."""
    note = Note("tokens", {"why": "drifted"}, tokens={"token_ids": [[2]]})
    source = Source(Path("x.jsonl"), PurePosixPath("x.jsonl"), Verl(), FileState(), training.said.append)
    training.watcher._append(source, Finding(1, 1, note))
    (letter,) = training.end()[Kind.DLQ]
    assert letter["reason"] == "unfit_rollout"


def test_a_rollout_of_a_megabyte_and_a_hundred_thousand_tokens(training: Training) -> None:
    """A long text and many tokens are stored unchanged but for NUL, and the tokens are packed."""
    tokens = list(range(100_000))
    row = {
        "tokens": [tokens], "masks": [[-100] * 50_000 + tokens[50_000:]], "scores": [0.5],
        "messages": [[{"role": "assistant", "content": "x\u2028\x00" * 400_000}]],
        "inference_logprobs": [[-0.25] * 100_000],
    }  # fmt: skip
    write(training, "groups.jsonl", row)
    found = training.end()
    (rollout,), (arrays,) = found[Kind.ROLLOUTS], found[Kind.TOKENS]
    assert rollout["final_text"] == "x\u2028\ufffd" * 400_000  # no text column takes NUL
    assert unpack(arrays["arrays"])["token_ids"] == tokens
    assert (arrays["length"], arrays["trained"]) == (100_000, 50_000)
    assert len(arrays["arrays"]) < 200_000


@given(
    texts=st.lists(st.text(alphabet=st.characters(exclude_categories=())), min_size=1, max_size=4),
    score=st.floats(),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_any_text_and_any_number_survive_any_pieces(
    texts: list[str], score: float, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any text and number is read, in any pieces; only lone surrogates and NUL become U+FFFD."""
    training = Training(tmp_path_factory.mktemp("any") / "training")
    lines = b"".join(json.dumps(verl(text, score=score)).encode() + b"\n" for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(lines)), max_size=4)))
    for start, end in zip([0, *cuts], [*cuts, len(lines)], strict=True):
        write(training, "rollout/1.jsonl", lines[start:end])
        training.watcher.poll()
    found = training.end()[Kind.ROLLOUTS]
    same_either_way(training.lines())
    assert [row["final_text"] for row in found] == [clean(json.loads(json.dumps(text))) for text in texts]
    assert {repr(row["reward"]) for row in found} == {repr(score)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("acc", True), ("length_penalty", True), ("SoftOverlong", True), ("style_bonus", True),
     ("pred_num", False),
     ("entropy", False), ("num_turns", False), ("judge_score", False), ("answer_chars", False),
     ("latency_ms", False)],
)  # fmt: skip
def test_numbers_that_are_no_reward_are_told_by_their_names(name: str, expected: bool) -> None:
    """A number's name tells whether it is a reward, where the format does not tell it."""
    assert is_reward_name(name) is expected


@pytest.mark.parametrize(
    ("reason", "status"),
    [("stop", "ok"), (None, "ok"), ("length", "truncated"), ("max_response_length_exceeded", "truncated"),
     ("max_turns_reached", "truncated"), ("abort", "aborted"), ("cancelled", "aborted"),
     ("has_error", "failed"),
     ("timeout", "failed"), ("no_tools_called", "ok")],
)  # fmt: skip
def test_a_stop_reason_is_one_of_four(reason: str | None, status: str) -> None:
    """Each stop reason of a format is mapped to one of four statuses."""
    assert status_of(reason) == status


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("a.pt", b"\x80\x02", "never loaded"), ("a.jsonl", b'{"x": 1}\n', "no format"),
     ("STABLE", b"", "a mark"),
     ("a.jsonl", b"no json\n" * 200, "no JSON lines")],
)  # fmt: skip
def test_what_is_left_out_is_told(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    """A file that is left out gets a short reason."""
    path = tmp_path / name
    path.write_bytes(content)
    found = recognise(path, PurePosixPath(name))
    assert isinstance(found, Left)
    assert words in found.why


def tokenizer_file(path: Path, model: dict[str, Any], decoder: dict[str, Any]) -> Path:
    """Write a `tokenizer.json` and return its path."""
    path.write_text(
        json.dumps({"model": model, "decoder": decoder, "added_tokens": [{"id": 9, "content": "<s>"}]})
    )
    return path


@pytest.mark.parametrize(
    ("vocabulary", "decoder", "text"),
    [({"\u0120a": 0, "\u00c3": 1, "\u00a9": 2}, {"type": "ByteLevel"}, "<s> a\u00e9"),
     ({"\u2581a": 0, "<0xC3>": 1, "<0xA9>": 2}, {"decoders": [{"type": "ByteFallback"}]}, "<s> a\u00e9"),
     ({"a": 0, "##b": 1, "c": 2}, {"type": "WordPiece"}, "<s>ab c")],
)  # fmt: skip
def test_token_ids_become_text(
    vocabulary: dict[str, int], decoder: dict[str, Any], text: str, tmp_path: Path
) -> None:
    """A `tokenizer.json` of each common kind decodes token ids to text."""
    decode: Callable[..., str] | None = load(
        tokenizer_file(tmp_path / "t.json", {"vocab": vocabulary}, decoder)
    )
    assert decode is not None
    assert decode([9, 0, 1, 2]) == text


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ('[{"content":"na\\u00efve \\u001b[31m"}]', '[{"content":"naïve \\u001b[31m"}]'),
        ('[{"content":"\\ud800"}]', '[{"content":"\\ud800"}]'),
        ('[{"content":"\\\\u00ef 1.0"}]', '[{"content":"\\\\u00ef 1.0"}]'),
    ],
)
def test_letters_of_a_transcript_are_stored_as_themselves(text: str, stored: str) -> None:
    """Escaped letters are stored as letters, where JSON can hold them, so that a search finds words."""
    assert _unescaped(text) == stored
