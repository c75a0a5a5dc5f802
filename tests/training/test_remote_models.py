"""Models on a server, over real HTTP: chances of people out of tokens, checked before they are believed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beepgpt.commands.predict import predicted
from beepgpt.commands.provider import client_of, open_model
from beepgpt.commands.train_elsewhere import adopt_served
from beepgpt.connectors.openai.labels import LabelsMissing
from beepgpt.connectors.openai.values import AskedModel, Request
from beepgpt.errors import BadCommand, RunStopped, TooBusy
from beepgpt.labeling.redaction import redact
from beepgpt.training.models import BadModel, load_model, read_card
from beepgpt.training.points import Examples, Predictions, read_examples
from beepgpt.training.remote import RemoteModel, Unanswered
from tests.support import run_program
from tests.support.openai_model import Labeler, learned
from tests.support.openai_script import Script, digest
from tests.support.openai_server import Server, serving
from tests.support.prepare import Set, vouch_for
from tests.support.training import job_of, settings_for, training_set, variables


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Set:
    return training_set(tmp_path_factory.mktemp("remote"))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def heart(prepared: Set) -> Labeler:
    """What a model would have learned of the training side."""
    return learned([json.loads(line)["messages"] for line in (prepared.folder / "chat_train.jsonl").read_bytes().splitlines()])


def served(prepared: Set, server: Server, to: Path, way: str = "chat", labeler: Labeler | None = None) -> Path:
    """A folder that leads to a model of the server's."""
    server.models["mine"] = labeler or heart(prepared)
    adopt_served(prepared.folder, to / "mine", settings_for(server), "mine" if way != "decisions" else "gpt-6-luna", way)
    return to / "mine"


def valid_of(prepared: Set) -> Examples:
    return read_examples(prepared.folder / "candidates_valid.parquet")


def said_of(folder: Path, server: Server, valid: Examples, **more: object) -> tuple[Predictions, Mapping[str, int]]:
    with open_model(folder, settings_for(server, **more)) as opened:
        assert isinstance(opened.model, RemoteModel)
        return opened.model.predict(valid.points), opened.model.counts


def sums(said: Predictions) -> list[float]:
    assert said.nobody is not None and said.other is not None
    named = np.array([said.p[said.starts[each] : said.starts[each + 1]].sum() for each in range(len(said))])
    return list(named + said.nobody + said.other)


@pytest.mark.parametrize("way", ["chat", "completions", "decisions"])
def test_all_ways_give_chances(prepared: Set, server: Server, tmp_path: Path, way: str):
    """They sum to 1; who is named has a label, or was a candidate; nobody and somebody else have their parts."""
    valid = valid_of(prepared)
    said, counts = said_of(served(prepared, server, tmp_path, way), server, valid)

    assert sums(said) == pytest.approx([1.0] * len(valid), abs=1e-5)
    assert said.are_probabilities and set(said.people) == {"ana", "bo", "cy", "dee"}
    assert counts == {}
    if way == "chat":
        best = [said.of(each).people[0][0] for each in range(len(valid))]
        right = sum(person == answer[0] for person, answer in zip(best, valid.answers, strict=True) if answer and answer[0] != "new")
        assert right > 15


def test_what_is_asked_is_what_was_trained_on(prepared: Set, server: Server):
    """Byte for byte: the training side asked again sends the chats that the job was given."""
    job_of(prepared.folder, server)
    uploaded = {json.loads(line)["messages"][0]["content"] for line in server.files["file-0"][1].splitlines()}
    with open_model(prepared.folder / "models" / "tuned", settings_for(server)) as opened:
        opened.model.predict(read_examples(prepared.folder / "candidates_train.parquet").points)
    bodies = [each.body for each in server.record.asked][1:]

    assert {each["messages"][-1]["content"] for each in bodies} == uploaded
    assert all(len(each["messages"]) == 1 and each["max_completion_tokens"] == 1 and each["temperature"] == 0 for each in bodies)


