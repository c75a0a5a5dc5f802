"""A server that speaks OpenAI's protocol over real HTTP: its answers follow a rule, its faults a script, and it keeps a record.

In a test: `with serving(rule=…, script=…) as server:` and `Provider(server.url, server.key)`, or the fixture `openai_server`.
As a process of its own, for tests that kill who asks: `python -m tests.support.openai_server --port 8123 --latency 0.3 --share 429:1=0.01`.
There `GET /record` returns what was asked, and `POST /script` changes the script.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zlib import crc32

import pytest

KEY = "sk-test-0123456789abcdef"
STALL = 60.0
"""Seconds after which a stalled request is dropped, if nobody else ends it."""
CACHED_FROM = 1024
"""Tokens of a shared prefix that a cache takes."""

Rule = Callable[[str], float]
"""How likely `yes` is, for the text of the last message."""
Writer = Callable[[str], str]
"""What is written where a text is asked for, and no yes or no: of the text of the last message."""
Labeler = Callable[[str], dict[str, float]]
"""How likely each label is, for a prompt."""
STEPS = 12
"""Events of a fine-tuning job that are returned."""
Fault = str
"""A name, and for some an argument after a colon: see `FAULTS`."""

FAULTS = {
    "429": "too many requests; `429:2`: Retry-After 2 seconds; `429:date2`: until a date; `429:ms200`: in milliseconds",
    "quota": "429 insufficient_quota",
    "400": "the request is wrong, and the server quotes it",
    "401": "the key is wrong, and the server quotes it",
    "403": "not allowed",
    "training_not_available": "403 training_not_available",
    "404": "no such model",
    "500": "a server's error; also `502`, `503`, `503:1` with Retry-After, and `503:never`, which says not to try again",
    "stall": "takes the request and never answers",
    "reset": "the connection is reset before an answer",
    "drop": "the connection ends in the middle of the body",
    "cut": "a body that is whole by its length, and whose JSON isn't",
    "html": "200, and a web page",
    "empty": "200, and {}",
    "schema": "JSON of another form than agreed",
    "maybe": "the agreed form, and neither yes nor no",
    "bare": "`Yes.` or `No.` instead of JSON",
    "chatty": "a sentence instead of JSON",
    "refusal": "the model declines",
    "length": "the model did not come to an end",
    "lost": "for files, batches and jobs: it is done, and the connection is reset before the response",
    "held": "for the same: it is done, and no response comes as long as the client waits",
    "slow": "the right answer, its headers and body byte by byte over 1 second; `slow:5`: over 5",
}
PAID = {None, "schema", "maybe", "bare", "chatty", "refusal", "length", "slow"}
"""Faults of the model, not of the server: such an answer costs money, as a good one does."""


def by_hash(text: str) -> float:
    """A rule for any text: the same answer at any time, and yes for about half of them."""
    return int(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) / 0xFFFFFFFF


def in_short(text: str) -> str:
    """A writer: the first words."""
    return " ".join(text.split()[:10])


def digest(text: str) -> str:
    """What a request is called in the record: a hash of its last message."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass
class Script:
    """Which request meets which fault; the first of these that says something counts."""

    at: dict[int, Fault] = field(default_factory=dict)
    """By a request's number among all that were asked, from 0."""
    of: dict[str, list[Fault | None]] = field(default_factory=dict)
    """By the digest of its last message: for its first try, its second, and so on; then none."""
    share: dict[Fault, float] = field(default_factory=dict)
    """Each fault for this share of all messages, chosen by their hash, at the first try of a message."""
    always: Fault | None = None
    other: dict[str, list[Fault | None]] = field(default_factory=dict)
    """For files, batches and jobs, by method and first or last part of the path, as in `POST batches`: for the first such one, and on."""
    batch: str = "completed"
    """How batches end: also `failed:CODE`, and `expired` with half of their requests done."""
    file: str = "processed"
    """What becomes of files that are to be trained on: also `error`."""
    job: str = "succeeded"
    """How fine-tuning jobs end: also `failed:CODE` and `cancelled`."""

    def fault(self, number: int, name: str, tries: int) -> Fault | None:
        """For the request of that number, whose last message was asked `tries` times before."""
        if number in self.at:
            return self.at[number]
        if name in self.of:
            faults = self.of[name]
            return faults[tries] if tries < len(faults) else None
        place = int(name, 16) / 16 ** len(name)
        for fault, share in self.share.items():
            if place < share:
                return None if tries else fault
            place -= share
        return self.always


