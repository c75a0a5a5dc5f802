"""A training set: its rules one by one, its labels, its files, and that the same examples give the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiktoken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beepgpt.connectors.files.arrow_rows import schema_of
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.events import micros
from beepgpt.errors import CannotRead
from beepgpt.training.checks import CannotPrepare, check_single_tokens, model_of
from beepgpt.training.formats import FORMATS
from beepgpt.training.prepare import OUTPUTS, PrepareOptions, few_shots_in, folder_in, prepare, retracted_in
from beepgpt.training.remote import options_in
from beepgpt.training.splits import SplitOptions
from tests.support import at
from tests.support.prepare import (
    CUT_AT_100,
    FIRST,
    LAST,
    LEFT_OUT,
    O200K,
    ROWS,
    Set,
    example,
    leaks,
    line_of,
    made,
    parsed,
    shuffled,
    workspace,
    write,
)


def spaced(*texts: str) -> tiktoken.Encoding:
    """A small encoding in which these texts are single tokens, and so is each with a space before it, as in the encodings of old."""
    ranks = {bytes([each]): each for each in range(256)}
    for text in texts:
        for whole in (text, f" {text}"):
            for end in range(2, len(whole) + 1):
                ranks.setdefault(whole[:end].encode(), len(ranks))
    return tiktoken.Encoding("spaced", pat_str=r" ?[^ ]+|\s", mergeable_ranks=ranks, special_tokens={})


class TestRulesOfPrepareData:
    """Each has a name and a count, and breaks nothing."""

    @pytest.mark.parametrize("prompt", [LEFT_OUT, None, 7, "", "  \n\n###\n\n"])
    def test_a_prompt_is_needed(self, tmp_path, prompt):
        """One without words is none."""
        made_of = made(tmp_path, [FIRST, example("bad", "bo", minute=1, prompt=prompt), LAST])

        assert made_of.left_out == {"no_prompt": 1} and made_of.rule("no_prompt") == 1

    @pytest.mark.parametrize("answer", [LEFT_OUT, None, "bo", [7]])
    def test_a_completion_is_needed(self, tmp_path, answer):
        """An answer that isn't there is no silence."""
        made_of = made(tmp_path, [FIRST, example("bad", minute=1, answer=answer), LAST])

        assert made_of.left_out == {"no_answer": 1} and made_of.rule("no_answer") == 1

    def test_silence_and_a_weak_signal_are_two_things(self, tmp_path):
        """Each has a label of its own, and labels.json names the second only where there is one."""
        made_of = made(tmp_path, [FIRST, example("silent", minute=1), example("weak", "bo", minute=2, signal="weak"), LAST])
        labels = json.loads((made_of.folder / "labels.json").read_bytes())

        assert made_of.rows("train") == [("first", "0"), ("silent", "nil"), ("weak", "weak")]
        assert (made_of.rule("empty_completion"), made_of.rule("weak_signal")) == (1, 1)
        assert made_of.manifest["rows"]["train"] == {"rows": 3, "nil": 1, "weak": 1}
        assert options_in(labels) == ["nil", "other", "weak"]
        (tmp_path / "none").mkdir()
        other = made(tmp_path / "none", [FIRST, example("silent", minute=1), LAST])
        assert options_in(json.loads((other.folder / "labels.json").read_bytes())) == ["nil", "other"]

    def test_a_weak_signal_may_be_nil(self, tmp_path):
        """As the original had it: nobody need be alerted."""
        examples = [FIRST, example("silent", minute=1), example("weak", "bo", minute=2, signal="weak"), LAST]
        made_of = made(tmp_path, examples, sides=SplitOptions(cut=at(100), weak="nil"))

        assert made_of.rows("train") == [("first", "0"), ("silent", "nil"), ("weak", "nil")]
        assert options_in(json.loads((made_of.folder / "labels.json").read_bytes())) == ["nil", "other"]

    def test_empty_completions_may_be_left_out(self, tmp_path):
        """From rows, from the table, and on both sides."""
        examples = [FIRST, example("silent", minute=1), example("weak", "bo", minute=2, signal="weak"), LAST, example("too", minute=150)]
        made_of = made(tmp_path, examples, sides=SplitOptions(cut=at(100), silences="drop", weak="drop"))

        assert made_of.left_out == {"silence": 2, "weak": 1}
        assert made_of.rows("train") == [("first", "0")] and made_of.rows("valid") == [("last", "0")]
        assert made_of.ids("train") == [FIRST["id"]]

    def test_duplicate_rows_leave_the_training_side(self, tmp_path):
        """The first one stays; validation is whole; and the table has them all, since their facts differ."""
        train = [example(f"train {minute}", "ana", minute=minute, text="thanks") for minute in range(3)]
        valid = [example(f"valid {minute}", "ana", minute=100 + minute, text="bye") for minute in range(2)]
        other = example("another answer", "bo", minute=4, text="thanks")
        made_of = made(tmp_path, [*train, other, *valid])

        assert made_of.rows("train") == [("thanks", "0"), ("thanks", "1")]
        assert made_of.rows("valid") == [("bye", "0"), ("bye", "0")]
        assert made_of.rule("duplicate_rows") == 3
        assert len(made_of.ids("train")) == 4

    def test_long_rows_leave_the_training_side_by_their_ids(self, tmp_path):
        """`prepare_data` dropped by position, after duplicates had moved the positions: the wrong row, or a crash."""
        copy = [example(f"copy {minute}", "ana", minute=minute, text="thanks") for minute in (1, 2)]
        long, short = example("long", "ana", minute=3, text="x" * 10_000), example("short", "ana", minute=4)
        long_too = example("long, too", "ana", minute=150, text="y" * 10_000)
        made_of = made(tmp_path, [FIRST, *copy, long, short, long_too])

        assert [prompt for prompt, _ in made_of.rows("train")] == ["first", "thanks", "short"]
        assert [prompt for prompt, _ in made_of.rows("valid")] == ["y" * 10_000]
        assert made_of.manifest["rules"]["long_rows"]["ids"] == [long["id"], long_too["id"]]

    def test_characters_are_counted_only_if_wanted(self, tmp_path):
        """The rule was about models of 2021."""
        made_of = made(tmp_path, [FIRST, example("long", "ana", minute=3, text="x" * 10_000), LAST], max_characters=None)

        assert len(made_of.rows("train")) == 2 and made_of.rule("long_rows") == 0

    def test_rows_over_the_models_limit_are_named(self, tmp_path):
        """On both sides: the model can't take them. One that just fits stays, with its label and the 11 tokens of a chat's form."""
        fits, over = example("x", "ana", minute=1, text="fits"), example("over", "ana", minute=2, text="it does not fit")
        too = example("too", "ana", minute=150, text="nor does this")
        tokens = len(O200K.encode_ordinary(fits["prompt"])) + 1 + 11
        made_of = made(tmp_path, [fits, over, LAST, too], max_tokens=tokens)

        assert made_of.rows("train") == [("fits", "0")] and made_of.rows("valid") == [("last", "0")]
        assert made_of.manifest["rules"]["too_many_tokens"]["ids"] == [over["id"], too["id"]]
        assert made_of.manifest["tokens"] == {"train": tokens, "valid": tokens}
        assert made_of.ids("train") == [fits["id"], over["id"]]

    def test_prompts_have_a_common_suffix(self, tmp_path):
        """The one that all our prompts end with."""
        made_of = made(tmp_path, [FIRST, example("bad", "bo", minute=1, prompt="no end"), LAST])

        assert made_of.left_out == {"no_suffix": 1} and made_of.rule("no_suffix") == 1

    def test_the_suffix_stands_nowhere_else(self, tmp_path):
        """A model would take it for the end."""
        made_of = made(tmp_path, [FIRST, example("bad", "bo", minute=1, text="one\n\n###\n\ntwo"), LAST])

        assert made_of.left_out == {"suffix_inside": 1} and made_of.rule("suffix_inside") == 1

    @pytest.mark.parametrize(("prefix", "count"), [("Slack says: ", 0), ("Slack says now: ", 16)])
    def test_a_long_common_prefix_is_told(self, tmp_path, prefix, count):
        """It is told, and nothing is changed."""
        made_of = made(tmp_path, [FIRST | {"prompt": f"{prefix}one\n\n###\n\n"}, LAST | {"prompt": f"{prefix}two\n\n###\n\n"}])

        assert made_of.rule("common_prompt_prefix") == count
        assert made_of.rows("train") == [(f"{prefix}one", "0")]

    def test_no_space_is_written_where_it_would_cost_a_second_token(self, tmp_path):
        """`" 1"` is two tokens in o200k: a model of one token would only ever say the space."""
        made_of = made(tmp_path, [FIRST, LAST], formats=("completion",))

        assert made_of.rule("no_leading_space") == 2
        assert completions(made_of, "train") == ["0"]
        assert json.loads(made_of.files["labels.json"])["space"] == ""

    def test_a_space_is_written_where_it_costs_nothing(self, tmp_path):
        """In an encoding in which each label is one token with it, as in those of the models that wanted it."""
        encoding = spaced("nil", "other", *map(str, range(1000)))
        made_of = made(tmp_path, [FIRST, example("silent", minute=1), LAST], formats=("completion",), encoding=encoding)

        assert made_of.rule("no_leading_space") == 0
        assert completions(made_of, "train") == [" 0", " nil"]
        assert json.loads(made_of.files["labels.json"])["space"] == " "

    def test_a_common_beginning_of_completions_rewrites_none(self, tmp_path):
        """`prepare_data` overwrote every completion if the common beginning started with a space; ours are told, and stay."""
        encoding = spaced("nil", "other", *map(str, range(1000)))
        rare = [example(f"rare {minute}", f"person {minute}", minute=minute) for minute in range(3)]
        made_of = made(tmp_path, [*rare, LAST], formats=("completion",), encoding=encoding, min_answers=2)

        assert completions(made_of, "train") == [" other"] * 3
        assert made_of.rule("common_completion_prefix") == 0  # all are the same: that is no beginning of different ones

    @pytest.mark.parametrize(
        ("line", "fault"), [(b'{"id": "c', "not_json"), (b'{"prompt": "hello", "completion": " 1"}', "not_an_example")]
    )
    def test_lines_of_something_else(self, tmp_path, line, fault):
        """Are counted, named by their number, and left out."""
        made_of = made(tmp_path, [FIRST, LAST, b"", line])

        assert made_of.left_out == {fault: 1}
        assert made_of.manifest["rules"][fault]["ids"] == ["line 4"]
        assert made_of.manifest["account"]["read"] == 3 and made_of.manifest["account"]["adds_up"]