def test_people_it_never_saw_are_other(prepared: Set, server: Server, tmp_path: Path):
    """They have no label; what is likely to be `other`, or isn't told, is somebody else's."""
    folder = served(prepared, server, tmp_path, labeler=lambda _: {"0": 0.5, "other": 0.2, "nil": 0.1, "the": 0.2})
    said, _ = said_of(folder, server, valid_of(prepared))

    assert "new" not in said.people
    assert said.of(0).people == [("ana", 0.5)]
    assert said.of(0).nobody == pytest.approx(0.1)
    assert said.of(0).other == pytest.approx(0.4)


def test_labels_beyond_what_the_server_tells_are_somebody_elses(prepared: Set, server: Server, tmp_path: Path):
    """Of 4 people and nobody the two likeliest are told."""
    server.top = 2
    folder = served(prepared, server, tmp_path, labeler=lambda _: {"0": 0.4, "1": 0.3, "2": 0.2, "nil": 0.1})
    said, _ = said_of(folder, server, valid_of(prepared))

    assert said.of(0).people == [("ana", 0.4), ("bo", 0.3)]
    assert said.of(0).other == pytest.approx(0.3)


def test_who_wrote_last_answers_nobody(prepared: Set, server: Server, tmp_path: Path):
    """What a model gives to the author is somebody else's."""
    valid = valid_of(prepared)
    valid.points.author[0] = "ana"
    folder = served(prepared, server, tmp_path, labeler=lambda _: {"0": 0.5, "1": 0.5})
    said, _ = said_of(folder, server, valid)

    assert (said.of(0).people, said.of(0).other) == ([("bo", 0.5)], 0.5)


def test_vllm_is_asked_for_exactly_the_labels(prepared: Set, tmp_path: Path):
    """However unlikely they are: 40 words are likelier than anybody."""
    words = {f"word{number}": 0.02 for number in range(40)}
    with serving(is_vllm=True) as server:
        folder = served(prepared, server, tmp_path, labeler=lambda _: {**words, "0": 0.1, "1": 0.05, "nil": 0.03, "2": 0.01, "3": 0.01})
        said, _ = said_of(folder, server, valid_of(prepared))
    with serving() as plain:
        folder = served(prepared, plain, tmp_path / "plain", labeler=lambda _: {**words, "0": 0.1, "1": 0.05, "nil": 0.03, "2": 0.01})
        less, _ = said_of(folder, plain, valid_of(prepared))

    assert [person for person, _ in said.of(0).people] == ["ana", "bo", "cy", "dee"]
    assert [person for person, _ in less.of(0).people] == ["ana", "bo"]


# Checked at the start


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"logprobs": False}, "the server gives no likelihoods of tokens (logprobs): OpenAI does for models that don't reason, vLLM"),
        ({"top": 1}, "returns the likelihood of one token alone"),
        ({"splits_numbers": True}, "says a label in 2 tokens (1 + 7)"),
        ({"splits_numbers": True, "is_vllm": True}, 'takes 2 tokens to say the label "'),
    ],
)
def test_a_server_that_doesn_t_give_what_is_needed_is_refused(prepared: Set, tmp_path: Path, options: dict[str, Any], said: str):
    """Before anything is asked in earnest, with who drops it; and no folder says that it works."""
    with serving(**options) as server, pytest.raises(LabelsMissing) as caught:
        folder = prepared.folder if "is_vllm" not in options else with_labels(prepared, tmp_path)
        server.models["mine"] = lambda _: {"17": 0.9, "nil": 0.1}
        adopt_served(folder, tmp_path / "mine", settings_for(server), "mine", "chat")

    assert said in str(caught.value)
    assert not (tmp_path / "mine" / "model.json").exists()


def with_labels(prepared: Set, tmp_path: Path) -> Path:
    """The same training set, where people have labels of two digits."""
    folder = tmp_path / "set"
    folder.mkdir()
    for path in prepared.folder.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    labels = json.loads((folder / "labels.json").read_bytes())
    labels["people"] = [{**each, "label": f"1{each['label']}"} for each in labels["people"]]
    (folder / "labels.json").write_text(json.dumps(labels))
    vouch_for(folder / "labels.json")
    return folder


