"""Conversations, points and answers, by histories of a few minutes. Minute 0 is a Monday at ten, UTC."""

from __future__ import annotations

import json
import pickle
from collections import deque
from typing import Any

import pytest

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.channel import FOREVER, SWEEP_EVERY
from beepgpt.conversations.events import parse
from beepgpt.conversations.rules import DAY, HOUR, MINUTE, SECOND, Rules
from beepgpt.conversations.shard import Shard
from beepgpt.simulation.workspace import Plan, live_records
from tests.support import answers_in, at, delete, edit, heartbeat, made_from, post, react, read_into, run_of
from tests.support.histories import lines_of

MOMENT = 1 / MINUTE
"""A microsecond, in minutes."""
TOMORROW = 24 * 60.0
"""Minutes after which a horizon ends."""
ENCODING = load_encoding("o200k_base")


def rules(**more: Any) -> Rules:
    """The default settings without candidates, but for these."""
    return Rules(**({"candidates": False} | more))


class TestSessions:
    """Root messages of a channel with no silence over ten minutes between neighbors."""

    def test_the_next_person_answers(self):
        """Bo posts after Ana: he answers her session, and her root's own thread stays open."""
        made = made_from(post("ana", "anybody?", minute=0), post("bo", "me", minute=5))

        assert answers_in(made) == ["session: anybody? -> bo"]
        assert made.points == {"made": 4, "answered": 1, "censored": 3}

    def test_a_session_ends_after_ten_silent_minutes(self):
        """Exactly ten minutes is no silence; a microsecond more is, and Bo has answered nobody."""
        assert answers_in(made_from(post("ana", minute=0), post("bo", minute=10))) == ["session: hello -> bo"]
        assert answers_in(made_from(post("ana", minute=0), post("bo", minute=10 + MOMENT))) == []

    def test_the_gap_is_between_neighbours(self):
        """A session of messages nine minutes apart goes on for as long as they come."""
        made = made_from(*(post(user, minute=9 * number) for number, user in enumerate(["ana", "bo", "ana", "bo"])))

        assert [len(each["window"]) for each in made.examples] == [1, 2, 3]
        assert len({each["conversation"] for each in made.examples}) == 1

    def test_replies_do_not_keep_a_session_alive(self):
        """Only roots count: a reply in the meantime is of its thread alone, a broadcast too."""
        made = made_from(post("ana", minute=0), post("bo", "in between", minute=6, to=0, subtype="thread_broadcast"), post("cy", minute=11))

        assert answers_in(made) == ["thread: hello -> bo"]

    def test_ones_own_post_is_no_answer(self):
        """Ana goes on herself: her first point is superseded, and Bo answers both messages."""
        made = made_from(post("ana", "one", minute=0), post("ana", "two", minute=1), post("bo", minute=2))

        assert answers_in(made) == ["session: one / two -> bo"]
        assert made.points["superseded"] == 1

    def test_the_answerers_own_messages_stay_in_the_window(self):
        """Bo spoke before he answers: what he said is in the prompt, for nobody knows yet that it will be he."""
        made = made_from(post("bo", "I have a question", minute=0), post("ana", "which?", minute=1), post("bo", "this", minute=2))

        assert answers_in(made)[-1] == "session: I have a question / which? -> bo"

    def test_a_window_holds_the_last_five(self):
        """Of seven messages, the five newest."""
        made = made_from(*(post("ana", f"m{number}", minute=number) for number in range(7)), post("bo", minute=7))

        assert answers_in(made) == ["session: m2 / m3 / m4 / m5 / m6 -> bo"]

    def test_speakers_are_counted_since_the_beginning(self):
        """One has spoken, then two, then two again; a deletion does not undo it."""
        made = made_from(post("ana", minute=0), post("bo", minute=1), post("ana", minute=2), delete(of=1, minute=3), post("bo", minute=4))

        assert [each["speakers"] for each in made.examples] == [1, 2, 2]

    def test_channels_do_not_know_each_other(self):
        """The same minutes in two channels: two sessions, and nobody answers across."""
        made = made_from(post("ana", minute=0), post("bo", minute=1, channel="C2"), post("cy", minute=2))

        assert [(each["channel"], each["answer"]) for each in made.examples] == [("C1", ["cy"])]