def test_a_last_line_that_was_cut_short_is_refused(tmp_path: Path):
    """A file that was not copied to its end is no smaller file: nothing is made of it."""
    source = write(tmp_path / "examples.jsonl", [FIRST, LAST])
    source.write_bytes(source.read_bytes()[:-40])

    with pytest.raises(CannotRead, match=rf"^{source}: line 2, its last, was cut short: .*take that line out$"):
        prepare(source, tmp_path / "set", PrepareOptions("gpt-4.1", 65_536, sides=CUT_AT_100), O200K)
    assert not (tmp_path / "set").exists()


def completions(made_of: Set, side: str) -> list[str]:
    """Of the file of prompts and completions."""
    return [json.loads(line)["completion"] for line in made_of.files[f"completion_{side}.jsonl"].splitlines()]


class TestLabels:
    """Numbers for people, fitted on the training side."""

    def test_who_has_too_few_answers_is_other(self, tmp_path):
        """Of the training side; people whom only validation knows are other, too."""
        train = [example(f"{who} {minute}", who, minute=minute) for minute, who in enumerate(["bo", "bo", "ana", "ana", "cy"])]
        valid = [example(f"v {minute}", who, minute=100 + minute) for minute, who in enumerate(["ana", "cy", "new", "new"])]
        made_of = made(tmp_path, [*train, *valid], min_answers=2)

        assert made_of.labels == {"ana": "0", "bo": "1"}
        assert [label for _, label in made_of.rows("train")] == ["1", "1", "0", "0", "other"]
        assert [label for _, label in made_of.rows("valid")] == ["0", "other", "other", "other"]
        assert made_of.manifest["labels"] == {"people": 2, "others": 1, "too_many": 0}

    def test_validation_teaches_no_labels(self, tmp_path):
        """Whoever answers there, the labels are the same."""
        one, other = tmp_path / "one", tmp_path / "other"
        one.mkdir(), other.mkdir()
        first = made(one, [FIRST, example("v", "bo", minute=150)])
        second = made(other, [FIRST, example("v", "aaron", minute=150)])

        assert first.files["labels.json"] == second.files["labels.json"]
        assert second.rows("valid") == [("v", "other")]

    def test_a_weak_signal_teaches_nobodys_label(self, tmp_path):
        """Whoever answered there, nothing is to be learned of it."""
        weak = [example(f"weak {minute}", "bo", minute=minute, signal="weak") for minute in range(1, 4)]

        assert made(tmp_path, [FIRST, *weak, LAST]).labels == {"ana": "0"}

    def test_a_thousand_people_have_labels(self, tmp_path):
        """`"1000"` is no single token; those with the fewest answers become other."""
        examples = [example(f"p{number}", f"U{number:04}", minute=number / 100) for number in range(1001)]
        examples += [example(f"again {number}", f"U{number:04}", minute=20 + number / 100) for number in range(1001) if number != 500]
        made_of = made(tmp_path, [*examples, LAST])

        assert len(made_of.labels) == 1000 and "U0500" not in made_of.labels and made_of.labels["U1000"] == "999"
        assert made_of.manifest["labels"] == {"people": 1000, "others": 0, "too_many": 1}

    @pytest.mark.parametrize("name", ["o200k_base", "cl100k_base"])
    def test_every_label_is_one_token(self, name):
        """In the encodings of all models that are known."""
        check_single_tokens(["nil", "other", "weak", *map(str, range(1000))], load_encoding(name))

    def test_labels_that_are_none_are_refused(self, tmp_path):
        """In an encoding that has no token for them."""
        with pytest.raises(CannotPrepare, match=r'1 labels are more than one token of spaced \("other"\)'):
            made(tmp_path, [FIRST, LAST], encoding=spaced("nil", "0"))

    @pytest.mark.parametrize(
        ("answers", "expected"),
        [("each", ["0", "1", "other"]), ("all", ["0 1 other"]), ("one", ["1"])],
    )
    def test_several_answers(self, tmp_path, answers, expected):
        """A row for each, all in one, or one that is drawn by the example's id; who is other is so once."""
        both = [example(f"{who} alone {number}", who, minute=number) for number in range(2) for who in ("ana", "bo")]
        several = example("several", "ana", "bo", "cy", "di", minute=10, id=f"{5:016x}{0:016x}")
        made_of = made(tmp_path, [*both, several, LAST], answers=answers, min_answers=2)

        assert [label for prompt, label in made_of.rows("train") if prompt == "several"] == expected
        assert len(made_of.ids("train")) == 5

    def test_labels_are_counted_by_what_is_drawn(self, tmp_path):
        """Where one of several answers is drawn, the others taught nothing."""
        several = [example(f"several {number}", "ana", "bo", "cy", minute=number) for number in range(30)]
        made_of = made(tmp_path, [*several, LAST], answers="one")
        written = [label for _, label in made_of.rows("train")]
        told = json.loads(made_of.files["labels.json"])["people"]

        assert {each["label"]: each["answers"] for each in told} == {label: written.count(label) for label in ("0", "1", "2")}


