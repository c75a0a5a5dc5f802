"""A training set's chats as files for training on a machine of your own, with a guide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from beepgpt.errors import BadCommand
from beepgpt.training.folder import LABELS, MANIFEST
from beepgpt.training.models import hash_of
from beepgpt.training.uploads import MayLeave, Redact, Upload, chats_in, uploads_of

README = """\
# Chats to train a model of your own on

{train:,} chats to train on (`chat_train.jsonl`) and {valid:,} to validate with (`chat_valid.jsonl`), of the training set `{manifest}`
(sha256 of its manifest). A chat is a prompt, as a user's message, and a label, as the assistant's: a number for a person, `nil` for nobody,
`other` for somebody else. `labels.json` says who has which number. Secrets, e-mail addresses, and numbers of phones, cards and accounts
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
labels = [each["label"] for each in json.load(open("labels.json"))["people"]] + ["nil", "other"]
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
    files[LABELS] = (folder / LABELS).read_bytes()
    longest = max(length_of(each) for each in uploads)
    page = README.format(train=train.rows, valid=valid.rows, manifest=hash_of(manifest)[:12], length=longest)
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
    length = 512
    while length < longest // 2:
        length *= 2
    return length
