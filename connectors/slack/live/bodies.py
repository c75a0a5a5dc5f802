"""Bodies of requests while they come: a budget of bytes over all of them."""

from __future__ import annotations


class BodyBudget:
    """Bytes of bodies that are not checked yet, over all connections: where they are too many, the largest makes room.

    >>> budget = BodyBudget(10)
    >>> small, large = Body(budget), Body(budget)
    >>> small.add(b"abc"), large.add(b"12345678"), small.add(b"def")
    (True, False, True)
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bodies: set[Body] = set()

    def make_room(self, body: Body) -> None:
        """Drop the largest bodies until all of them fit."""
        self._bodies.add(body)
        while sum(each.held for each in self._bodies) > self._most:
            max(self._bodies, key=lambda each: each.held).drop()

    def leave(self, body: Body) -> None:
        """Forget a body, which is checked or dropped."""
        self._bodies.discard(body)


class Body:
    """What has come of a request's body."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._chunks: list[bytes] = []
        self._is_dropped = False
        self.held = 0
        """Bytes that are kept."""
        self.size = 0
        """Bytes that came."""

    def add(self, chunk: bytes, most: int | None = None, head: int = 0) -> bool:
        """Keep a chunk; of a body of more than `most` bytes only the first `head`.

        Returns False if the body was dropped, for others to have room.
        """
        self.size += len(chunk)
        if self._is_dropped:
            return False
        if most is None or self.size <= most:
            self._chunks.append(chunk)
            self.held += len(chunk)
            self._budget.make_room(self)
        elif self.held > head:
            self._chunks = [self.content()[:head]]
            self.held = head
        return not self._is_dropped

    def content(self) -> bytes:
        """The bytes that are kept."""
        return b"".join(self._chunks)

    def drop(self) -> None:
        """Keep nothing, and take nothing more."""
        self._is_dropped = True
        self._chunks, self.held = [], 0
        self._budget.leave(self)
