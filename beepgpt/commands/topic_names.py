"""Which topics are this program's, by their names: those of the settings, and others with their prefixes."""

from __future__ import annotations

from beepgpt.commands.topics import BESIDE, KINDS, PREFIX, beside_in, kind_of
from beepgpt.config.settings import Settings
from beepgpt.connectors.log import parse_address
from beepgpt.runtime.places import is_topic


def topic_names(settings: Settings) -> dict[str, str]:
    """The topics' names by their kinds: as the settings have them; others have the prefix of the topic of events.

    >>> from beepgpt.config.settings import read_settings
    >>> names = topic_names(read_settings(environ={"BEEPGPT_CLUSTER__SOURCE": "kafka://a:9092/acme.events?follow=true"}))
    >>> names["events"], names["alerts"], names["interactions"], names["late"]
    ('acme.events', 'acme.alerts', 'slack.interactions', 'slack.late')
    """
    ours = settings.cluster
    given = [parse_address(each).topic for each in (ours.to, ours.source, ours.outcomes) if is_topic(each)]
    named = {kind_of(each): each for each in given}
    begins, _, kind = named.get("events", "").rpartition(".")
    prefix = begins if begins and kind == "events" else PREFIX
    kinds = {each: f"{prefix}.{each}" for each in KINDS} | named
    return kinds | {"interactions": settings.slack.interactions_topic} | beside_in(settings)


def is_ours(name: str, settings: Settings) -> bool:
    """Whether a topic is one of this program's: its name is in the settings, or is a prefix of theirs, a kind, and whatever comes then.

    >>> from beepgpt.config.settings import read_settings
    >>> ours = read_settings(environ={})
    >>> [is_ours(each, ours) for each in ("slack.events", "slack.events.2", "slack.orders", "acme.events")]
    [True, True, False, False]
    """
    names = topic_names(settings)
    prefixes = {PREFIX} | {each.removesuffix(f".{kind}") for kind, each in names.items() if each.endswith(f".{kind}")}
    after = (name.removeprefix(f"{each}.") for each in prefixes if name.startswith(f"{each}."))
    return name in names.values() or any(each.split(".")[0] in (*KINDS, *BESIDE) for each in after)
