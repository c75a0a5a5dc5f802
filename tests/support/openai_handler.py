"""The connections of the tests' OpenAI server: what is asked over HTTP, and how answers and faults are sent."""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.support.openai_model import embedded, text_of
from tests.support.openai_script import PAID, Fault, Script, digest, refusal_of

if TYPE_CHECKING:
    from tests.support.openai_server import Server

STALL = 60.0
"""Seconds after which a stalled request is dropped, if nobody else ends it."""


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
            self._send(*refusal_of("401", "", key))
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
            self._send(*refusal_of(fault, "", ""))

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
        text = given if isinstance(given, str) else "\n".join(given) if path == "/embeddings" else text_of(given[-1]["content"])
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
            elif kind in ("drop", "cut", "html", "empty", "wordless"):
                self._broken(kind, self._made(path, body, None))
            elif path == "/decisions" and not all(each.get("instructions") and len(each["choices"]) > 1 for each in body["questions"]):
                self._send(*refusal_of("400", text, key))
            elif kind in PAID or not kind:
                made = self._made(path, body, kind or None)
                with server.lock:
                    server.record.answered[asked.digest] += 1
                if kind == "slow":
                    self._trickle(made, float(argument or 1))
                else:
                    self._send(200, made)
            else:
                self._send(*refusal_of(asked.fault or "", text, key))
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
        elif fault == "wordless":
            self._send(200, json.dumps(made | {"choices": []}).encode())
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


def _page(listed: list[dict[str, Any]], query: dict[str, list[str]]) -> dict[str, Any]:
    """A part of a list, as it is asked for."""
    after = query.get("after", [""])[0]
    start = [each["id"] for each in listed].index(after) + 1 if after else 0
    limit = int(query.get("limit", ["20"])[0])
    return {"object": "list", "data": listed[start : start + limit], "has_more": start + limit < len(listed)}


def _token_id(label: str) -> int:
    """Any number, the same for the same text."""
    return int(digest(label)[:7], 16)


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
