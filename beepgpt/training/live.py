"""A model and its threshold are one thing: what stands in a model's folder, and which pair in it is live.

A folder that `beepgpt score` and `beepgpt alert` follow is a model's own folder, with its figures and its threshold beside it; or it has
such folders as `versions/NAME`, and `live.json` names one of them. A version is whole before it is named, and never changes afterwards:
so one rename swaps model and threshold.
"""

from __future__ import annotations

import glob
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from beepgpt import clock
from beepgpt.errors import BadCommand
from beepgpt.figures import threshold as in_percent
from beepgpt.training.folder import ALERTS, CARD, COMPARED, LIVE, METRICS, VERSIONS

THRESHOLD = 0.5
"""Where a model's validation found none."""
KEPT = 3
"""Versions that stay, the live one among them."""
LOOK_AGAIN = 1.0
"""Seconds after which the files of a threshold that is in use are looked at again."""

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


# Thresholds


class FoundThreshold(NamedTuple):
    """The probability from which on a person is alerted, and where a model has it from."""

    value: float
    found: Literal["set", "rehearsed", "validated", "kept"]
    """`set`: in the settings; `kept`: a retrained model has its candidate's, or as many alerts as the model before gave."""
    why: str
    """The same in words."""


def threshold_in(folder: Path) -> FoundThreshold | None:
    """The threshold of the very model in a folder: as `beepgpt rehearse` recommends it, else as validated; None: it has none."""
    rehearsed, figures = _rehearsed_in(folder), figures_in(folder)
    candidate = candidate_of(figures) if is_of_card(figures, card_in(folder)) else ""
    with suppress(KeyError, TypeError, ValueError):
        if rehearsed:
            why = str(rehearsed.get("why", ""))
            return FoundThreshold(float(rehearsed["threshold"]), "kept" if candidate else "rehearsed", why)
        if candidate:
            return FoundThreshold(float(figures["threshold"]["threshold"]), "kept", f"as {candidate}, was validated")
        if is_of_card(figures, card_in(folder)):
            return FoundThreshold(float(figures["threshold"]["threshold"]), "validated", "as it was validated")
    return None


def recommended_in(folder: Path) -> float | None:
    """The threshold for the very model in a folder that was rehearsed, or keeps the volume of a rehearsed one; None: it was neither."""
    return float(found["threshold"]) if (found := _rehearsed_in(folder)) else None


def _rehearsed_in(folder: Path) -> dict[str, Any]:
    found = _json_in(folder / ALERTS)
    with suppress(OSError):
        if isinstance(found.get("threshold"), int | float) and found.get("model") == name_of(folder):
            return found
    return {}


def candidate_of(figures: Mapping[str, Any]) -> str:
    """Whose figures these are, in words, where a retrained model has those of its candidate; empty: they are its own."""
    of = figures.get("figures_of")
    if not isinstance(of, Mapping):
        return ""
    words = f"its candidate {of.get('model')}"
    with suppress(KeyError, TypeError, ValueError):
        words += f", fitted until {datetime.fromtimestamp(float(of['fitted_until']), UTC):%Y-%m-%d %H:%M} UTC"
        compared = of["compared"]
        gain = compared["log_loss_gain"]["value"]
        than = f"{'lower' if gain >= 0 else 'higher'} than that of {compared['against']}"
        words += f", whose log loss was {abs(gain):.4f} {than} on {compared['points']:,} points"
    return words


# Pairs


def folders_of(folder: Path, model: str) -> list[Path]:
    """Where a model stands in a live folder, by its name: the live pair first, then other versions, the newest first."""
    found = []
    for each in (live_in(folder), *_versions_of(folder, model), folder):
        with suppress(OSError):
            if name_of(each) == model and each not in found:
                found.append(each)
    return found


class NoLiveVersion(BadCommand):
    """`live.json` names no version with a model; the message says what it has, and what it may have."""


_followed: dict[Path, Path] = {}
"""By live folder: what `live_in` gave last, in this process."""
_warned: dict[Path, str] = {}
"""By live folder: why its `live.json` can't be followed, as it was logged."""
_following = threading.Lock()


def live_in(folder: Path) -> Path:
    """The folder of the model that is live: the version that `live.json` names, or the folder itself where there is no such file.

    Where the file names no version, a process that has followed it goes on with the pair that it has, and it is logged once. Raises
    NoLiveVersion if nobody in this process has.
    """
    with _following:
        try:
            _followed[folder] = _named_live(folder)
            _warned.pop(folder, None)
        except NoLiveVersion as error:
            if folder not in _followed:
                raise
            if _warned.get(folder) != str(error):
                _warned[folder] = str(error)
                log.warning("%s: going on with %s", error, _followed[folder])
        return _followed[folder]


