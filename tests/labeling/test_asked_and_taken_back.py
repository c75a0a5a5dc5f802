"""What a request holds of the texts that it is made of, and what becomes of a request whose example is taken back."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from beepgpt.connectors.openai.values import AskedModel, body_of, encode
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.signals import SignalVerdict
from beepgpt.dataflows.label_examples import LabelExamples, LabelingRun, Read, check_labels
from beepgpt.labeling.asking import Asking, asking_of
from beepgpt.labeling.few_shots import FewShot, read_few_shots
from beepgpt.labeling.labelers.labeled import labeled_of
from beepgpt.labeling.redaction import redact
from beepgpt.labeling.trial import LabelTrial
from tests.support.labeling import few_shots_in, made_examples

SECRET = "ask ana@example.org, the key is AKIAIOSFODNN7EXAMPLE"


def test_nothing_of_a_request_is_sent_as_it_was_written():
    """Neither the instructions, nor a few-shot, nor the prompt; and each is still there."""
    asking = asking_of(AskedModel("m"), f"Instructions: {SECRET}", [(f"Shot: {SECRET}", "strong")], load_encoding("o200k_base"))
    sent = encode(body_of(asking.request(f"Prompt: {SECRET}").request)).decode()

    assert sent.count("ask [email], the key is [secret]") == 3
    assert all(each in sent for each in ("Instructions", "Shot", "Prompt"))
    assert "ana@" not in sent and "AKIA" not in sent


def test_what_taking_something_out_uncovers_is_taken_out_too():
    """The first address is attached to the second, which is one only when the first is gone."""
    assert redact("ana@example.org=bo@example.org=").text == "[email][email]="


class Held:
    """A labeler whose verdicts come when the test says so."""

    fingerprint = "held"

    def __init__(self) -> None:
        self.verdicts: list[Future[SignalVerdict]] = []

    def label(self, prompt: str) -> Future[SignalVerdict]:
        """A verdict to come."""
        self.verdicts.append(Future())
        return self.verdicts[-1]


def example(number: int) -> Read:
    line = b'{"id": "%d", "channel": "C1", "window": [{"ts": "1.0", "user": "U1"}], "prompt": "p%d", "answer": ["U2"]}' % (number, number)
    return Read(f"topic/0:{number}", line, b"%d" % number)


def test_an_example_that_is_taken_back_while_it_is_asked_about_does_not_come_out():
    """Its tombstone comes with a later batch than the example: the answer is nobody's then."""
    labeler = Held()
    step = LabelExamples(LabelingRun(labeler, ahead=1), None)

    def out(tagged: Iterable[tuple[str, list[Any]]]) -> list[tuple[str, bool]]:
        return [(each.id, each.line is None) for kind, items in tagged if kind == "labeled" for each in items]

    assert out(step.on_batch([[example(1), example(2)]])[0]) == [] and len(labeler.verdicts) == 1
    assert out(step.on_batch([[Read("topic/0:3", None, b"1", "1700000000.000000")]])[0]) == [("1", True)]
    labeler.verdicts[0].set_result(SignalVerdict("strong", None, "m"))
    step.on_notify()
    labeler.verdicts[1].set_result(SignalVerdict("weak", None, "m"))
    found = step.on_notify()[0]
    assert out(found) == [("2", False)]
    (account,) = [items[0] for kind, items in step.on_eof()[0] if kind == "account"]
    assert check_labels(account) == [] and (account["retracted"], account["weak"], account["strong"]) == (1, 1, 0)


def test_a_provider_is_tried_by_requests_that_show_nothing_of_the_same_conversation(tmp_path: Path):
    """Nor with a message of it: it would be right about what it was shown."""
    few_shots_in(tmp_path, made_examples(), 60)
    few_shots = read_few_shots(tmp_path)
    shown: list[Sequence[FewShot]] = []

    def asking_with(some: Sequence[FewShot]) -> Asking:
        shown.append(some)
        return asking_of(AskedModel("m"), "", [(each.text, each.signal) for each in some], load_encoding("o200k_base"))

    LabelTrial(few_shots, asking_with)

    one, other = ({name for each in half for name in labeled_of(each).shares} for half in shown)
    assert len(one) > 20 < len(other) and one.isdisjoint(other) and sum(map(len, shown)) == len(few_shots) == 60