class TestThreads:
    """A root message and its replies."""

    def test_a_reply_answers_the_thread_and_not_the_session(self):
        """Bo replies in Ana's thread, Cy posts in the channel: each answers his own conversation."""
        made = made_from(post("ana", "help", minute=0), post("bo", minute=1, to=0), post("cy", minute=2))

        assert sorted(answers_in(made)) == ["session: help -> cy", "thread: help -> bo"]

    def test_a_root_is_a_root_with_or_without_its_own_thread_ts(self):
        """Slack adds `thread_ts` once somebody has replied: the same examples without it."""
        reply = post("bo", minute=1, to=0)

        marked = made_from(post("ana", minute=0, thread_ts=f"{at(0) // SECOND}.000000"), reply)

        assert answers_in(marked) == ["thread: hello -> bo"]
        assert marked.run.examples == made_from(post("ana", minute=0), reply).run.examples

    def test_a_broadcast_belongs_to_its_thread_only(self):
        """It is shown in the channel, too, but answers the thread alone."""
        made = made_from(post("ana", minute=0), post("bo", minute=1, to=0, subtype="thread_broadcast"))

        assert answers_in(made) == ["thread: hello -> bo"]

    def test_a_thread_can_lack_its_root(self):
        """Replies to a root that was never seen: the thread has no root, and says so."""
        made = made_from(post("ana", "re", minute=0, to=-60), post("bo", minute=1, to=-60))

        assert answers_in(made) == ["thread: re -> bo"]
        assert made.examples[0]["root_missing"]

    def test_nobody_is_an_answer_too(self):
        """Nobody posts for a day: one silence, the session's, at the horizon's end; the thread's point is merged into it."""
        made = made_from(post("ana", "hm", minute=0), until=TOMORROW)

        assert answers_in(made) == ["session: hm -> nobody"]
        assert made.examples[0]["answer_ts"] is None
        assert made.examples[0]["settled_ts"] == f"{(at(0) + DAY) // SECOND}.000000"
        assert made.points == {"made": 2, "silent": 1, "merged": 1}

    def test_an_answer_in_the_thread_alone_is_elsewhere(self):
        """Bo replied in her thread, so Ana was not met with silence: her session's point makes no example."""
        made = made_from(post("ana", minute=0), post("bo", minute=1, to=0), until=TOMORROW)

        assert answers_in(made) == ["thread: hello -> bo"]
        assert made.points == {"made": 3, "answered": 1, "elsewhere": 1, "censored": 1}

    def test_thanks_in_the_thread_take_no_answer_back(self):
        """Ana replies last, and still was answered: her session's point is no silence."""
        replies = (post("bo", "so", minute=1, to=0), post("ana", "thanks", minute=2, to=0))
        made = made_from(post("ana", "why?", minute=0), *replies, until=TOMORROW)

        assert answers_in(made) == ["thread: why? -> bo", "thread: why? / so -> ana"]
        assert made.points == {"made": 4, "answered": 2, "elsewhere": 1, "censored": 1}

    def test_ones_own_reply_is_not_elsewhere(self):
        """Ana replies to herself: nobody answered her session."""
        made = made_from(post("ana", "one", minute=0), post("ana", "two", minute=1, to=0), until=2 * TOMORROW)

        assert answers_in(made) == ["session: one -> nobody", "thread: one / two -> nobody"]