def test_nothing_is_asked_unless_it_is_switched_on(prepared: Set, server: Server, tmp_path: Path):
    """Scoring sends texts, as training does."""
    folder = served(prepared, server, tmp_path)
    with (
        pytest.raises(BadCommand, match="is switched off"),
        open_model(folder, settings_for(server, base_url="https://api.example.com/v1")),
    ):
        pass


def test_a_model_that_is_gone_is_said_to_be(prepared: Set, server: Server, tmp_path: Path):
    """A server that is out of reach, and a key that is no longer good, end it with a message of ours."""
    folder = served(prepared, server, tmp_path)
    with pytest.raises(RunStopped, match="the key is not accepted"), open_model(folder, settings_for(server, key="sk-wrong")):
        pass
    server.script = Script(always="404")
    with pytest.raises(RunStopped, match="there is no such model as mine"), open_model(folder, settings_for(server)):
        pass


# Asked in earnest


def test_one_point_may_be_asked_by_any_thread_with_a_deadline(prepared: Set, server: Server, tmp_path: Path):
    """64 at a time take about as long as one; one that the server stalls ends when its time is over, the others don't wait for it."""
    valid = valid_of(prepared).points
    folder = served(prepared, server, tmp_path)
    with open_model(folder, settings_for(server, concurrency=64)) as opened, ThreadPoolExecutor(8) as threads:
        model = opened.model
        assert isinstance(model, RemoteModel)
        server.latency = 0.2
        began = time.monotonic()
        futures = list(threads.map(lambda number: model.submit(valid, number % len(valid), deadline=30.0), range(64)))
        assert all(future.result().nobody >= 0 for future in futures)
        assert time.monotonic() - began < 5
        server.script = Script(of={digest(redact(valid.prompt[3]).text): ["stall"] * 9})
        began = time.monotonic()
        late, early = model.submit(valid, 3, deadline=0.5), model.submit(valid, 4, deadline=30.0)
        assert early.result().people
        with pytest.raises(TooBusy, match=r"within 0\.5 seconds"):
            late.result()
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("fault", ["429:0.01", "500", "reset", "drop", "cut", "html", "empty"])
def test_faults_are_overcome(prepared: Set, server: Server, tmp_path: Path, fault: str):
    """Half of all questions meet one at their first try; what is said is the same."""
    valid = valid_of(prepared)
    folder = served(prepared, server, tmp_path)
    plain, _ = said_of(folder, server, valid)
    server.script = Script(share={fault: 0.5})
    again, counts = said_of(folder, server, valid)

    assert (again.people, counts) == (plain.people, {})
    assert np.array_equal(again.p, plain.p)


def test_what_the_model_declines_counts_as_somebody_else(prepared: Set, server: Server, tmp_path: Path):
    """And is counted; asked alone, it is an error of its own."""
    valid = valid_of(prepared)
    folder = served(prepared, server, tmp_path)
    server.script = Script(of={digest(redact(valid.points.prompt[0]).text): ["refusal"] * 9})
    said, counts = said_of(folder, server, valid)

    assert (said.of(0).people, said.of(0).other) == ([], 1.0)
    assert counts == {"the model declines to answer: look at the text yourself": 1}
    with open_model(folder, settings_for(server)) as opened:
        assert isinstance(opened.model, RemoteModel)
        with pytest.raises(Unanswered):
            opened.model.submit(valid.points, 0).result()


def test_nothing_is_asked_of_channels_and_people_that_stay(prepared: Set, server: Server, tmp_path: Path):
    """They count as somebody else, by number."""
    valid = valid_of(prepared)
    folder = served(prepared, server, tmp_path)
    before = len(server.record.asked)
    _, counts = said_of(folder, server, valid, exclude_channels="C2")

    assert counts == {"kept back": valid.points.channel.count("C2")}
    assert len(server.record.asked) - before == 1 + valid.points.channel.count("C1")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_validate_judges_a_servers_model_beside_the_rules(prepared: Set, server: Server, tmp_path: Path):
    """By the command, as any other model; each prompt is asked about once."""
    folder = served(prepared, server, tmp_path)
    before = len(server.record.asked)
    done = run_program("validate", prepared.folder, "--model", folder, env=variables(server))
    assert done.returncode == 0, done.stderr
    metrics = json.loads((folder / "metrics.json").read_bytes())

    assert (len(valid_of(prepared)), metrics["points"], metrics["chosen_on"]) == (30, 15, 14), "one is settled too late to choose by"
    assert len(server.record.asked) - before == 1 + 15 + 14
    assert "mine" in done.stderr


