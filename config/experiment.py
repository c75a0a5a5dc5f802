"""A file of framings for `beepgpt experiment`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from beepgpt.config.settings import Settings, read_settings
from beepgpt.errors import BadCommand


class Framing(BaseModel):
    """Settings of one framing, in the form of a settings file."""

    model_config = ConfigDict(extra="forbid")

    conversations: dict[str, Any] = {}
    training: dict[str, Any] = {}


class Experiment(BaseModel):
    """Framings of one history, and what they have in common."""

    model_config = ConfigDict(extra="forbid")

    source: str = ""
    include: str = "channels"
    model: str = "local"
    precision: Annotated[float, Field(ge=0, le=1)] = 0.5
    all: Framing = Framing()
    """Settings of all framings; a framing's own win."""
    framings: Annotated[dict[Annotated[str, Field(pattern=r"^[\w-]+$")], Framing], Field(min_length=1)]

    def settings_of(self, name: str, config: Path | None) -> Settings:
        """The settings of one framing; `config` is a settings file that the experiment's own settings override."""
        framing = self.framings[name]
        return read_settings(
            config,
            {
                "conversations": {**self.all.conversations, **framing.conversations},
                "training": {**self.all.training, **framing.training, "format": "candidates"},
                "run": {"workers": 1},
            },
        )


def read_experiment(file: Path) -> Experiment:
    """Read a file of framings. Raises BadCommand."""
    try:
        return Experiment(**tomllib.loads(file.read_text("utf-8")))
    except OSError as error:
        raise BadCommand(f"{file} can't be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadCommand(f"{file} is no TOML: {error}") from error
    except ValidationError as error:
        wrong = error.errors()[0]
        raise BadCommand(f"{file}: {'.'.join(map(str, wrong['loc']))}: {wrong['msg'][:1].lower()}{wrong['msg'][1:]}") from error