class TestHorizons:
    """Nobody answered once the horizon has passed, and not before."""

    def test_an_answer_at_the_very_end_counts(self):
        """Bo replies exactly a day later: an answer. A microsecond later: none."""
        late = TOMORROW + MOMENT

        assert answers_in(made_from(post("ana", minute=0), post("bo", minute=TOMORROW, to=0))) == ["thread: hello -> bo"]
        assert answers_in(made_from(post("ana", minute=0), post("bo", minute=late, to=0))) == ["session: hello -> nobody"]

    def test_what_is_open_at_the_end_is_censored(self):
        """The input ends a microsecond before the horizon does: nobody knows, so it is no silence."""
        made = made_from(post("ana", minute=0), until=TOMORROW - MOMENT)

        assert made.examples == []
        assert made.points == {"made": 2, "censored": 2}

    def test_a_horizon_runs_from_the_point_that_is_open(self):
        """Ana's second message at minute 8 replaces her first: silence comes a day after the second."""
        made = made_from(post("ana", minute=0), post("ana", minute=8), until=TOMORROW + 7)

        assert answers_in(made) == []
        assert answers_in(made_from(post("ana", "a", minute=0), post("ana", "b", minute=8), until=TOMORROW + 8)) == [
            "session: a / b -> nobody"
        ]

    def test_a_silence_is_written_once_the_clock_is_surely_past_it(self):
        """Followed live: not while something within lateness could still answer, and then at once."""
        shard = Shard(rules(), ENCODING)
        end = TOMORROW + 5 / 60
        read_into(shard, lines_of([post("ana", minute=0), heartbeat(minute=end)]))
        assert shard.drain().examples == []

        read_into(shard, lines_of([heartbeat(minute=end + 1 / 60)]))

        assert [json.loads(line)["answer"] for line in shard.drain().examples] == [[]]

    def test_quiet_channels_settle_by_the_heartbeats_of_their_partition(self):
        """A channel that hears nothing more closes by its own partition's heartbeat, and not by another's."""
        shard = Shard(rules(), ENCODING)
        read_into(shard, lines_of([post("ana", minute=0)]), "zero")
        read_into(shard, lines_of([heartbeat(minute=2 * TOMORROW)]), "one")
        assert shard.drain().examples == []

        read_into(shard, lines_of([heartbeat(minute=2 * TOMORROW)]), "zero")

        assert len(shard.drain().examples) == 1

    def test_a_heartbeat_after_until_is_read(self):
        """A run with `--until` minute 60 reads on past it and comes to its end."""
        made = made_from(post("ana", minute=0), heartbeat(minute=2 * TOMORROW), until=60)

        assert made.points == {"made": 2, "censored": 2}


class TestTime:
    """Events are applied in the order of their times, whatever the order they come in."""

    def test_lateness_is_forgiven(self):
        """Bo's post arrives after Cy's though it was first: within five seconds he has answered."""
        made = made_from(post("ana", minute=0), post("cy", minute=2 + 5 / 60), post("bo", minute=2))

        assert [each["answer"] for each in made.examples] == [["bo"], ["cy"]]

    def test_what_is_later_is_late_and_counted(self):
        """A microsecond more than five seconds behind: late, counted, handed out, and never applied."""
        made = made_from(post("ana", minute=0), post("cy", minute=2 + 5 / 60 + MOMENT), post("bo", minute=2))

        assert [each["answer"] for each in made.examples] == [["cy"]]
        assert made.run.account["late"] == len(made.run.late) == 1

    def test_times_keep_their_microseconds(self):
        """Two messages a microsecond apart, where a double has room for neither: each has its own time."""
        made = made_from(post("ana", minute=0.041239 / 60), post("bo", minute=0.041240 / 60), post("ana", minute=1))

        assert [each["prompt_ts"][-6:] for each in made.examples] == ["041239", "041240"]

    def test_a_copy_is_a_duplicate(self):
        """The same post twice, and one with the same ts by somebody else: one counts, the one that sorts first."""
        made = made_from(post("ana", minute=0), post("bo", minute=1), post("bo", minute=1), post("al", minute=1))

        assert [each["answer"] for each in made.examples] == [["al"]]
        assert made.run.account["duplicate"] == 2

    def test_of_two_copies_the_smaller_bytes_count(self):
        """Whichever came first."""
        one, other = post("ana", "a", minute=0), post("ana", "b", minute=0)

        for duplicates in ([one, other], [other, one]):
            assert answers_in(made_from(*duplicates, post("bo", minute=1))) == ["session: a -> bo"]

    @pytest.mark.parametrize(("minute", "duplicates"), [(65, 1), (71, 0)])
    def test_a_copy_by_its_event_id_is_found_within_ten_minutes_and_the_lateness(self, minute: int, duplicates: int):
        """However much was posted between the two; the second one has another time, as a later event has."""
        among = [post("bo", minute=number / 2) for number in range(1, 129)]
        one, other = (
            json.dumps({"type": "event_callback", "event_id": "Ev1", "event": post("ana", minute=each).data}) for each in (0, minute)
        )
        made = run_of([one.encode(), *among, other.encode()], rules(lateness=HOUR))

        assert (made.account["duplicate"], made.account["applied"]) == (duplicates, 130 - duplicates)


