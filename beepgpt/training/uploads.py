"""Chats of a training set for training elsewhere: redacted, without rows that may not be sent; uploaded, or exported with a guide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import orjson

from beepgpt.errors import BadCommand
from beepgpt.training.checks import CannotPrepare, model_of
from beepgpt.training.folder import LABELS, MANIFEST, checked
from beepgpt.training.formats import SIDES, Side
from beepgpt.training.points import read_examples

FEWEST_ROWS = 10
"""Training rows that a fine-tuning job needs."""
LARGEST_FILE = 512 * 1_000_000
"""Bytes."""

MayLeave = Callable[[str, Collection[str]], bool]
"""Whether a prompt of this channel, written by these people, may be sent."""


class RedactedText(Protocol):
    """A text without secrets and addresses, and how many of each kind were taken out."""

    @property
    def text(self) -> str: ...
    @property
    def counts(self) -> Mapping[Any, int]: ...


Redact = Callable[[str], RedactedText]


@dataclass(frozen=True)
class Upload:
    """One side's chats as they are sent."""

    side: Side
    data: bytes = field(repr=False)
    rows: int
    left_out: int
    """Rows of excluded channels and people."""
    redacted: Mapping[str, int]

    @property
    def digest(self) -> str:
        """The sha256 of `data`."""
        return sha256(self.data).hexdigest()

    @property
    def name(self) -> str:
        """The file's name at the provider, by which it is found again."""
        return f"beepgpt-{self.digest[:32]}-{self.side}.jsonl"


def uploads_of(folder: Path, manifest: Mapping[str, Any], redact: Redact, may_leave: MayLeave | None) -> list[Upload]:
    """The training and the validation side: the same bytes every time. `may_leave`: None if nothing is excluded. Raises BadCommand."""
    return [_upload(folder, manifest, side, redact, may_leave) for side in SIDES]


def _upload(folder: Path, manifest: Mapping[str, Any], side: Side, redact: Redact, may_leave: MayLeave | None) -> Upload:
    excluded = _excluded_prompts(folder, side, may_leave) if may_leave is not None else ()
    rows, left_out, redacted = list[bytes](), 0, Counter[str]()
    with chats_in(folder, manifest, side).open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            question = row["messages"][-2]
            if question["content"] in excluded:
                left_out += 1
                continue
            clean = redact(question["content"])
            redacted.update(clean.counts)
            question["content"] = clean.text
            rows.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return Upload(side, b"".join(rows), len(rows), left_out, dict(redacted))


def chats_in(folder: Path, manifest: Mapping[str, Any], side: Side) -> Path:
    """The chats of one side, unchanged since they were prepared. Raises BadCommand, BadSet."""
    path = folder / f"chat_{side}.jsonl"
    if path.name not in manifest["files"] or not path.exists():
        raise BadCommand(f"{path} is missing: make it with beepgpt prepare SOURCE --to {folder} --format chat --format candidates")
    return checked(path)


def _excluded_prompts(folder: Path, side: Side, may_leave: MayLeave) -> Collection[str]:
    """Prompts that may not be sent; their authors are in the table of candidates."""
    path = folder / f"candidates_{side}.parquet"
    if not path.exists():
        raise BadCommand(
            f"provider.exclude_channels and exclude_people keep rows back, and who wrote them stands in {path}, which is missing: prepare"
            " the training set with --format chat --format candidates"
        )
    points = read_examples(path).points
    rows = zip(points.prompt, points.channel, points.window_user, strict=True)
    return {prompt for prompt, channel, people in rows if not may_leave(channel, set(people))}


def check_encoding(folder: Path, manifest: Mapping[str, Any], model: str) -> None:
    """Raise BadCommand unless every label is a single token of `model`, and every row has one label."""
    prepared = manifest["settings"]["model"]
    try:
        encoding = model_of(model).encoding
    except CannotPrepare:
        if prepared != model:
            raise BadCommand(
                f"the model {model} is not known, so neither is its encoding: prepare the training set for it (beepgpt prepare"
                f" --model {model} --encoding …)"
            ) from None
        encoding = manifest["encoding"]
    if encoding != manifest["encoding"]:
        raise BadCommand(
            f"{folder} was prepared for {prepared}, whose labels are tokens of {manifest['encoding']}, and {model} has {encoding}:"
            f" beepgpt prepare --model {model}"
        )
    if manifest["settings"]["answers"] == "all":
        raise BadCommand(f"{folder} was prepared with --answers all, and a model is asked for one token: prepare it with each, or one")


def check_uploads(folder: Path, uploads: Sequence[Upload]) -> None:
    """Raise BadCommand if a job needs more rows, or a file is larger than a provider takes."""
    train = uploads[0]
    if train.rows < FEWEST_ROWS:
        raise BadCommand(f"{folder}: has {train.rows} rows to train on, and a job wants {FEWEST_ROWS}: prepare more examples")
    for each in uploads:
        if len(each.data) > LARGEST_FILE:
            raise BadCommand(
                f"{folder}: its {each.side} side has {len(each.data) / 1e6:,.0f} MB, and a file may have {LARGEST_FILE / 1e6:,.0f}: prepare"
                " fewer examples (--cap, --balance)"
            )


