"""The client: questions, texts and vectors; batches and jobs are inherited."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from beepgpt.connectors.openai.answers import first_of, read_answer, read_text, read_vectors
from beepgpt.connectors.openai.batches import BatchCalls
from beepgpt.connectors.openai.caller import guessed_tokens
from beepgpt.connectors.openai.jobs import JobCalls
from beepgpt.connectors.openai.values import PATHS, ProviderAnswer, Request, TextRequest, body_of, text_body
from beepgpt.errors import NoMoney, NotAllowed, ProviderFailed

EMBEDDINGS = "/embeddings"


class Client(BatchCalls, JobCalls):
    """A client of one provider, for any thread. Use it in a `with`, or close it."""

    def ask(self, request: Request) -> ProviderAnswer:
        """Answers a yes-or-no question; retries as the provider's settings say. Raises ProviderFailed."""
        return self._result(self.submit(request))

    def submit(self, request: Request) -> Future[ProviderAnswer]:
        """Queues a question without waiting; `concurrency` of them run at the same time, in their order."""
        return self._begin(self._ask(request))

    def ask_text(self, request: TextRequest) -> Future[str]:
        """Queues a request for a text."""
        return self._begin(self._ask_text(request))

    def embed(self, model: str, texts: Sequence[str], deadline: float | None = None) -> Future[list[tuple[float, ...]]]:
        """Queues one request for a vector of each text. `deadline`: seconds from now, including the wait for a slot."""
        body = {"model": model, "input": list(texts), "encoding_format": "float"}
        return self._begin(
            self._asked(EMBEDDINGS, body, lambda content: read_vectors(content, len(texts)), guessed_tokens(*texts), model, deadline)
        )

    def owner(self) -> str:
        """The owner of the server's first model (`vllm`, say); empty if the server lists none."""

        async def look() -> str:
            page: Any = await self._api.models.list()
            if isinstance(page, str):  # a web page, where a server has no such list
                return ""
            first = first_of(page.model_dump().get("data"))
            return str(first.get("owned_by") or "") if first else ""

        try:
            return self._result(self._begin(self._retried(look, read=str)))
        except (NotAllowed, NoMoney):
            raise
        except ProviderFailed:
            return ""

    async def _ask(self, request: Request) -> ProviderAnswer:
        way = request.model.way
        tokens = request.tokens or guessed_tokens(request.instructions, request.text, *(text for text, _ in request.shots))
        return await self._asked(PATHS[way], body_of(request), lambda content: read_answer(way, content), tokens, request.model.name)

    async def _ask_text(self, request: TextRequest) -> str:
        tokens = guessed_tokens(request.instructions, request.text) + request.model.max_tokens
        return await self._asked(PATHS["chat"], text_body(request), read_text, tokens, request.model.name)
