"""A node of the client whose answers are known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from twisted_patroni.client.node import Node
from twisted_patroni.client.response import Response
from twisted_patroni.client.settings import ClientSettings

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from twisted_patroni.client.pool import Pool

NODE = "http://a:8008"


@define(eq=False)
class Answers:
    """A pool that gives the answers of a list, and notes what it was asked.

    :ivar asked: method, target, body and what else was said, of each request.
    """

    answers: list[tuple[int, Any]] = field(factory=list)
    asked: list[tuple[str, str, Any, dict[str, Any]]] = field(factory=list)
    url: str = NODE
    settings: ClientSettings = field(factory=ClientSettings)
    reactor: Clock = field(factory=Clock)

    def request(
        self, method: str, path: str, *, body: bytes | None = None, **more: Any
    ) -> Deferred[Response]:
        """Give the next answer."""
        said = {key: value for key, value in more.items() if value is not None}
        self.asked.append((method, path, None if body is None else json.loads(body), said))
        status, content = self.answers.pop(0)
        kind = "text/html" if isinstance(content, str) else "application/json"
        text = content if isinstance(content, str) else json.dumps(content)
        headers = Headers({"Content-Type": [kind]})
        return succeed(Response(f"{NODE}{path}", status, "Phrase", headers, text.encode()))


class NodeCase(SynchronousTestCase):
    """A node whose answers are known."""

    def setUp(self) -> None:
        """Make it."""
        self.pool = Answers()
        self.node = Node(cast("Pool", self.pool))

    def answers(self, status: int, content: Any) -> None:
        """Have the next request answered."""
        self.pool.answers.append((status, content))

    def get(self, asking: Coroutine[Any, Any, Any]) -> Any:
        """Return what a method returns at once."""
        return self.successResultOf(Deferred.fromCoroutine(asking))

    def fails(self, asking: Coroutine[Any, Any, Any], error: type[Exception]) -> Any:
        """Return what a method fails with at once."""
        return self.failureResultOf(Deferred.fromCoroutine(asking), error).value

    def last(self) -> tuple[str, str, Any, Mapping[str, Any]]:
        """Return what was asked last."""
        return self.pool.asked[-1]