class TestEditsAndDeletions:
    """What is known at a time, and what is not known any more."""

    def test_an_edit_counts_from_its_own_time(self):
        """Bo answered what he saw; Cy answers what it had become."""
        made = made_from(
            post("ana", "teh", minute=0), post("bo", "what?", minute=1), edit("the", of=0, minute=2), post("cy", "ah", minute=3)
        )

        assert answers_in(made) == ["session: teh -> bo", "session: the / what? -> cy"]

    def test_an_edit_opens_a_new_point(self):
        """It supersedes the open point, and the horizon runs from the edit."""
        made = made_from(post("ana", "teh", minute=0), edit("the", of=0, minute=5), until=TOMORROW + 60)

        assert answers_in(made) == ["session: the -> nobody"]
        assert made.points == {"made": 4, "superseded": 2, "silent": 1, "merged": 1}

    def test_an_edit_that_changes_nothing_is_no_point(self):
        """The same text again."""
        made = made_from(post("ana", "the", minute=0), edit("the", of=0, minute=1))

        assert made.points == {"made": 2, "censored": 2}
        assert made.run.account["applied"] == 2

    def test_unknown_text_is_withheld(self):
        """An export's edited post: no example before its text is known, and one after."""
        unknown = post("ana", None, minute=0)

        assert made_from(unknown, post("bo", minute=1)).points == {"made": 4, "withheld": 3, "censored": 1}
        assert answers_in(made_from(unknown, edit("known", of=0, minute=1), post("bo", minute=2))) == ["session: known -> bo"]

    def test_a_window_with_nothing_to_show_is_empty(self):
        """Only an emoji: nothing to ask a model."""
        made = made_from(post("ana", ":wave:", minute=0), post("bo", "hi", minute=1), post("ana", "hey", minute=2))

        assert answers_in(made) == ["session: hi -> ana"]
        assert made.points["empty"] == 2
        assert len(made.examples[0]["window"]) == 2

    def test_a_deleted_message_leaves_the_window_and_is_not_replaced(self):
        """Of six messages five stood in the window; one is deleted, and the first does not come back."""
        made = made_from(*(post("ana", f"m{number}", minute=number) for number in range(6)), delete(of=3, minute=6), post("bo", minute=7))

        assert answers_in(made) == ["session: m1 / m2 / m4 / m5 -> bo"]

    def test_an_emptied_window_closes_its_point(self):
        """All is deleted: nobody was silent."""
        made = made_from(post("ana", minute=0), delete(of=0, minute=1), until=2 * TOMORROW)

        assert made.examples == []
        assert made.points == {"made": 2, "superseded": 2}

    def test_a_deletion_does_not_move_the_session(self):
        """The session keeps the name of its first root, and its clock the time of its last."""
        made = made_from(post("ana", minute=0), post("bo", "b", minute=8), delete(of=0, minute=9), post("cy", minute=15))

        assert answers_in(made)[-1] == "session: b -> cy"
        assert made.examples[-1]["conversation"] == f"C1:{at(0) // SECOND}.000000:session"

    def test_a_deleted_message_takes_its_examples_with_it(self):
        """Two examples were written with it: two retractions, with the deletion's time, and none for the third."""
        made = made_from(
            post("ana", "a", minute=0), post("bo", "b", minute=1), post("ana", "c", minute=2), delete(of=0, minute=3), post("bo", minute=4)
        )

        assert answers_in(made) == ["session: a -> bo", "session: a / b -> ana", "session: b / c -> bo"]
        assert made.retractions == [{"id": each["id"], "retracted_ts": f"{at(3) // SECOND}.000000"} for each in made.examples[:2]]

    def test_a_retraction_comes_once(self):
        """A second message of the same example is deleted: it has been retracted already."""
        made = made_from(post("ana", minute=0), post("bo", minute=1), post("ana", minute=2), delete(of=0, minute=3), delete(of=1, minute=4))

        assert len(made.retractions) == len({each["id"] for each in made.retractions}) == 2

    def test_an_example_that_is_remembered_costs_sixty_four_bytes(self):
        """In a snapshot, for a window of five messages: for 400 days, a thousand examples a day are 26 MB."""
        shard = Shard(Rules(), load_encoding("o200k_base"))
        read_into(shard, lines_of([post(("ana", "bo")[minute % 2], minute=minute) for minute in range(101)]))
        written = shard.followed["C1"].channel.written
        assert len(written) == shard.account["examples"] == 99, "the last post is buffered"
        size = len(pickle.dumps(written, protocol=5))
        written.forget_before(FOREVER)

        assert len(written) == 0
        assert abs(size - len(pickle.dumps(written, protocol=5)) - 64 * 99) < 16

    def test_the_deletion_of_an_answer_changes_nothing(self):
        """Bo's answer is gone, and yet he answered."""
        answered = made_from(post("ana", minute=0), post("bo", minute=1))
        made = made_from(post("ana", minute=0), post("bo", minute=1), delete(of=1, minute=2))

        assert made.run.examples == answered.run.examples
        assert made.retractions == []

    def test_examples_are_remembered_for_four_hundred_days(self):
        """A deletion 400 days after an example settled still retracts it; a microsecond later, it is of an unknown message."""
        gone = 1 + 400 * TOMORROW
        history = [post("ana", "a", minute=0), post("bo", "b", minute=1)]

        in_time = made_from(*history, delete(of=0, minute=gone))
        too_late = made_from(*history, delete(of=0, minute=gone + MOMENT))

        assert answers_in(in_time) == answers_in(too_late) == ["session: a -> bo", "session: a / b -> nobody"]
        answered, silent = (each["id"] for each in in_time.examples)
        assert [each["id"] for each in in_time.retractions] == [answered, silent]
        assert [each["id"] for each in too_late.retractions] == [silent]

    def test_what_nobody_knows_cannot_change(self):
        """Edits, deletions and reactions of a message that was never seen are ignored, with the reason."""
        made = made_from(edit("x", of=0, minute=1), delete(of=0, minute=2), react("bo", to=0, minute=3))

        assert made.ignored == {"unknown_message": 3}


