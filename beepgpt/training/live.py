"""A model and its threshold are one thing: what stands in a model's folder, and which pair in it is live.

A folder that `beepgpt score` and `beepgpt alert` follow is a model's own folder, with its figures and its threshold beside it; or it has
such folders as `versions/NAME`, and `live.json` names one of them. A version is whole before it is named, and never changes afterwards:
so one rename swaps model and threshold.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from beepgpt.training.folder import ALERTS, CARD, LIVE, METRICS, VERSIONS

THRESHOLD = 0.5
"""Where a model's validation found none."""
KEPT = 3
"""Versions that stay, the live one among them."""
LOOK_AGAIN = 5.0
"""Seconds after which a model that no pair has is looked for again."""

log = logging.getLogger("beepgpt")


def name_of(folder: Path) -> str:
    """The name of the model in a folder: the `model` of its predictions."""
    return sha256((folder / CARD).read_bytes()).hexdigest()[:12]


def figures_in(folder: Path) -> dict[str, Any]:
    """The metrics that `beepgpt validate` wrote into a model's folder; empty if it did not."""
    return _json_in(folder / METRICS)


def card_in(folder: Path) -> dict[str, Any]:
    """A model's card, whose files are not checked; empty if there is none."""
    return _json_in(folder / CARD)


def _json_in(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = orjson.loads(path.read_bytes())
        if isinstance(found, dict):
            return found
    return {}


def is_of_card(figures: Mapping[str, Any], card: Mapping[str, Any]) -> bool:
    """Whether metrics are of the model with this card."""
    return figures.get("model") == {name: value for name, value in card.items() if name not in ("files", "labels")}


def hits_in(figures: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """`hit@1` and `hit@5` of the answered points, with their intervals."""
    with suppress(KeyError, IndexError, TypeError):
        row = figures["rows"]["answered"][0]["figures"]
        return {name: row[name] for name in ("hit@1", "hit@5") if row[name]["low"] is not None}
    return {}


def recommended_in(folder: Path) -> float | None:
    """The threshold that `beepgpt rehearse` recommended for the very model in a folder; None if there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        found = orjson.loads((folder / ALERTS).read_bytes())
        if found["model"] == name_of(folder):
            return float(found["threshold"])
    return None


def threshold_of(given: float | None, folder: Path | None) -> float:
    """The probability from which on a person is alerted: as given, as a rehearsal recommended, or as the model's validation found."""
    if given is not None:
        return given
    folder = folder and live_in(folder)
    if folder is not None and (recommended := recommended_in(folder)) is not None:
        return recommended
    with suppress(KeyError, TypeError):
        return float(figures_in(folder)["threshold"]["threshold"]) if folder is not None else THRESHOLD
    return THRESHOLD


# Pairs


def live_in(folder: Path) -> Path:
    """The folder of the model that is live: a version, or the folder itself."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        version = folder / VERSIONS / str(orjson.loads((folder / LIVE).read_bytes())["version"])
        if (version / CARD).is_file():
            return version
    return folder


def threshold_in(folder: Path) -> float | None:
    """The threshold of the very model in a folder, as rehearsed or as validated; None: it has none."""
    if (recommended := recommended_in(folder)) is not None:
        return recommended
    figures = figures_in(folder)
    with suppress(KeyError, TypeError, ValueError):
        return float(figures["threshold"]["threshold"]) if is_of_card(figures, card_in(folder)) else None
    return None


def newer_beside(folder: Path) -> str | None:
    """The name of a model that stands in a folder beside the live version, and has no threshold yet; None: there is none."""
    with suppress(OSError):
        card, live = folder / CARD, folder / LIVE
        if live_in(folder) != folder and card.stat().st_mtime_ns > live.stat().st_mtime_ns and threshold_in(folder) is None:
            return name_of(folder)
    return None


def put_live(folder: Path, write: Callable[[Path], None]) -> Path:
    """Make a version and let it be the live one, by one rename; `write` fills its folder. A kill leaves the pair before, whole."""
    making = folder / VERSIONS / ".making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    write(making)
    version = making.with_name(name_of(making))
    if version.exists():  # the same model, fitted again
        shutil.rmtree(making)
    else:
        making.rename(version)
    new = folder / f"{LIVE}.new"
    with new.open("wb") as file:
        file.write(orjson.dumps({"version": version.name}, option=orjson.OPT_APPEND_NEWLINE))
        file.flush()
        os.fsync(file.fileno())
    new.rename(folder / LIVE)
    others = [each for each in version.parent.iterdir() if each not in (version, making)]
    for each in sorted(others, key=lambda other: other.stat().st_mtime_ns)[: -(KEPT - 1)]:
        shutil.rmtree(each, ignore_errors=True)
    return version


def keep_validated(folder: Path) -> None:
    """Keep the validated model of a folder as its live version, before another one is written over it."""
    if (folder / CARD).is_file() and not (folder / LIVE).exists() and threshold_in(folder) is not None:
        put_live(folder, partial(_copy_files, folder))


def _copy_files(folder: Path, to: Path) -> None:
    for each in folder.iterdir():
        if each.is_file():
            shutil.copy2(each, to)


def let_own_be_live(folder: Path) -> bool:
    """Let the model in the folder itself be the live one, if it is newer than the live version and has a threshold by now.

    Returns whether it takes that one's place. Figures of an older model change nothing.
    """
    with suppress(OSError):
        card, live = folder / CARD, folder / LIVE
        if card.stat().st_mtime_ns > live.stat().st_mtime_ns and threshold_in(folder) is not None:
            live.unlink()
            return True
    return False


class LiveThresholds:
    """The threshold of each model by its name, found in a folder once the first of its predictions comes."""

    def __init__(self, folder: Path | None, first: float, *, is_given: bool) -> None:
        """`first`: the threshold at the start; `is_given`: it was set, and holds for all models."""
        self.current = first
        self._folder = None if is_given else folder
        self._known: dict[str, float] = {}
        self._looked: dict[str, float] = {}
        if self._folder is not None:
            with suppress(OSError):
                self._known[name_of(live_in(self._folder))] = first

    def __call__(self, model: str) -> float:
        """The threshold of a model's predictions; where none is known, that of the live pair."""
        if self._folder is not None and model and model not in self._known:
            self._look(self._folder, model)
        return self._known.get(model, self.current)

    def _look(self, folder: Path, model: str) -> None:
        now = time.monotonic()
        is_first = model not in self._looked
        if not is_first and now - self._looked[model] < LOOK_AGAIN:
            return
        self._looked[model] = now
        for each in (live_in(folder), folder, folder / VERSIONS / model):
            with suppress(OSError):
                if name_of(each) == model and (found := threshold_in(each)) is not None:
                    self._known[model] = found
                    if each == live_in(folder):
                        self.current = self._known[model]
                    log.info("another threshold", extra={"model": model, "threshold": self._known[model]})
                    return
        if is_first:
            log.warning(
                "%s: has no validated model %s, whose predictions come now: the threshold of the live one is taken",
                folder, model, extra={"model": model, "threshold": self.current},
            )  # fmt: skip