def _named_live(folder: Path) -> Path:
    """What `live.json` names. Raises NoLiveVersion."""
    path = folder / LIVE
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return folder
    except OSError as error:
        raise NoLiveVersion(f"{path}: can't be read ({error.strerror})") from error
    versions, found = folder / VERSIONS, "no version"
    there = sorted(each.parent.name for each in versions.glob(f"*/{CARD}") if not each.parent.name.startswith("."))
    with suppress(ValueError, KeyError, TypeError):
        name = orjson.loads(content)["version"]
        if name in there:
            return versions / str(name)
        found = f"the version {name!r}"
    raise NoLiveVersion(
        f'{path}: names {found}, and has to be {{"version": "NAME"}} with a name of {versions} ({", ".join(there) or "there is none"});'
        f" without the file the model in {folder} itself is the live one"
    )


def _versions_of(folder: Path, model: str) -> list[Path]:
    """The versions with a model, the newest first: each has a threshold of its own."""
    return [each for _, each in _numbered(folder, model)]


def _numbered(folder: Path, model: str) -> list[tuple[int, Path]]:
    """The versions with a model and their numbers, the newest first."""
    found = [(each.name.removeprefix(model).removeprefix("-") or "1", each) for each in (folder / VERSIONS).glob(f"{glob.escape(model)}*")]
    return sorted([(int(number), each) for number, each in found if number.isdecimal()], reverse=True)


def newer_beside(folder: Path) -> str | None:
    """The name of a model that stands in a folder beside the live version, and has no threshold yet; None: there is none."""
    with suppress(OSError):
        card, live = folder / CARD, folder / LIVE
        if live_in(folder) != folder and card.stat().st_mtime_ns > live.stat().st_mtime_ns and threshold_in(folder) is None:
            return name_of(folder)
    return None


def put_live(folder: Path, write: Callable[[Path], None]) -> Path:
    """Make a version and let it be the live one, by one rename; `write` fills its folder. A kill leaves the pair before, whole.

    The same model with another threshold is another version, beside the one before. What is live before stays as a version, also if it
    stands in the folder itself: its name in `live.json` is the way back.
    """
    before = _keep_own(folder) if live_in(folder) == folder else live_in(folder)
    version = _make_version(folder, write)
    _name_live(folder, version, before)
    return version


def _make_version(folder: Path, write: Callable[[Path], None]) -> Path:
    making = folder / VERSIONS / ".making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    write(making)
    name = name_of(making)
    newest = next((number for number, _ in _numbered(folder, name)), 0)
    version = making.with_name(f"{name}-{newest + 1}" if newest else name)
    making.rename(version)
    return version


def _name_live(folder: Path, version: Path, before: Path | None = None) -> None:
    """Let a version be the live one, and drop the oldest of the others, but not the one that was live before."""
    new = folder / f"{LIVE}.new"
    with new.open("wb") as file:
        file.write(orjson.dumps({"version": version.name}, option=orjson.OPT_APPEND_NEWLINE))
        file.flush()
        os.fsync(file.fileno())
    new.rename(folder / LIVE)
    stay = {version, before} - {None}
    others = [each for each in version.parent.iterdir() if each not in stay]
    for each in sorted(others, key=lambda other: other.stat().st_mtime_ns)[: len(stay) - KEPT]:
        shutil.rmtree(each, ignore_errors=True)


def keep_validated(folder: Path) -> None:
    """Keep the validated model of a folder as its live version, before another one is written over it."""
    if not (folder / LIVE).exists() and threshold_in(folder) is not None and (version := _keep_own(folder)) is not None:
        _name_live(folder, version)


def _keep_own(folder: Path) -> Path | None:
    """The version that has the model in a folder itself, with its threshold: made, unless there is one; None: no model stands there."""
    if not (folder / CARD).is_file():
        return None
    same = (each for each in _versions_of(folder, name_of(folder)) if threshold_in(each) == threshold_in(folder))
    return next(same, None) or _make_version(folder, partial(copy_pair, folder))