class TestModels:
    """Their encodings, by a map of our own: tiktoken's has `ft:gpt-4.1` wrong."""

    @pytest.mark.parametrize(
        ("name", "encoding"),
        [
            ("gpt-4.1", "o200k_base"), ("gpt-4.1-mini-2025-04-14", "o200k_base"), ("ft:gpt-4.1-nano:acme::x", "o200k_base"),
            ("gpt-4o-mini", "o200k_base"), ("gpt-5.6-luna", "o200k_base"), ("gpt-6-sol", "o200k_base"),
            ("gpt-4", "cl100k_base"), ("gpt-4-0613", "cl100k_base"), ("gpt-3.5-turbo-0125", "cl100k_base"), ("babbage-002", "cl100k_base"),
        ],
    )  # fmt: skip
    def test_those_that_are_known(self, name, encoding):
        """By the beginning of their names."""
        assert model_of(name).encoding == encoding

    def test_others_need_an_encoding(self):
        """Which is then taken at its word; their limit is not known."""
        with pytest.raises(CannotPrepare, match="gpt-40 is not known, so neither is its encoding: give --encoding"):
            model_of("gpt-40")
        assert model_of("qwen3-8b", "cl100k_base") == ("cl100k_base", None)

    def test_what_an_epoch_costs(self, tmp_path):
        """Tokens by the price, where somebody knows it."""
        (tmp_path / "known").mkdir()
        known, unknown = made(tmp_path / "known", [FIRST, LAST], price=25.0), made(tmp_path, [FIRST, LAST])

        assert known.manifest["cost_per_epoch"] == round(known.manifest["tokens"]["train"] * 25 / 1e6, 4) > 0
        assert unknown.manifest["cost_per_epoch"] is None