class TestForgetting:
    """State is bounded, and what is forgotten depends on events alone."""

    def test_an_idle_thread_is_forgotten(self):
        """A reply after exactly `thread_ttl` goes on with the thread; a microsecond later it opens it without its root."""
        ttl = rules(thread_ttl=DAY)
        history = [post("ana", "old", minute=0), post("bo", "re", minute=1, to=0)]
        end = 1 + TOMORROW

        kept = made_from(*history, post("cy", "more", minute=end, to=0), post("di", minute=end + 1, to=0), rules=ttl)
        gone_at = end + MOMENT
        gone = made_from(*history, post("cy", "more", minute=gone_at, to=0), post("di", minute=end + 1, to=0), rules=ttl)

        assert answers_in(kept)[-1] == "thread: old / re / more -> di"
        assert answers_in(gone)[-1] == "thread: more -> di"
        assert [kept.examples[-1]["root_missing"], gone.examples[-1]["root_missing"]] == [False, True]

    def test_a_thread_is_forgotten_behind_so_many_newer_roots(self):
        """Two newer roots are one too many here, once the thread has nothing open."""
        few = rules(kept_roots=2, horizon=MINUTE)
        history = [post("ana", "old", minute=0), *(post("ana", minute=20 * number) for number in (1, 2))]

        made = made_from(*history, post("bo", "re", minute=50, to=0), post("cy", minute=50.5, to=0), rules=few)

        assert answers_in(made)[-1] == "thread: re -> cy"
        assert made.examples[-1]["root_missing"]

    def test_an_open_point_keeps_its_thread(self):
        """The same, while the horizon has not passed: the thread is still there, and is answered."""
        few = rules(kept_roots=2)
        history = [post("ana", "old", minute=0), *(post("ana", minute=20 * number) for number in (1, 2))]

        made = made_from(*history, post("bo", "re", minute=50, to=0), rules=few)

        assert answers_in(made) == ["thread: old -> bo"]

    def test_what_is_over_does_not_wait_behind_what_is_open(self):
        """A question that nobody answers stays open for a day; the thousands that are answered after it leave long before."""
        shard = Shard(rules(), ENCODING)
        replies = [post("bo" if number % 2 else "ana", minute=2 + number / 60, to=1) for number in range(3_000)]
        read_into(shard, lines_of([post("cy", "anybody?", minute=0), post("ana", minute=1), *replies]))
        opens = shard.followed["C1"].channel.open_points

        assert (shard.account["points"] > 2_900, opens[0].t, opens[0].is_open) == (True, at(0), True)
        assert len(opens) < SWEEP_EVERY + 5

    def test_what_is_remembered_for_duplicates_is_bounded(self):
        """Of a channel that is never quiet: ten minutes of it and the lateness, and a quarter more until it is looked through."""
        shard = Shard(rules(), ENCODING)
        read_into(shard, lines_of(post("ana", minute=number / 60) for number in range(4_000)))

        assert 605 <= len(shard.followed["C1"].buffer.applied) <= 605 * 1.25 + 1


