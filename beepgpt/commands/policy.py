"""The policy of alerts: from the settings, and from the validation of a model."""

from __future__ import annotations

from pathlib import Path

import orjson

from beepgpt.alerts.decisions import Policy
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.errors import BadCommand


def threshold_of(settings: Settings, model: Path | None) -> float:
    """The least probability for a direct message: as it was set, or as validation found for the model. Raises BadCommand."""
    if settings.alerts.threshold is not None:
        return settings.alerts.threshold
    if model is None:
        raise BadCommand("how likely must an answer be? Give --model DIR, whose validated threshold is taken, or --threshold 0.5")
    path = model / "metrics.json"
    if not path.exists():
        validate = "was not validated: beepgpt validate SET --model"
        what = validate if (model / "model.json").is_file() else "is no trained model: beepgpt train SET --to"
        raise BadCommand(f"--model {model}: {what} {model}, or give --threshold 0.5 in its place")
    jsonl.check_readable(path)
    from beepgpt.training.reloading import CARD, is_of_card

    try:
        figures = orjson.loads(path.read_bytes())
        chosen = figures["threshold"]
        if (card := model / CARD).exists() and not is_of_card(figures, orjson.loads(card.read_bytes())):
            raise BadCommand(f"{path}: is of another model than the one that stands there now: validate that one, or give --threshold")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCommand(f"{path}: is nothing that `beepgpt validate` wrote: validate the model, or give --threshold") from error
    if chosen is None:
        raise BadCommand(
            f"{path}: no threshold reached the precision that was asked for: give --threshold, or validate with a lower --precision"
        )
    return float(chosen["threshold"])


def policy_of(settings: Settings, threshold: float) -> Policy:
    """The policy that the settings describe."""
    ours = settings.alerts
    return Policy(
        threshold=threshold,
        list_from=ours.list_from,
        per_hour=ours.per_hour,
        quiet=ours.quiet,
        zone=ours.zone,
        max_age=ours.max_alert_age,
        opted_in=ours.opted_in,
        topic_from=ours.topic_from,
    )
