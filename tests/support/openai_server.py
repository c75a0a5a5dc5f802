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
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from importlib import import_module
from typing import Any

import pytest

from tests.support.openai_handler import Handler
from tests.support.openai_model import Labeler, Rule, Writer, by_hash, in_short, learned, logprob_of, text_of
from tests.support.openai_script import FAULTS, PAID, Asked, Record, Script, digest, refusal_of

KEY = "sk-test-0123456789abcdef"
CACHED_FROM = 1024
"""Tokens of a shared prefix that a cache takes."""
STEPS = 12
"""Events of a fine-tuning job that are returned."""


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
            return self.said(body, text_of(body["messages"][-1]["content"]), fault)
        messages = [(each["role"], text_of(each["content"])) for each in body["messages"]]
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
            choice["logprobs"] = {"content": [logprob_of(each, yes) for each in tokens], "refusal": None}
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
        messages = [("user", given)] if isinstance(given, str) else [(each["role"], text_of(each["content"])) for each in given]
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
            text = text_of(line["body"]["messages"][-1]["content"])
            asked = self.meet("batch", text, {}, line["body"])
            kind = asked.fault.partition(":")[0] if asked.fault else None
            if kind in PAID:
                with self.lock:
                    self.record.answered[asked.digest] += 1
                good.append(line_out | {"response": {"status_code": 200, "request_id": "r", "body": self.chat(line["body"], kind)}})
            else:
                status, body, _ = refusal_of(asked.fault or "500", text, "")
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
        "--rule", default="tests.support.openai_model:by_hash", help="module:function, from a text to the probability of yes"
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