class TestFiles:
    """What stands in the folder."""

    def test_chats(self, tmp_path):
        """The prompt byte for byte, as it is when it is asked; only the answer is learned."""
        made_of = made(tmp_path, [FIRST, LAST], formats=("chat",), system="Who answers?")
        row = json.loads(made_of.files["chat_train.jsonl"])

        assert row == {
            "messages": [
                {"role": "system", "content": "Who answers?"},
                {"role": "user", "content": "first\n\n###\n\n"},
                {"role": "assistant", "content": "0", "weight": 1},
            ]
        }
        assert sorted(made_of.files) == ["chat_train.jsonl", "chat_valid.jsonl", "labels.json", "manifest.json", *ROWS]

    def test_the_table_of_candidates(self, tmp_path):
        """Every feature a column of lists, times in UTC, the signal beside the answer that it is about; each column says what it means."""
        weak = example("weak", "bo", minute=2, signal="weak", signal_p=0.25)
        made_of = made(tmp_path, [FIRST, weak, LAST], formats=("candidates",))
        table = pq.read_table(made_of.folder / "candidates_train.parquet")

        def time(minute: int) -> datetime:
            return datetime.fromtimestamp(at(minute) / 1e6, UTC)

        assert table.to_pylist()[1] == {
            "id": weak["id"], "conversation": weak["conversation"], "channel": "C1", "prompt_ts": time(2),
            "settled_ts": time(3), "speakers": 1,
            "author": "zoe", "window_ts": [time(2)], "window_user": ["zoe"], "answer": ["bo"], "signal": "weak", "signal_p": 0.25,
            "prompt": "weak\n\n###\n\n", "prompt_tokens": 5,
            "candidates_user": ["ana", "bo"], "candidates_in_window": [2.0, 0.0], "candidates_share_30d": [0.25, 0.125],
        }  # fmt: skip
        names, about = schema_of("example").names, [each.metadata[b"description"] for each in table.schema]
        assert [each for each in table.column_names if each not in names] == ["author", "signal", "signal_p"]
        assert all(len(each) > 10 for each in about) and len(set(about)) == len(about)
        assert sorted(made_of.files) == ["candidates_train.parquet", "candidates_valid.parquet", "labels.json", "manifest.json", *ROWS]

    def test_the_examples_themselves(self, tmp_path):
        """Byte for byte, in the order of their time: what `beepgpt audit` proves the split with."""
        made_of = made(tmp_path, [LAST, example("second", "bo", minute=1), FIRST], formats=("examples",))

        assert made_of.files["examples_train.jsonl"] == line_of(FIRST) + b"\n" + line_of(example("second", "bo", minute=1)) + b"\n"
        assert made_of.files["examples_valid.jsonl"] == line_of(LAST) + b"\n"

    def test_a_table_of_many_groups(self, tmp_path):
        """Nothing is lost where one group of rows ends and the next begins."""
        examples = [example(f"number {number}", "ana", minute=number / 100) for number in range(2001)]
        made_of = made(tmp_path, [*examples, LAST], formats=("candidates",))

        assert made_of.ids("train") == [each["id"] for each in examples]
        assert pq.ParquetFile(made_of.folder / "candidates_train.parquet").num_row_groups == 3

    @pytest.mark.parametrize(("candidates", "formats"), [({"user": []}, {"chat", "candidates", "rows"}), (LEFT_OUT, {"chat", "rows"})])
    def test_the_table_is_made_where_there_are_candidates(self, tmp_path, candidates, formats):
        """Unless formats were asked for by name."""
        made_of = made(
            tmp_path,
            [FIRST | {"candidates": candidates}, LAST | {"candidates": candidates}]
            if candidates is not LEFT_OUT
            else [example("a", "ana", minute=0, candidates=LEFT_OUT), example("b", "ana", minute=200, candidates=LEFT_OUT)],
        )

        assert {name.partition("_")[0] for name in made_of.files if "_" in name} == formats

    def test_the_manifest_has_every_files_hash(self, tmp_path):
        """Its own apart."""
        made_of = made(tmp_path, [FIRST, LAST], formats=FORMATS)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in made_of.files.items() if name != "manifest.json"}

        assert set(made_of.files) == OUTPUTS
        assert {name: told["sha256"] for name, told in made_of.manifest["files"].items()} == hashes

    def test_an_older_set_is_replaced(self, tmp_path):
        """All of it, so that files of two sets never stand side by side; what is not ours stays."""
        made(tmp_path, [FIRST, LAST], formats=("chat", "completion", "candidates"))
        (tmp_path / "set" / "models").mkdir()
        made_of = made(tmp_path, [FIRST, LAST], formats=("chat",))

        assert sorted(path.name for path in made_of.folder.iterdir()) == [
            "chat_train.jsonl",
            "chat_valid.jsonl",
            "labels.json",
            "manifest.json",
            "models",
            *ROWS,
        ]

    def test_an_older_set_stays_if_no_new_one_can_be_made(self, tmp_path):
        """And nothing half made is left behind."""
        before = made(tmp_path, [FIRST, LAST]).files
        (tmp_path / "set" / ".prepare-by-a-run-that-was-killed").mkdir()
        with pytest.raises(CannotPrepare):
            made(tmp_path, [FIRST, LAST, example("other facts", "bo", minute=3, candidates={"user": ["ana"], "new_fact": [1]})])

        assert Set(tmp_path / "set").files == before

    def test_one_run_at_a_time_makes_a_set(self, tmp_path):
        """The second would delete what the first has written so far."""
        before = made(tmp_path, [FIRST, LAST]).files
        with folder_in(tmp_path / "set", ".prepare-") as working:
            with pytest.raises(CannotPrepare, match="set: another run is making a training set there: wait for it"):
                made(tmp_path, [FIRST, LAST])
            assert working.is_dir()

        assert made(tmp_path, [FIRST, LAST]).files == before

    def test_a_set_is_not_made_of_what_it_would_replace(self, tmp_path):
        """Its training side has the examples of one side only: the others would be lost for good."""
        before = made(tmp_path, [FIRST, LAST], formats=("examples",)).files
        with pytest.raises(CannotPrepare, match=r"examples_train.jsonl: is of the training set in .*set, which would be replaced"):
            prepare(tmp_path / "set" / "examples_train.jsonl", tmp_path / "set", PrepareOptions("gpt-4.1", None), O200K)

        assert Set(tmp_path / "set").files == before

    def test_a_kill_while_files_are_moved_in_leaves_no_set(self, tmp_path, monkeypatch):
        """Whichever file is to come next: the manifest comes last, and without it a folder is no training set."""
        count = len(made(tmp_path, [FIRST, LAST]).files)
        rename = Path.rename
        for moved in range(count):
            left = iter(range(moved))

            def until_killed(path, to, left=left):
                if path.parent.name.startswith(".prepare-") and next(left, None) is None:
                    raise KeyboardInterrupt
                return rename(path, to)

            (tmp_path / str(moved)).mkdir()
            monkeypatch.setattr(Path, "rename", until_killed)
            with pytest.raises(KeyboardInterrupt):
                made(tmp_path / str(moved), [FIRST, LAST])
            found = {path.name for path in (tmp_path / str(moved) / "set").iterdir()}
            assert len(found) == moved and "manifest.json" not in found

    @pytest.mark.parametrize("theirs", [b'{"name": "somebody\'s"}', b"[]", b"{"])
    def test_a_folder_of_something_else_is_left_alone(self, tmp_path, theirs):
        """A manifest that is not ours says that its folder isn't either."""
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "manifest.json").write_bytes(theirs)
        with pytest.raises(CannotPrepare, match="that is no training set's: name another folder"):
            made(tmp_path, [FIRST, LAST])

        assert [path.name for path in (tmp_path / "set").iterdir()] == ["manifest.json"]