def test_azure_s_older_addresses_are_asked_in_their_form(server: Server):
    """The version in each address, and the key in a header of its own."""
    with client_of(settings_for(server, api_version="2024-10-21")) as client:
        client.ask(Request(AskedModel("gpt-4.1"), "A question?", (), "hello"))

    assert server.record.asked[0].headers["api-key"] == server.key
    assert server.addresses[-1] == "/v1/chat/completions?api-version=2024-10-21"


# One row, one text


def test_a_row_shows_prompt_expected_label_and_the_five_likeliest(prepared: Set, server: Server, tmp_path: Path):
    """For each kind of model."""
    folder = prepared.folder
    tuned = served(prepared, server, tmp_path)
    deciding = served(prepared, server, tmp_path / "deciding", "decisions")
    valid = valid_of(prepared)
    for path in (tuned, deciding):
        told = predicted(folder, path, 1, None, settings_for(server))

        assert told["prompt"] == valid.points.prompt[0]
        assert told["expected"] == prepared.rows("valid")[0][1]
        assert len(told["likeliest"]) == 5
        assert told["answer"] == told["likeliest"][0]["label"]
        assert told["likeliest"] == sorted(told["likeliest"], key=lambda each: -each["p"])
    with pytest.raises(BadCommand, match="--row 999"):
        predicted(folder, tuned, 999, None, settings_for(server))


def test_a_text_is_asked_about_as_it_would_be_shown(prepared: Set, server: Server, tmp_path: Path):
    """Cleaned, and with the suffix; a model that needs facts is lent those of a moment, and says so."""
    tuned = served(prepared, server, tmp_path)
    told = predicted(prepared.folder, tuned, None, "How does <https://x.org|billing> work? :tada:\n\nAnyone?", settings_for(server))
    assert told["prompt"] == "How does billing work?\n\nAnyone?\n\n###\n\n"
    assert told["expected"] is None and "facts" not in told
    assert server.record.asked[-1].body["messages"][-1]["content"] == told["prompt"]

    deciding = served(prepared, server, tmp_path / "deciding", "decisions")
    assert "of row 30 (channel C2)" in predicted(prepared.folder, deciding, None, "Anyone?", settings_for(server))["facts"]
    with pytest.raises(BadCommand, match="has no words"):
        predicted(prepared.folder, tuned, None, ":tada:", settings_for(server))


def test_without_the_table_the_chats_are_rows(tmp_path: Path, server: Server):
    """Prompt and label are in them."""
    chats = training_set(tmp_path, formats=("chat",))
    told = predicted(chats.folder, served(chats, server, tmp_path), 2, None, settings_for(server))

    assert told["expected"] == chats.rows("valid")[1][1]


def test_a_model_of_another_training_set_is_not_asked_about_a_row(prepared: Set, server: Server, tmp_path: Path):
    """It may have seen it."""
    other = training_set(tmp_path, min_answers=2)
    with pytest.raises(BadCommand, match="another training set"):
        predicted(prepared.folder, served(other, server, tmp_path), 1, None, settings_for(server))


# Its folder


def test_the_folder_is_whole_or_none(prepared: Set, server: Server, tmp_path: Path):
    """The card tells the training set, the labels and the versions; changed labels are refused; it isn't taken for a local one."""
    folder = served(prepared, server, tmp_path)
    card = read_card(folder)
    assert (card["kind"], card["labels"], set(card["versions"])) == ("remote", ["ana", "bo", "cy", "dee"], {"python", "beepgpt", "openai"})
    with pytest.raises(BadModel, match="a server has this model"):
        load_model(folder)
    (folder / "labels.json").write_bytes(b"{}")
    with pytest.raises(BadModel, match=r"labels\.json is not the file that was trained"):
        read_card(folder)