def copy_pair(folder: Path, to: Path) -> None:
    """Copy a model's files, without what makes its folder a live one; and the candidate beside it, whose figures it may have."""
    for each in folder.iterdir():
        if each.is_file() and each.suffix != ".lock" and not each.name.startswith(LIVE):
            shutil.copy2(each, to)
    if (folder / COMPARED).is_dir():
        shutil.copytree(folder / COMPARED, to / COMPARED)


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
    """From which probability on a person is alerted, for each model's predictions: what was set, else what its folder says by now.

    A pair that is swapped in is followed, and so is a threshold that a rehearsal or a validation writes for a model that is in use. May be
    asked by several threads.
    """

    def __init__(self, folder: Path | None, given: float | None = None, *, every: float = LOOK_AGAIN) -> None:
        """`folder`: of the live pair; `given`: was set, and holds for all; `every`: seconds after which files are looked at again."""
        self._given, self._every = given, every
        self._folder = folder if given is None else None
        self._known: dict[str, float] = {}
        self._looked: dict[str, float] = {}
        if self._folder is not None:
            with suppress(OSError):
                live = live_in(self._folder)
                name = name_of(live)
                self._looked[name] = -inf  # without a threshold it is asked all the same, and that needs no warning
                if (found := threshold_in(live)) is not None:
                    self._known = {LIVE_PAIR: found.value, name: found.value}

    def __call__(self, model: str) -> float:
        """The threshold of a model's predictions; where none is known, that of the live pair."""
        if self._folder is None or not model:
            return self.current
        self._look(self._folder, model)
        known = self._known.get(model)
        return self.current if known is None else known

    @property
    def current(self) -> float:
        """The threshold of the live pair."""
        if self._given is not None:
            return self._given
        if self._folder is not None:
            self._look(self._folder, LIVE_PAIR)
        return self._known.get(LIVE_PAIR, THRESHOLD)

    @property
    def model(self) -> str:
        """The name of the live pair's model; empty: its threshold isn't what counts."""
        with suppress(OSError):
            return "" if self._folder is None else name_of(live_in(self._folder))
        return ""

    def _look(self, folder: Path, model: str) -> None:
        """Look at a model's files again, if the last look is too long ago."""
        now, before = time.monotonic(), self._looked.get(model)
        if before is not None and now - before < self._every:
            return
        self._looked[model] = now
        of = [live_in(folder)] if model == LIVE_PAIR else folders_of(folder, model)
        found = next((found for each in of if (found := threshold_in(each)) is not None), None)
        if found is not None and self._known.get(model) != found.value:
            self._known[model] = found.value
        elif found is None and before is None and model != LIVE_PAIR:
            log.warning(
                "%s: has no threshold of the model %s: that of the live one is taken for its predictions",
                folder, model, extra={"model": model, "threshold": self.current},
            )  # fmt: skip


class SayPair:
    """Says when a running command takes up another model or threshold, and warns of a newer model that waits for its validation."""

    def __init__(self, folder: Path, what: str, in_use: Callable[[], tuple[str, float]], say: Callable[..., None]) -> None:
        """`folder`: of the live pair; `what` goes by the threshold; `in_use`: the model's name, and the threshold.

        `say`: called with a line, and its fields by name.
        """
        self._folder, self._what, self._in_use, self._say = folder, what, in_use, say
        self._pair, self._newer = in_use(), newer_beside(folder)

    def look(self) -> None:
        """Say what has changed since the last look."""
        (model, threshold), before = self._in_use(), self._pair
        if (model, threshold) != before:
            self._pair = model, threshold
            now = clock.now_utc()
            self._say(
                f"From {now:%Y-%m-%d %H:%M:%S} UTC on: model {model} with threshold {in_percent(threshold)} for {self._what},"
                f" in place of {before[0]} with {in_percent(before[1])}",
                model=model, threshold=threshold, before=before[0], threshold_before=before[1],
            )  # fmt: skip
        if (newer := newer_beside(self._folder)) != self._newer:
            self._newer = newer
            if newer is not None:
                log.warning(NOT_VALIDATED, self._folder, newer, model, extra={"model": newer})

    @contextmanager
    def watched(self, every: float = LOOK_AGAIN) -> Iterator[None]:
        """Look every so many seconds inside the `with` block, from a thread."""
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(every):
                self.look()

        thread = threading.Thread(target=watch, name="pair", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join(5)


NOT_VALIDATED = "%s: the model %s there has no threshold yet: going on with %s, which has; beepgpt validate SET --model DIR finds one"
LIVE_PAIR = ""
"""Whose threshold the live pair's is, in place of a model's name."""
