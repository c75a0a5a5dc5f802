"""The audit of a run that was stopped: what it could not have written yet isn't missing."""

from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings

from beepgpt.audit.findings import Audit
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.events import micros, parse, ts_text
from beepgpt.conversations.output import Output
from beepgpt.conversations.rules import DAY, SECOND, Rules
from beepgpt.conversations.shard import Shard, run_through
from tests.support import oracle_records, ours
from tests.support.audits import ENCODING, RULES, T0, audited, body_of, broken, made_up, talk
from tests.support.histories import Record, cases, delete, heartbeat, lines_of, post

# Runs that came to no end, or to an earlier one


def stopped(records: Iterable[bytes], rules: Rules = RULES) -> Output:
    """What a run wrote that has read all of it and was told of no end."""
    shard = Shard(rules, ENCODING)
    for record in records:
        shard.read(parse(record, FOREVER, bots=rules.bots, edits=rules.edits), "all")
    return shard.drain()


def verdicts(audit: Audit) -> list[str]:
    """Of laws 1, 2, 3, 4 and 6."""
    return [judged.verdict for judged in audit.laws if judged.law in (1, 2, 3, 4, 6)]


def broken_off() -> list[bytes]:
    """People talk in three channels, somebody joins in each of them, and four seconds later nothing more is heard."""
    history = talk()
    last = history[-1].t or 0
    return lines_of([*history, *(post(f"C{number}", last + SECOND, "fay", "so") for number in range(3)), heartbeat(last + 5 * SECOND)])


@pytest.mark.parametrize("rules", [RULES, Rules(target="interacting_users", horizon=3 * SECOND)])
def test_a_run_that_was_stopped_lacks_nothing(rules: Rules):
    """What only the end of the input settles is no finding, but a note that counts it."""
    records = broken_off()
    made = stopped(records, rules)
    more = len(run_through(records, rules, ENCODING).examples) - len(made.examples)
    assert more == 4, "fay's three answers, and one of the talk that is held back"

    audit = audited(made.examples, records, rules, retractions=made.retractions)

    assert verdicts(audit) == ["kept"] * 5
    assert f"{more} more examples" in audit.notes[0]
    assert "settled only by the end of the input: the run that made these had not come to it" in audit.notes[0]
    assert "before the input ends" in audit.laws[3].told
    assert "had not come to" in audit.laws[5].told


def test_a_run_that_came_to_its_end_lacks_what_is_not_there():
    """A file that has an example which only the end settles, and not another: that one is missing."""
    records = broken_off()
    made, run = stopped(records), run_through(records, RULES, ENCODING)
    by_end = sorted(set(run.examples) - set(made.examples))

    found = broken(audited([*made.examples, by_end[0]], records))

    assert set(found) == {4}
    assert "the file lacks" in found[4]


def test_a_run_that_was_stopped_lacks_what_it_should_have():
    """What was settled on the way is missing from a stopped run's file, and nothing else is."""
    records = broken_off()

    audit = audited(stopped(records).examples[1:], records)

    assert set(broken(audit)) == {4}
    assert [finding.count for finding in audit.findings] == [1]


def test_a_deletion_that_was_held_when_the_run_was_stopped_is_not_to_be_told_yet():
    """Ana takes her message back in the last second: only a run that came to the end has the retraction."""
    history = [post("C1", T0, "ana", "at noon"), post("C1", T0 + SECOND, "bo", "fine"), post("C1", T0 + 60 * SECOND, "cy", "no")]
    records = lines_of([*history, delete("C1", T0 + 61 * SECOND, T0)])
    made, run = stopped(records), run_through(records, RULES, ENCODING)
    assert len(made.examples) < len(run.examples)
    assert not made.retractions
    assert len(run.retractions) == 2

    audit = audited(made.examples, records, retractions=[])

    assert broken(audit) == {}
    assert "more retractions" in audit.notes[0]
    assert "should be retracted" in broken(audited(run.examples, records, retractions=[]))[4]
    assert "the file lacks" in broken(audited(made.examples, records, retractions=run.retractions))[4]