class TestOneResult:
    """The same examples, the same bytes."""

    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(seed=st.integers(0, 5), order=st.integers(0, 99), answers=st.sampled_from(["each", "one", "all"]))
    def test_in_any_order(self, tmp_path_factory, seed, order, answers):
        """Every file, the manifest and its hashes among them; and no side knows of the other."""
        lines = workspace(seed, target="interacting_users")
        one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
        first = made(one, lines, sides=SplitOptions(), answers=answers)
        second = made(other, shuffled(lines, order), sides=SplitOptions(), answers=answers)
        told = {json.loads(line)["prompt"].removesuffix("\n\n###\n\n"): json.loads(line) for line in lines}
        sides = [[told[prompt] for prompt, _ in first.rows(side)] for side in ("train", "valid")]

        assert first.files == second.files
        assert leaks(sides[0], sides[1], micros(first.manifest["cut"])) == []
        assert first.manifest["account"]["adds_up"]

    def test_another_example_is_another_hash(self, tmp_path):
        """The manifest names what came in by its bytes."""
        (tmp_path / "more").mkdir()
        one, other = made(tmp_path, [FIRST, LAST]), made(tmp_path / "more", [FIRST, LAST | {"speakers": 2}])

        assert one.manifest["examples"]["sha256_sum"] != other.manifest["examples"]["sha256_sum"]