@dataclass
class Asked:
    """One request for an answer, as the server saw it."""

    number: int
    path: str
    digest: str
    fault: Fault | None
    at: float
    """Seconds, of `time.monotonic`."""
    headers: dict[str, str] = field(repr=False)
    body: dict[str, Any] = field(repr=False)


@dataclass
class Record:
    """What was asked, and what was answered."""

    asked: list[Asked] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    """By digest: answers that the model gave, and that have to be paid for, whether or not they arrive."""
    now: int = 0
    most: int = 0
    """At the same time."""
    uploads: int = 0

    @property
    def paid_twice(self) -> int:
        """Answers that were paid for, and had been before."""
        return sum(count - 1 for count in self.answered.values())

    def summary(self) -> dict[str, Any]:
        """As `GET /record` returns it."""
        return {
            "asked": len(self.asked),
            "answered": dict(self.answered),
            "paid_twice": self.paid_twice,
            "most": self.most,
            "faults": dict(Counter(each.fault for each in self.asked if each.fault)),
            "uploads": self.uploads,
        }


class Server(ThreadingHTTPServer):
    """The server, its files and batches, its script and its record."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        port: int = 0,
        *,
        rule: Rule = by_hash,
        writer: Writer = in_short,
        script: Script | None = None,
        latency: float = 0.0,
        batch_seconds: float = 0.0,
        file_seconds: float = 0.0,
        job_seconds: float = 0.0,
        logprobs: bool = True,
        top: int = 20,
        splits_numbers: bool = False,
        is_vllm: bool = False,
        keeps_metadata: bool = True,
        key: str = KEY,
        keeps_bodies: bool = True,
    ) -> None:
        """`latency`: seconds that an answer takes; `…_seconds`: that a batch, a file or a job takes; `key`: empty, and any will do.

        `top`: likelihoods that are returned, at most; `splits_numbers`: the tokenizer takes numbers apart; `is_vllm`: it returns the
        likelihoods of the tokens that are asked for.
        """
        super().__init__(("127.0.0.1", port), Handler)
        self.rule = rule
        self.writer = writer
        self.script = script or Script()
        self.latency = latency
        self.batch_seconds = batch_seconds
        self.file_seconds = file_seconds
        self.job_seconds = job_seconds
        self.logprobs = logprobs
        self.top = top
        self.splits_numbers = splits_numbers
        self.is_vllm = is_vllm
        self.keeps_metadata = keeps_metadata
        self.key = key
        self.keeps_bodies = keeps_bodies
        self.record = Record()
        self.files: dict[str, tuple[str, bytes]] = {}
        self.sent: dict[str, tuple[str, float]] = {}
        """Of files that were sent: their name, and when they are read."""
        self.batches: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.addresses: deque[str] = deque(maxlen=100)
        """The newest that were asked."""
        self.words: dict[int, str] = {}
        """By token: all that were asked for."""
        self.models: dict[str, Labeler] = {}
        """By name: those that jobs have made, or a test has put here."""
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._numbers: Counter[str] = Counter()
        self._tries: Counter[str] = Counter()
        self._prefixes: set[str] = set()

    @property
    def url(self) -> str:
        """What `base_url` is."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asks may go away at any time: that is what tests of kills do."""

    # What an answer is

    def meet(self, path: str, text: str, headers: dict[str, str], body: dict[str, Any]) -> Asked:
        """Writes a request down, with the fault that the script has for it."""
        name = digest(text)
        with self.lock:
            number = len(self.record.asked)
            fault = self.script.fault(number, name, self._tries[name])
            self._tries[name] += 1
            asked = Asked(number, path, name, fault, time.monotonic(), headers, body if self.keeps_bodies else {})
            self.record.asked.append(asked)
        return asked

    def chat(self, body: dict[str, Any], fault: str | None) -> dict[str, Any]:
        """A chat completion."""
        if body.get("model") in self.models:
            return self.said(body, _text(body["messages"][-1]["content"]), fault)
        messages = [(each["role"], _text(each["content"])) for each in body["messages"]]
        yes = self.rule(messages[-1][1])
        word = "yes" if yes >= 0.5 else "no"
        tokens = ['{"', "answer", '":"', word, '"}']
        content: str | None = "".join(tokens)
        if "response_format" not in body:
            content = self.writer(messages[-1][1])
            tokens = content.split()
        elif fault == "schema":
            content = '{"label": "strong"}'
        elif fault == "maybe":
            content = '{"answer": "maybe"}'
        elif fault == "bare":
            content = f"{word.title()}."
            tokens = [word.title(), "."]
        elif fault == "chatty":
            content = f"I would say {word}, since it is about: {messages[-1][1][:50]}"
        elif fault == "length":
            content = '{"ans'
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if fault == "refusal":
            message |= {"content": None, "refusal": "I can't help with that."}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "length" if fault == "length" else "stop"}
        choice["logprobs"] = None
        if body.get("logprobs") and self.logprobs:
            choice["logprobs"] = {"content": [_logprob(each, yes) for each in tokens], "refusal": None}
        marked = [place for place, each in enumerate(body["messages"]) if "prompt_cache_breakpoint" in json.dumps(each["content"])]
        usage = self._usage(messages, marked, body.get("model", ""))
        return {
            "id": f"chatcmpl-{digest(messages[-1][1])}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.get("model"),
            "choices": [choice],
            "usage": {
                "prompt_tokens": usage["input"],
                "completion_tokens": len(tokens),
                "total_tokens": usage["input"] + len(tokens),
                "prompt_tokens_details": {"cached_tokens": usage["cached"], "cache_write_tokens": usage["written"]},
            },
        }

    def said(self, body: dict[str, Any], prompt: str, fault: str | None) -> dict[str, Any]:
        """What a model of labels says, as a chat or as a completion: one label, and how likely the others were."""
        likelihoods = self.models[body["model"]](prompt)
        ranked = sorted(likelihoods.items(), key=lambda each: (-each[1], each[0]))
        tokens = list(ranked[0][0]) if self.splits_numbers and ranked[0][0].isdigit() else [ranked[0][0]]
        is_chat = "messages" in body
        wanted = body.get("top_logprobs", 0) if is_chat else (body.get("logprobs") or 0)
        most = {label: math.log(p) for label, p in ranked[: min(wanted, self.top)] if p > 0}
        if self.is_vllm and "logprob_token_ids" in body:
            most = {
                word: math.log(max(likelihoods.get(word, 0.0), 1e-9)) for word in map(self.words.__getitem__, body["logprob_token_ids"])
            }
        most = {token: math.log(0.4) for token in (*tokens[:1], "the")} if self.splits_numbers else most
        tokens = tokens[: body.get("max_completion_tokens") or body.get("max_tokens") or 1]
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        own = {token: most.get(token, math.log(max(likelihoods.get(token, 1e-9), 1e-9))) for token in tokens}
        if is_chat:
            choice["message"] = {"role": "assistant", "content": "".join(tokens), "refusal": None}
            if fault == "refusal":
                choice["message"] |= {"content": None, "refusal": "I can't help with that."}
            top = [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in most.items()]
            content = [{"token": each, "logprob": own[each], "bytes": None, "top_logprobs": top} for each in tokens]
            choice["logprobs"] = {"content": content, "refusal": None} if body.get("logprobs") and self.logprobs else None
        else:
            choice["text"] = "".join(tokens)
            logprobs = {"tokens": tokens, "token_logprobs": [own[each] for each in tokens], "top_logprobs": [most for _ in tokens]}
            choice["logprobs"] = logprobs if self.logprobs else None
        usage = {"prompt_tokens": len(prompt) // 4 + 4, "completion_tokens": len(tokens)}
        return {"id": "said", "object": "chat.completion" if is_chat else "text_completion", "model": body["model"], "choices": [choice],
                "usage": usage}  # fmt: skip

    def decision(self, body: dict[str, Any], fault: str | None) -> dict[str, Any]:
        """A decision: one answer a question."""
        given = body["input"]
        messages = [("user", given)] if isinstance(given, str) else [(each["role"], _text(each["content"])) for each in given]
        yes = self.rule(messages[-1][1])
        answers: list[dict[str, Any]] = []
        for question in body["questions"]:
            name = question.get("name")
            if fault == "refusal":
                answers.append({"type": "refusal", "name": name})
                continue
            values = [each["value"] for each in question["choices"]]
            probabilities = [{"value": each, "probability": yes if each == "yes" else 1 - yes} for each in values]
            if "yes" not in values:
                shares = [by_hash(f"{value} {messages[-1][1]}") for value in values]
                probabilities = [{"value": value, "probability": share / sum(shares)} for value, share in zip(values, shares, strict=True)]
            chosen = max(probabilities, key=lambda each: each["probability"])
            choice = "maybe" if fault in ("maybe", "schema", "chatty", "bare", "length") else chosen["value"]
            chosen_body = {"choice": choice, "confidence": chosen["probability"], "probabilities": probabilities}
            answers.append({"type": "choice", "name": name, **chosen_body})
        usage = self._usage(messages, [], body["model"])
        return {
            "model": body["model"],
            "answers": answers,
            "usage": {
                "input_tokens": usage["input"],
                "input_tokens_details": {"cached_tokens": usage["cached"], "cache_write_tokens": usage["written"]},
                "output_tokens": 1,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage["input"] + 1,
            },
        }

    def _usage(self, messages: Sequence[tuple[str, str]], marked: Sequence[int], model: str) -> dict[str, int]:
        """Four characters a token. Newer models cache up to a mark only, and take money for what they write."""
        sizes = [len(text) // 4 + 4 for _, text in messages]
        is_new = re.match(r"gpt-(5\.6|[6-9])", model) is not None
        end = (marked[-1] + 1 if marked else 0) if is_new else len(messages) - 1
        size = sum(sizes[:end])
        usage = {"input": sum(sizes), "cached": 0, "written": 0}
        if size < CACHED_FROM:
            return usage
        prefix = hashlib.sha256(json.dumps([model, messages[:end]]).encode()).hexdigest()
        with self.lock:
            is_known = prefix in self._prefixes
            self._prefixes.add(prefix)
        if is_known:
            usage["cached"] = size if is_new else size // 128 * 128
        elif is_new:
            usage["written"] = size
        return usage

    # Batches

    def make_batch(self, body: dict[str, Any]) -> dict[str, Any]:
        """A batch that is validated at once, and runs for `batch_seconds`."""
        lines = self.files[body["input_file_id"]][1].splitlines()
        with self.lock:
            batch = {
                "id": f"batch_{len(self.batches)}",
                "object": "batch",
                "endpoint": body["endpoint"],
                "completion_window": body["completion_window"],
                "input_file_id": body["input_file_id"],
                "metadata": body.get("metadata"),
                "created_at": int(time.time()),
                "status": "in_progress",
                "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
                "_ends": time.monotonic() + self.batch_seconds,
            }
            self.batches[str(batch["id"])] = batch
        return batch

    def batch(self, batch_id: str) -> dict[str, Any]:
        """As it stands now."""
        batch = self.batches[batch_id]
        with self.lock:
            is_due = batch["status"] == "in_progress" and time.monotonic() >= batch["_ends"]
            if is_due:
                batch["status"] = "finalizing"
        if is_due:
            self._finish(batch)
        return {name: value for name, value in batch.items() if not name.startswith("_")}

    def _finish(self, batch: dict[str, Any]) -> None:
        how, _, code = self.script.batch.partition(":")
        if how == "failed":
            batch["errors"] = {"object": "list", "data": [{"code": code, "message": "what somebody wrote", "line": 1, "param": None}]}
            batch["status"] = "failed"
            return
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]][1].splitlines()]
        good, bad = [], []
        for place, line in enumerate(lines):
            line_out: dict[str, Any] = {"id": f"req_{place}", "custom_id": line["custom_id"], "response": None, "error": None}
            if how == "expired" and place >= len(lines) // 2:
                bad.append(line_out | {"error": {"code": "batch_expired", "message": "This request could not be executed."}})
                continue
            text = _text(line["body"]["messages"][-1]["content"])
            asked = self.meet("batch", text, {}, line["body"])
            kind = asked.fault.partition(":")[0] if asked.fault else None
            if kind in PAID:
                with self.lock:
                    self.record.answered[asked.digest] += 1
                good.append(line_out | {"response": {"status_code": 200, "request_id": "r", "body": self.chat(line["body"], kind)}})
            else:
                status, body, _ = _refusal(asked.fault or "500", text, "")
                bad.append(line_out | {"response": {"status_code": status, "request_id": "r", "body": body}})
        for name, results in (("output_file_id", good), ("error_file_id", bad)):
            if results:
                content = "".join(json.dumps(each) + "\n" for each in results).encode()
                batch[name] = self.keep("batch_output", content)
        batch["request_counts"] = {"total": len(lines), "completed": len(good), "failed": len(bad)}
        batch["status"] = how

    def keep(self, purpose: str, content: bytes, name: str = "") -> str:
        """A file's id."""
        with self.lock:
            file_id = f"file-{self._numbers['file']}"
            self._numbers["file"] += 1
            self.files[file_id] = (purpose, content)
            self.sent[file_id] = name, time.monotonic() + self.file_seconds
        return file_id

    # Fine-tuning

    def make_job(self, body: dict[str, Any]) -> dict[str, Any]:
        """A job that learns its file by heart, more or less, and takes `job_seconds` for that."""
        chats = [json.loads(line)["messages"] for line in self.files[body["training_file"]][1].splitlines()]
        with self.lock:
            number = len(self.jobs)
            epochs = body.get("method", {}).get("supervised", {}).get("hyperparameters", {}).get("n_epochs", 3)
            job = {
                "id": f"ftjob-{number}",
                "object": "fine_tuning.job",
                "created_at": int(time.time()),
                "model": f"{body['model']}-2025-04-14",
                "status": "validating_files",
                "fine_tuned_model": None,
                "organization_id": "org-test",
                "result_files": [],
                "training_file": body["training_file"],
                "validation_file": body.get("validation_file"),
                "trained_tokens": None,
                "seed": body.get("seed", 7),
                "error": None,
                "metadata": body.get("metadata") if self.keeps_metadata else None,
                "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": epochs, "batch_size": 1}}},
                "hyperparameters": {"n_epochs": epochs},
                "_begins": time.monotonic(),
                "_events": [],
                "_suffix": body.get("suffix") or "",
                "_chats": chats,
            }
            self.jobs[str(job["id"])] = job
        return job

    def job(self, job_id: str) -> dict[str, Any]:
        """As it stands now."""
        job = self.jobs[job_id]
        with self.lock:
            self._go_on(job)
        return {name: value for name, value in job.items() if not name.startswith("_")}

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """All events, the newest first."""
        self.job(job_id)
        return list(reversed(self.jobs[job_id]["_events"]))

    def checkpoints(self, job_id: str) -> list[dict[str, Any]]:
        """Two of a job that is done."""
        if self.job(job_id)["status"] != "succeeded":
            return []
        return [
            {
                "id": f"ftckpt-{step}", "object": "fine_tuning.job.checkpoint", "created_at": 1, "fine_tuning_job_id": job_id,
                "fine_tuned_model_checkpoint": f"{self.jobs[job_id]['fine_tuned_model']}:ckpt-step-{step}", "step_number": step,
                "metrics": {"step": step, "train_loss": 1 / step, "valid_loss": None},
            }
            for step in (20, 10)
        ]  # fmt: skip

    def cancel_job(self, job_id: str) -> dict[str, Any]:
        """Stopped, unless it is over."""
        job = self.jobs[job_id]
        with self.lock:
            if job["status"] not in ("succeeded", "failed"):
                job["status"] = "cancelled"
        return self.job(job_id)

    def _go_on(self, job: dict[str, Any]) -> None:
        if job["status"] in ("succeeded", "failed", "cancelled"):
            return
        done = min((time.monotonic() - job["_begins"]) / max(self.job_seconds, 1e-9), 1.0)
        events = job["_events"]

        def tell(message: str, level: str = "info", **data: Any) -> None:
            event = {"id": f"ftevent-{job['id']}-{len(events)}", "object": "fine_tuning.job.event", "created_at": int(time.time())}
            events.append(event | {"level": level, "message": message, "type": "metrics" if data else "message", "data": data})

        if not events:
            tell(f"Created fine-tuning job: {job['id']}")
        job["status"] = "running"
        for step in range(len(events), 1 + int(done * STEPS)):
            tell(f"Step {step}/{STEPS}: training loss={1 / step:.2f}", step=step, total_steps=STEPS, train_loss=1 / step)
        if done < 1.0:
            return
        how, _, code = self.script.job.partition(":")
        job["status"] = how
        job["finished_at"] = int(time.time())
        if how == "failed":
            job["error"] = {"code": code, "message": "what somebody wrote", "param": "training_file"}
            tell("The job failed", "error")
        elif how == "succeeded":
            job["fine_tuned_model"] = f"ft:{job['model']}:test:{job['_suffix']}:{job['id'][6:]}"
            job["trained_tokens"] = sum(len(each["content"]) for chat in job["_chats"] for each in chat) // 4
            self.models[job["fine_tuned_model"]] = learned(job["_chats"])
            tell("The job has successfully completed")

    def file(self, file_id: str) -> dict[str, Any]:
        """A file, as the protocol shows it."""
        purpose, content = self.files[file_id]
        name, read_at = self.sent[file_id]
        status = "processed"
        if purpose == "fine-tune":
            status = "uploaded" if time.monotonic() < read_at else self.script.file
        return {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": name or f"{file_id}.jsonl",
            "purpose": purpose,
            "status": status,
        }


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None:
        """The record is enough."""

    def do_GET(self) -> None:
        self._serve(b"")

    def do_DELETE(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _serve(self, content: bytes) -> None:
        self.server.addresses.append(self.path)
        address = urlsplit(self.path)
        path = address.path.removeprefix("/v1")
        if path == "/record":
            with self.server.lock:
                self._send(200, self.server.record.summary())
            return
        if path == "/script":
            self.server.script = Script(**json.loads(content))
            self._send(200, {})
            return
        key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if self.server.key and key != self.server.key:
            self._send(*_refusal("401", "", key))
            return
        if path in ("/chat/completions", "/completions", "/decisions", "/embeddings"):
            self._answer(path, json.loads(content), key)
            return
        with self.server.lock:
            parts = path.strip("/").split("/")
            other = self.server.script.other
            faults = other.get(f"{self.command} {parts[-1]}") or other.get(f"{self.command} {parts[0]}")
            fault = faults.pop(0) if faults else None
        if fault and fault not in ("lost", "held"):
            self._fail(fault)
            return
        try:
            done = self._other(path, parse_qs(address.query), content)
        except KeyError:
            self._send(404, {"error": {"code": "not_found", "type": "invalid_request_error", "message": f"no {path}"}})
            return
        if fault == "held":
            self._gone(STALL)
        elif fault:
            self._reset()
        else:
            self._send(200, done)

    def _fail(self, fault: Fault) -> None:
        """A file or a batch that does not exist."""
        if fault in ("drop", "cut", "html", "empty"):
            self._broken(fault, {"object": "something", "id": "file-0"})
        elif fault == "reset":
            self._reset()
        else:
            self._send(*_refusal(fault, "", ""))

    def _other(self, path: str, query: dict[str, list[str]], content: bytes) -> Any:
        """Files, batches and jobs."""
        server = self.server
        jobs = ["fine_tuning", "jobs"]
        match [self.command, *path.strip("/").split("/")]:
            case ["POST", "files"]:
                fields = _form(self.headers["Content-Type"], content)
                server.record.uploads += 1
                return server.file(server.keep(fields["purpose"].decode(), fields["file"], fields.get("filename", b"").decode()))
            case ["GET", "files"]:
                wanted = query.get("purpose", [""])[0]
                return _page([server.file(each) for each, (purpose, _) in reversed(server.files.items()) if wanted in ("", purpose)], query)
            case ["GET", "models"]:
                about = {"object": "model", "created": 1, "owned_by": "vllm" if server.is_vllm else "system"}
                return {"object": "list", "data": [{"id": each, **about} for each in server.models]}
            case ["POST", "tokenize"] if server.is_vllm:
                text = json.loads(content)["prompt"]
                tokens = [*map(_token_id, text)] if server.splits_numbers and text.isdigit() else [_token_id(text)]
                server.words[tokens[0]] = text
                return {"count": len(tokens), "max_model_len": 4096, "tokens": tokens}
            case ["POST", *path_] if path_ == jobs:
                return server.job(server.make_job(json.loads(content))["id"])
            case ["GET", *path_] if path_ == jobs:
                return _page([server.job(each) for each in reversed(server.jobs)], query)
            case ["GET", "fine_tuning", "jobs", job_id]:
                return server.job(job_id)
            case ["GET", "fine_tuning", "jobs", job_id, "events"]:
                return _page(server.events(job_id), query)
            case ["GET", "fine_tuning", "jobs", job_id, "checkpoints"]:
                return _page(server.checkpoints(job_id), query)
            case ["POST", "fine_tuning", "jobs", job_id, "cancel"]:
                return server.cancel_job(job_id)
            case ["GET", "files", file_id, "content"]:
                return server.files[file_id][1]
            case ["GET", "files", file_id]:
                return server.file(file_id)
            case ["DELETE", "files", file_id]:
                server.files.pop(file_id)
                return {"id": file_id, "object": "file", "deleted": True}
            case ["POST", "batches"]:
                return server.batch(server.make_batch(json.loads(content))["id"])
            case ["GET", "batches"]:
                return _page([server.batch(each) for each in reversed(server.batches)], query)
            case ["GET", "batches", batch_id]:
                return server.batch(batch_id)
            case ["POST", "batches", batch_id, "cancel"]:
                server.batches[batch_id]["status"] = "cancelled"
                return server.batch(batch_id)
        raise KeyError(path)

    def _answer(self, path: str, body: dict[str, Any], key: str) -> None:
        server = self.server
        given = body["prompt"] if path == "/completions" else body["messages"] if path == "/chat/completions" else body["input"]
        text = given if isinstance(given, str) else "\n".join(given) if path == "/embeddings" else _text(given[-1]["content"])
        asked = server.meet(path, text, {name.lower(): value for name, value in self.headers.items()}, body)
        kind, _, argument = (asked.fault or "").partition(":")
        with server.lock:
            server.record.now += 1
            server.record.most = max(server.record.most, server.record.now)
        try:
            if kind == "stall":
                self._gone(STALL)
                return
            if server.latency:
                time.sleep(server.latency)
            if kind == "reset":
                self._reset()
            elif kind in ("drop", "cut", "html", "empty"):
                self._broken(kind, self._made(path, body, None))
            elif path == "/decisions" and not all(each.get("instructions") and len(each["choices"]) > 1 for each in body["questions"]):
                self._send(*_refusal("400", text, key))
            elif kind in PAID or not kind:
                made = self._made(path, body, kind or None)
                with server.lock:
                    server.record.answered[asked.digest] += 1
                if kind == "slow":
                    self._trickle(made, float(argument or 1))
                else:
                    self._send(200, made)
            else:
                self._send(*_refusal(asked.fault or "", text, key))
        finally:
            with server.lock:
                server.record.now -= 1

    def _made(self, path: str, body: dict[str, Any], fault: str | None) -> dict[str, Any]:
        if path == "/embeddings":
            return embedded(body["model"], body["input"])
        if path == "/completions":
            return self.server.said(body, body["prompt"], fault)
        return self.server.chat(body, fault) if path == "/chat/completions" else self.server.decision(body, fault)

    # How it is sent

    def _send(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._head(status, len(content), headers or {})
        self.wfile.write(content)

    def _head(self, status: int, length: int, headers: Mapping[str, str], kind: str = "application/json") -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _broken(self, fault: str, made: dict[str, Any]) -> None:
        content = json.dumps(made).encode()
        if fault == "html":
            page = b"<html><body>Please sign in to the network</body></html>"
            self._head(200, len(page), {}, "text/html")
            self.wfile.write(page)
        elif fault == "empty":
            self._send(200, b"{}")
        elif fault == "cut":
            self._send(200, content[: len(content) // 2])
        else:
            self._head(200, len(content), {})
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True

    def _trickle(self, made: dict[str, Any], seconds: float) -> None:
        content = json.dumps(made).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        pieces = [bytes([each]) for each in head[:20]] + [head[20:]] + [content[:-20]] + [bytes([each]) for each in content[-20:]]
        for piece in pieces:
            self.connection.sendall(piece)
            time.sleep(seconds / len(pieces))

    def _gone(self, seconds: float) -> None:
        """Until who asked has gone, or the server ends."""
        self.close_connection = True
        self.connection.settimeout(0.1)
        deadline = time.monotonic() + seconds
        while not self.server.closing.is_set() and time.monotonic() < deadline:
            with suppress(TimeoutError):
                if not self.connection.recv(1):
                    return

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def _text(content: Any) -> str:
    """A message's text, whether it came as one or in parts."""
    return content if isinstance(content, str) else "".join(each["text"] for each in content)


def _page(listed: list[dict[str, Any]], query: dict[str, list[str]]) -> dict[str, Any]:
    """A part of a list, as it is asked for."""
    after = query.get("after", [""])[0]
    start = [each["id"] for each in listed].index(after) + 1 if after else 0
    limit = int(query.get("limit", ["20"])[0])
    return {"object": "list", "data": listed[start : start + limit], "has_more": start + limit < len(listed)}


def embedded(model: str, texts: list[str]) -> dict[str, Any]:
    """Vectors of texts by their words, of which SAME ones point the same way; returned in another order, as the protocol allows."""

    def vector(text: str) -> list[float]:
        found = [0.0] * 256
        for word in re.findall(r"\w+", text.lower()):
            found[crc32(SAME.get(word, word).encode()) % 256] += 1.0
        return found

    data = [{"object": "embedding", "index": number, "embedding": vector(text)} for number, text in enumerate(texts)]
    tokens = sum(map(len, texts)) // 4
    return {"object": "list", "model": model, "data": data[::-1], "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


SAME = {"postgres": "database", "mysql": "database"}
"""Words that mean the same to the server's model of embeddings."""


def _token_id(label: str) -> int:
    """Any number, the same for the same text."""
    return int(digest(label)[:7], 16)


def learned(chats: Sequence[Sequence[Mapping[str, Any]]]) -> Labeler:
    """What was seen with each word, and a prompt that was seen as a whole: what a model of labels might have learned."""
    whole: dict[str, Counter[str]] = {}
    words: dict[str, Counter[str]] = {}
    every: Counter[str] = Counter()
    for *_, asked, answer in chats:
        label = answer["content"]
        whole.setdefault(asked["content"], Counter())[label] += 1
        every[label] += 1
        for word in set(asked["content"].split()):
            words.setdefault(word, Counter())[label] += 1

    def say(prompt: str) -> dict[str, float]:
        weights: dict[str, float] = {}
        by_word = [(words.get(word, Counter()), 0.2) for word in sorted(set(prompt.split()))]
        for counts, weight in [(every, 0.5), *by_word, (whole.get(prompt, Counter()), 9)]:
            for label, count in counts.items():
                weights[label] = weights.get(label, 0.0) + weight * count / counts.total()
        return {label: weight / sum(weights.values()) for label, weight in weights.items()}

    return say


def _logprob(token: str, yes: float) -> dict[str, Any]:
    """A token with its alternatives: at the answer `yes` and `no`, elsewhere none."""
    word = token.casefold()
    likelihoods = {token: 0.999}
    if word in ("yes", "no"):
        names = {"yes": "yes", "no": "no"} if token == word else {"yes": "Yes", "no": "No"}
        likelihoods = {names["yes"]: max(yes, 1e-9), names["no"]: max(1 - yes, 1e-9)}
    top = [{"token": name, "logprob": math.log(share), "bytes": None} for name, share in likelihoods.items()]
    return {"token": token, "logprob": math.log(likelihoods[token]), "bytes": None, "top_logprobs": top}


def _refusal(fault: Fault, text: str, key: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers; the messages quote what they can, as real ones do."""
    kind, _, argument = fault.partition(":")
    headers: dict[str, str] = {}
    if argument.startswith("ms"):
        headers["retry-after-ms"] = argument[2:]
    elif argument.startswith("date"):
        headers["Retry-After"] = formatdate(time.time() + float(argument[4:]), usegmt=True)
    elif argument == "never":
        headers["x-should-retry"] = "false"
    elif argument:
        headers["Retry-After"] = argument
    status, code, name, message = {
        "429": (429, "rate_limit_exceeded", "requests", "Rate limit reached"),
        "quota": (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota"),
        "400": (400, None, "invalid_request_error", f"Invalid content: {text}"),
        "401": (401, "invalid_api_key", "invalid_request_error", f"Incorrect API key provided: {key}."),
        "403": (403, None, "invalid_request_error", "You are not allowed to sample from this model"),
        "training_not_available": (403, "training_not_available", "invalid_request_error", "Fine-tuning is closed to new customers"),
        "404": (404, "model_not_found", "invalid_request_error", "The model does not exist"),
    }.get(kind, (int(kind) if kind.isdigit() else 500, None, "server_error", f"The server had an error with: {text}"))
    param = "messages[0].content" if kind == "400" else None
    return status, {"error": {"message": message, "type": name, "code": code, "param": param}}, headers


def _form(kind: str, content: bytes) -> dict[str, bytes]:
    """The fields of a multipart form."""
    boundary = b"--" + kind.partition("boundary=")[2].strip('"').encode()
    fields: dict[str, bytes] = {}
    for part in content.split(boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        if found := re.search(rb'[; ]name="([^"]+)"', head):
            fields[found[1].decode()] = value.removesuffix(b"\r\n")
        if found := re.search(rb'filename="([^"]+)"', head):
            fields["filename"] = found[1]
    return fields


# How it is started


@contextmanager
def serving(port: int = 0, **options: Any) -> Iterator[Server]:
    """A server in a thread of this process; `options` are those of `Server`."""
    with Server(port, **options) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def openai_server() -> Iterator[Server]:
    """A server without faults, at once: a test sets `server.script` and the rest as it likes."""
    with serving() as server:
        yield server


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until it is killed, and prints its address as its first line."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.openai_server", description="A server that speaks OpenAI's protocol.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", default=KEY)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--batch-seconds", type=float, default=0.0)
    parser.add_argument("--file-seconds", type=float, default=0.0)
    parser.add_argument("--job-seconds", type=float, default=0.0)
    parser.add_argument(
        "--rule", default="tests.support.openai_server:by_hash", help="module:function, from a text to the probability of yes"
    )
    parser.add_argument("--share", action="append", default=[], metavar="FAULT=SHARE", help=f"faults: {', '.join(FAULTS)}")
    given = parser.parse_args(arguments)
    module, _, name = given.rule.partition(":")
    shares = {fault: float(share) for fault, _, share in (each.rpartition("=") for each in given.share)}
    server = Server(
        given.port,
        rule=getattr(import_module(module), name),
        script=Script(share=shares),
        latency=given.latency,
        batch_seconds=given.batch_seconds,
        file_seconds=given.file_seconds,
        job_seconds=given.job_seconds,
        key=given.key,
        keeps_bodies=False,
    )
    print(server.url, flush=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