class TestWholeChannels:
    """`scope = "channel"` makes one conversation of all messages."""

    def test_roots_and_replies_are_one_conversation(self):
        """Hours apart, in threads or not: one window."""
        made = made_from(
            post("ana", "a", minute=0), post("bo", "b", minute=1, to=0), post("cy", "c", minute=300), rules=rules(scope="channel")
        )

        assert answers_in(made) == ["channel: a -> bo", "channel: a / b -> cy"]
        assert {each["conversation"] for each in made.examples} == {"C1:channel"}


class TestSets:
    """`interacting_users` and `reactors`: each post is a point, and settles at its horizon's end."""

    def test_everybody_who_takes_part(self):
        """A root collects who posts in its session, replies in its thread, or reacts to either; not Ana herself."""
        made = made_from(
            post("ana", "a", minute=0), post("bo", "b", minute=1), post("cy", "c", minute=2, to=0), react("di", to=0, minute=3),
            react("ana", to=1, minute=4), react("ed", to=0, minute=TOMORROW + 1),
            rules=rules(target="interacting_users"), until=TOMORROW,
        )  # fmt: skip

        assert answers_in(made) == ["session: a -> bo, cy, di"]
        assert made.examples[0]["answer_ts"] == f"{at(1) // SECOND}.000000"
        assert made.examples[0]["settled_ts"] == f"{(at(0) + DAY) // SECOND}.000000"

    def test_everybody_who_reacts_to_the_newest(self):
        """Only to the posted message, after it, within the horizon, its end included; taking it back does not undo it."""
        made = made_from(
            post("ana", "a", minute=0), react("fi", to=0, minute=0), post("bo", "b", minute=1), react("cy", to=0, minute=2),
            react("cy", to=0, minute=3, kind="reaction_removed"), react("ana", to=0, minute=4),
            react("di", to=0, minute=TOMORROW), react("ed", to=0, minute=TOMORROW + MOMENT),
            rules=rules(target="reactors"), until=TOMORROW + 1,
        )  # fmt: skip

        assert answers_in(made) == ["session: a -> cy, di", "session: a / b -> nobody"]

    def test_an_empty_set_is_a_silence_only_for_the_newest(self):
        """Nobody reacts: Ana's first post was followed by another, so only the second was met with silence."""
        made = made_from(post("ana", "a", minute=0), post("ana", "b", minute=1), rules=rules(target="reactors"), until=TOMORROW + 1)

        assert answers_in(made) == ["session: a / b -> nobody"]
        assert made.points == {"made": 2, "superseded": 1, "silent": 1}

    def test_a_message_that_is_deleted_before_it_settles_is_retracted_directly(self):
        """The example is written when it settles, and taken back with the deletion's time."""
        made = made_from(post("ana", minute=0), delete(of=0, minute=5), rules=rules(target="reactors"), until=TOMORROW)

        assert made.retractions == [{"id": made.examples[0]["id"], "retracted_ts": f"{at(5) // SECOND}.000000"}]

    def test_what_is_retracted_when_it_is_written_is_not_retracted_again(self):
        """Another message of its window is deleted once it has settled."""
        made = made_from(
            *(post("ana", minute=0), post("bo", minute=1), delete(of=0, minute=5), delete(of=1, minute=TOMORROW + 5)),
            rules=rules(target="interacting_users"),
            until=TOMORROW + 6,
        )

        assert [len(each["window"]) for each in made.examples] == [1, 2]
        assert sorted(each["id"] for each in made.retractions) == sorted(each["id"] for each in made.examples)
        assert made.run.account["retractions"] == 2

    def test_untimed_reactions_count_only_without_a_horizon(self):
        """An export knows who reacted, not when: an answer where all settles at the end, else ignored."""
        history = [post("ana", "a", minute=0), react("bo", to=0, minute=None)]

        limited = made_from(*history, rules=rules(target="reactors"), until=TOMORROW)
        unlimited = made_from(*history, rules=rules(target="reactors", horizon=None), until=TOMORROW)

        assert (answers_in(limited), limited.ignored) == (["session: a -> nobody"], {"untimed": 1})
        assert answers_in(unlimited) == ["session: a -> bo"]
        assert unlimited.examples[0]["answer_ts"] == unlimited.examples[0]["settled_ts"]