class TestWhatCantBePrepared:
    """It is told, with what to do."""

    @pytest.mark.parametrize(
        ("examples", "said"),
        [
            ([], r"has no examples \(it is empty\)"),
            ([b"{", b"[]"], r"has no examples \(not_json 1, not_an_example 1\): make some with `beepgpt examples`"),
            (
                [FIRST, LAST | {"spec": "fedcba987654"}],
                "line 2 was made with other settings .*: spec fedcba987654 there, 0123456789ab",
            ),
            (
                [FIRST, example("bare", "ana", minute=200, candidates=LEFT_OUT)],
                "line 2 has no candidates: make the examples without --no-cand",
            ),
            ([FIRST], "nothing is left on the validation side"),
        ],
    )
    def test_examples(self, tmp_path, examples, said):
        """Before anything is written."""
        with pytest.raises(CannotPrepare, match=said):
            made(tmp_path, examples)

        assert not (tmp_path / "set").exists()

    def test_a_source_that_changes_while_it_is_read(self, tmp_path):
        """It is read twice, and must be the same."""
        source = tmp_path / "examples.jsonl"

        def change(lines: int, share: float) -> None:
            if share == 0.5:
                write(source, [LAST, FIRST] * 500)

        many = [example(f"number {number}", "ana", minute=number / 100) for number in range(999)]
        with pytest.raises(CannotPrepare, match="was changed while it was read: prepare it again when it is at rest"):
            made_with(change)(tmp_path, [*many, LAST])

    def test_a_retraction_that_cant_be_read(self, tmp_path):
        """What was deleted must not be learned in silence."""
        path = write(tmp_path / "r.jsonl", [{"id": FIRST["id"], "retracted_ts": "1"}, b"{"])
        with pytest.raises(CannotPrepare, match=r"r\.jsonl: line 2 is not a retraction"):
            list(retracted_in(path))

    def test_a_few_shot_that_cant_be_read(self, tmp_path):
        """Or it might validate."""
        write(tmp_path / "examples_pos.jsonl", [FIRST | {"signal": "strong", "summary": "short"}])
        write(tmp_path / "examples_neg.jsonl", [b"{}"])
        with pytest.raises(CannotPrepare, match=r"examples_neg\.jsonl: line 1 is not a few-shot \(not_an_example\)"):
            list(few_shots_in(tmp_path))


def made_with(progress: Callable[[int, float], None]) -> Callable[..., Set]:
    """`made`, watched."""
    from beepgpt.training.prepare import PrepareOptions, prepare

    def make(folder: Path, examples: list[dict[str, object]]) -> Set:
        source = write(folder / "examples.jsonl", examples)
        return Set(
            folder / "set", prepare(source, folder / "set", PrepareOptions("gpt-4.1", None, sides=CUT_AT_100), O200K, progress=progress)
        )

    return make


def test_retractions_and_few_shots_count(tmp_path):
    """What was taken back is gone from every file, what was shown to the labeler from validation, and the manifest names both."""
    shot = example("shot", "ana", minute=150)
    gone = example("gone", "ana", minute=10)
    made_of = made(tmp_path, [FIRST, gone, shot, LAST], retracted=[bytes.fromhex(gone["id"])], few_shots=[parsed(line_of(shot))])

    assert made_of.left_out == {"retracted": 1, "few_shot": 1}
    assert b"gone" not in b"".join(made_of.files.values()) and b"shot\\n" not in b"".join(made_of.files.values())
    assert (made_of.manifest["retractions"]["count"], made_of.manifest["few_shots"]["count"]) == (1, 1)
