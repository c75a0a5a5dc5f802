"""Direct messages of which Slack never said whether they were sent: found where they are, however late the last try was."""

from pathlib import Path

from beepgpt.conversations.rules import DAY, MINUTE, SECOND
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from tests.support.alerts import NOON, Office, deletion, prediction


def test_a_second_try_is_looked_for_when_it_was_made(tmp_path: Path, slack: AlertedWorkspace):
    """It stands in Slack ten minutes after the message was queued; the first try never came there."""
    office = Office(tmp_path, slack, policy={"max_age": DAY})
    slack.clock = lambda: office.clock() / SECOND
    office.opt_in("bo")
    slack.faults = {"chat.postMessage": ["drop", "done"], "conversations.history": [None, "error:channel_not_found"]}
    office.apply("prediction", prediction(texts=["a secret"]))
    office.work(lambda: office.store.dms("sending"))
    office.clock.set(office.clock() + 10 * MINUTE)
    office.work(lambda: slack.sent_to("bo"))
    office.clock.set(office.clock() + MINUTE)
    office.work()
    assert office.counts["looked_up:due"] == office.counts["letters_unknown"] == len(slack.sent_to("bo")) == 1

    office.clock.set(office.clock() + DAY)
    office.apply("deletion", deletion(NOON))
    office.work()

    assert slack.sent_to("bo") == [] and office.counts["letters_deleted"] == 1