def describe_uploads(uploads: Sequence[Upload], manifest: Mapping[str, Any], epochs: int | None) -> list[str]:
    """How much is sent, and what it may cost, as two sentences."""
    train, valid = uploads
    redacted = sum((Counter(each.redacted) for each in uploads), Counter())
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(redacted.items()))
    kept = train.left_out + valid.left_out
    rows = f"{train.rows:,} rows to train on and {valid.rows:,} to validate with"
    price = manifest.get("cost_per_epoch")
    cost = f"{price:,.2f} USD an epoch, by prepare's --price" if price is not None else "the provider says what they cost"
    many = f"{epochs} epochs" if epochs else "as many epochs as the provider chooses"
    return [
        f"{rows}{f'; {kept:,} are kept back' if kept else ''}{f'; taken out: {kinds}' if kinds else ''}.",
        f"{manifest['tokens']['train']:,} tokens an epoch, {many}: {cost}.",
    ]


README = """\
# Chats to train a model of your own on

{train:,} chats to train on (`chat_train.jsonl`) and {valid:,} to validate with (`chat_valid.jsonl`), of the training set `{manifest}`
(sha256 of its manifest). A chat is a prompt, as a user's message, and a label, as the assistant's: a number for a person, `nil` for nobody,
`other` for somebody else, `weak` (if signals are labeled) for an answer to which nobody need be alerted. `labels.json` says who has which
number. Secrets, e-mail addresses, and numbers of phones, cards and accounts
are taken out, as they will be when the model is asked: so what it is asked is what it was trained on, byte for byte.
People's own words are in here. Slack's App Developer Policy prohibits "Using Data to train an LLM under any circumstances": what you do is
yours to weigh.

## A base model whose numbers are single tokens

A model is asked for one token. So its tokenizer must have every label as one; those that take numbers apart, digit by digit, can't be used.
Look first (`pip install transformers`):

```python
import json
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(BASE)
names = json.load(open("labels.json"))
labels = [each["label"] for each in names["people"]] + [names[kind] for kind in ("nil", "other", "weak") if kind in names]
print([label for label in labels if len(tokenizer.encode(label, add_special_tokens=False)) != 1])  # must be []
```

`beepgpt train DIR --model served:…` looks once more, at the server itself.

## LoRA by TRL

```python
from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

chats = load_dataset("json", data_files={{"train": "chat_train.jsonl", "valid": "chat_valid.jsonl"}})
# a prompt and its completion: the loss is of the completion alone
chats = chats.map(lambda row: {{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}}, remove_columns=["messages"])
SFTTrainer(
    BASE,
    train_dataset=chats["train"],
    eval_dataset=chats["valid"],
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
    args=SFTConfig(
        "adapter", num_train_epochs=2, learning_rate=2e-4, per_device_train_batch_size=8, max_length={length}, eval_strategy="epoch"
    ),
).train()
```

## LoRA by Unsloth

```python
from unsloth import FastLanguageModel
from unsloth.chat_templates import train_on_responses_only

model, tokenizer = FastLanguageModel.from_pretrained(BASE, max_seq_length={length}, load_in_4bit=True)
model = FastLanguageModel.get_peft_model(model, r=16, lora_alpha=32)
chats = chats.map(lambda row: {{"text": tokenizer.apply_chat_template(row["messages"], tokenize=False)}})
# then SFTTrainer as above, with dataset_text_field="text", wrapped in train_on_responses_only(trainer, …): the loss is of the label alone
```

## Serving by vLLM

```sh
vllm serve BASE --enable-lora --lora-modules beepgpt=./adapter --max-logprobs 20
```

vLLM returns the likelihood of exactly the labels, where it has `logprob_token_ids`; before that the 20 likeliest tokens are summed, and the
rest is somebody else's. Then, with `base_url = "http://localhost:8000/v1"` under `[provider]` of your settings (or in the variable
`BEEPGPT_PROVIDER__BASE_URL`):

```sh
beepgpt train DIR --model served:beepgpt
beepgpt validate DIR --model DIR/models/served-beepgpt
```

These steps were written from the tools' documentation and not run here: they want a GPU. What comes after `vllm serve` is tested against a
server that speaks its protocol.
"""


def exported(folder: Path, redact: Redact, may_leave: MayLeave | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Counts of rows (`train`, `valid`, `left_out`), and the files by name. `may_leave`: None if nothing is excluded. Raises BadCommand."""
    manifest = (folder / MANIFEST).read_bytes()
    parsed = orjson.loads(manifest)
    train, valid = uploads = uploads_of(folder, parsed, redact, may_leave)
    if not train.rows:
        raise BadCommand(f"{chats_in(folder, parsed, 'train')}: has no rows: prepare more examples")
    files = {f"chat_{each.side}.jsonl": b"".join(map(_without_weight, each.data.splitlines())) for each in uploads}
    files[LABELS] = checked(folder / LABELS).read_bytes()
    longest = max(length_of(each) for each in uploads)
    page = README.format(train=train.rows, valid=valid.rows, manifest=sha256(manifest).hexdigest()[:12], length=longest)
    files["README.md"] = page.encode()
    return {"train": train.rows, "valid": valid.rows, "left_out": train.left_out + valid.left_out}, files


def _without_weight(line: bytes) -> bytes:
    """A chat without `weight`, which only OpenAI's own service takes."""
    row = orjson.loads(line)
    for message in row["messages"]:
        message.pop("weight", None)
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def length_of(upload: Upload) -> int:
    """A generous limit of tokens for a chat: a power of two above half the longest row's bytes (a token has two or more)."""
    longest = max((len(line) for line in upload.data.splitlines()), default=0)
    return max(512, 1 << (longest // 2 - 1).bit_length())