class TestBots:
    """Ignored, or context: never an answer."""

    def test_a_bot_is_seen_only_as_context(self):
        """Its post stands in windows if it is asked for, and supersedes; it answers nobody."""
        history = [post("ana", "a", minute=0), post("robo", "beep", minute=1, bot_id="B1"), post("bo", "b", minute=2)]

        assert answers_in(made_from(*history)) == ["session: a -> bo"]
        context = made_from(*history, rules=rules(bots="context"))
        assert answers_in(context) == ["session: a / beep -> bo"]
        assert context.examples[0]["speakers"] == 1


def parts_of(value: Any, seen: dict[int, int]) -> Any:
    """All that a state is made of, as plain values; what stands in it once more, as the number of its first time."""
    if isinstance(value, dict):
        return [(parts_of(key, seen), parts_of(each, seen)) for key, each in value.items()]
    if isinstance(value, (list, tuple, deque)):
        return [parts_of(each, seen) for each in value]
    kind = type(value)
    names = getattr(kind, "__slots__", None) or getattr(kind, "__mypyc_attrs__", None)  # the latter where it is compiled
    if names is None or isinstance(value, Rules):
        return value
    if id(value) in seen:
        return seen[id(value)]
    seen[id(value)] = len(seen)
    kept = [name for name in sorted(names) if name != "encoding" and not name.startswith("__")]
    return kind.__name__, [(name, parts_of(getattr(value, name), seen)) for name in kept]


@pytest.mark.parametrize("target", ["next_user", "interacting_users", "reactors"])
def test_a_state_that_is_read_again_lacks_nothing(target: str):
    """Every field of every conversation, message, point and person is there; what stands in several places is still one."""
    plan = Plan(seed=8, messages=400, channels=1, people=9, days=9, edits=0.1, deletions=0.1, reactions=0.3)
    settings = rules(target=target, candidates=True)
    shard = Shard(settings, ENCODING, recoverable=True)
    for line in live_records(plan):
        shard.read(parse(line, FOREVER), "all")
    (followed,) = shard.followed.values()
    again = Shard(settings, ENCODING, recoverable=True)
    again.resume(pickle.loads(pickle.dumps(shard.snapshot())))
    kept, (read,) = followed.channel, again.followed.values()
    assert parts_of([read.channel, read.buffer], {}) == parts_of([kept, followed.buffer], {})
    assert kept.conversations and kept.kept and kept.open_points and kept.people.people