def test_a_stopped_run_has_told_of_each_deletion_that_was_due():
    """Ana takes her message back, and people go on for an hour: a file that lacks that retraction lacks it, however its run ended."""
    history = [post("C1", T0, "ana", "at noon"), post("C1", T0 + SECOND, "bo", "fine"), delete("C1", T0 + 30 * SECOND, T0)]
    later = [post("C1", T0 + 3_600 * SECOND, "ana", "and on"), post("C1", T0 + 3_601 * SECOND, "bo", "on")]
    records = lines_of([*history, *later])
    made, run = stopped(records), run_through(records, RULES, ENCODING)
    assert made.retractions and len(made.examples) < len(run.examples)

    assert broken(audited(made.examples, records, retractions=made.retractions)) == {}
    assert "should be retracted" in broken(audited(made.examples, records, retractions=[]))[4]


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=40)
@given(cases())
def test_any_history_gives_a_clean_file_wherever_a_run_is_stopped(case: tuple[oracle_records.Rules, list[Record]]):
    """Read to the last record, but told of no end: nothing is found, and the note counts what the end would have added."""
    rules, records = ours(case[0]), lines_of(case[1])
    made, run = stopped(records, rules), run_through(records, rules, ENCODING)

    audit = audited(made.examples, records, rules, retractions=made.retractions)

    assert broken(audit) == {}
    more = len(run.examples) - len(made.examples)
    assert any(note.startswith(f"{more:,} more examples") for note in audit.notes) == bool(more)


def until_hint(audit: Audit) -> set[int]:
    """The laws that can't be told before audit is given --until."""
    return {judged.law for judged in audit.laws if "give audit --until (the latest settled_ts is" in judged.told}


def test_a_file_of_an_earlier_end_is_told_apart_from_one_that_lacks_examples():
    """Made with --until, and audited without: what is missing settled later, and quiet channels' silences need that time; so ask for it."""
    times = sorted(micros(body_of(line)["settled_ts"]) for line in made_up()[1].examples)
    until = times[len(times) // 2]
    run = run_through(made_up()[0], RULES, ENCODING, until=until)

    audit = audited(run.examples, retractions=run.retractions)

    assert broken(audit) == {}
    assert 4 in until_hint(audit) <= {3, 4}
    assert ts_text(until) in audit.laws[3].told
    assert until_hint(audited(run.examples, retractions=run.retractions, until=until)) == set()
    assert set(broken(audited(run.examples[1:], retractions=run.retractions))) >= {4}


def test_a_silence_of_a_quiet_channel_needs_the_time_that_the_run_was_told():
    """Only C2 goes on: that C1 stayed silent is known to a run with --until, and to an audit that is given it."""
    history = [post("C1", T0, "ana", "anybody?"), *(post("C2", T0 + n * DAY // 4, "bo", f"day {n / 4}") for n in range(20))]
    records, until = lines_of(history), T0 + 2 * DAY
    lines = run_through(records, RULES, ENCODING, until=until).examples

    assert until_hint(audited(lines, records)) == {3, 4}
    assert verdicts(audited(lines, records, until=until)) == ["kept"] * 5


def test_a_run_that_was_stopped_before_the_topic_ends_looks_like_one_with_an_earlier_end():
    """The topic went on after the run: no law is called broken for it."""
    beaten = list[Record]()
    for each in talk():
        assert each.t is not None
        beaten += [heartbeat(each.t), each]
    records = lines_of([*beaten, heartbeat(T0 + 3 * DAY)])
    made = stopped(records[:500])
    assert made.examples

    audit = audited(made.examples, records, retractions=made.retractions)

    assert broken(audit) == {}
    assert until_hint(audit) == {4}
