"""The network of a cluster in memory: an agent that asks the members, and what is on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from attrs import define
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost, DNSLookupError
from twisted.internet.error import ConnectionRefusedError as RefusedConnection
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed
from twisted.web.iweb import IAgent
from zope.interface import implementer

from twisted_patroni.client.testing.answers import Answer, Collected, Later
from twisted_patroni.client.testing.question import Question

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IDelayedCall
    from twisted.internet.task import Clock
    from twisted.web.http_headers import Headers
    from twisted.web.iweb import IBodyProducer, IResponse

    from twisted_patroni.client.testing.nodes import MemoryNode
    from twisted_patroni.client.testing.pages import Pages


def _lost() -> Exception:
    return ResponseFailed([Failure(ConnectionLost())])


@define(eq=False)
class _Flight:
    """A request that is on its way.

    :param node: who is asked.
    :param path: what for.
    :param question: the request.
    :param answer: the answer to come.
    :param timer: when it comes.
    :param until: until when it waits for a change, at most.
    :param judged: it is being carried out.
    """

    node: MemoryNode
    path: str
    question: Question
    answer: Deferred[IResponse]
    timer: IDelayedCall | None = None
    until: float | None = None
    judged: bool = False

    def end(self) -> None:
        """Wait no more for the time of the answer."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()


@implementer(IAgent)
class MemoryNetwork:
    """Brings requests to members, and their answers back.

    :param clock: for all waiting.
    :param nodes: the members by name.
    :param pages: what they answer.
    :ivar asked: method and URL of each request, in order.
    """

    def __init__(self, clock: Clock, nodes: Mapping[str, MemoryNode], pages: Pages) -> None:
        self.clock = clock
        self.asked: list[tuple[str, str]] = []
        self._nodes = nodes
        self._hosts = {urlsplit(node.url).netloc: node for node in nodes.values()}
        self._pages = pages
        self._flights: list[_Flight] = []

    @property
    def open(self) -> int:
        """How many requests are on their way, those that follow events included.

        >>> memory.open
        0
        """
        following = sum(len(node.subscribers) for node in self._nodes.values())
        return len(self._flights) + following

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Ask a member, as :meth:`twisted.web.iweb.IAgent.request` has it.

        :param method: the method.
        :param uri: the URL.
        :param headers: the headers.
        :param bodyProducer: the body.

        >>> response = await memory.request(b"GET", b"http://a:8008/primary")
        >>> response.code
        200
        """
        url = uri.decode("ascii")
        parts = urlsplit(url)
        self.asked.append((method.decode("ascii"), url))
        node = self._hosts.get(parts.netloc)
        if node is None:
            return fail(DNSLookupError(f"no member is at {parts.netloc}"))
        refusal = RefusedConnection() if not node.alive else node.refusal
        if refusal is not None:
            return fail(refusal)
        given = {
            name.decode("latin-1").lower(): values[0].decode("latin-1")
            for name, values in ([] if headers is None else headers.getAllRawHeaders())
        }
        body = Collected()
        if bodyProducer is not None:
            # Those of the client are done at once.
            bodyProducer.startProducing(body)
        asked = Question.of(
            method.decode("ascii"), parts.path, parts.query, given, b"".join(body.parts)
        )
        return self._take(node, parts.path, asked)

    # What can happen on the way

    def hang(self, name: str, path: str | None = None) -> None:
        """Let a member take requests, and answer none; those who follow it are told nothing.

        :param name: the member's name.
        :param path: only requests for this path, without what follows a ``?``.

        >>> from twisted.internet.defer import Deferred
        >>> memory.hang("a")
        >>> asked = Deferred.fromCoroutine(memory.node("a").request("GET", "/"))
        >>> memory.revive("a")
        >>> (await asked).status
        200
        """
        self._named(name).hung.add(path)

    def refuse(self, name: str, error: Exception | None = None) -> None:
        """Let connections to a member fail; those that are open stay.

        :param name: the member's name.
        :param error: what they fail with; by default they are refused.

        >>> from twisted.internet.error import TimeoutError
        >>> memory.refuse("a", TimeoutError())
        >>> await memory.node("a").status()
        Traceback (most recent call last):
        twisted_patroni.client.errors.Unreachable: http://a:8008/patroni does not answer
        """
        self._named(name).refusal = error or RefusedConnection()

    def cut(self, name: str) -> None:
        """Break a member's connections; it accepts new ones.

        :param name: the member's name.

        >>> memory.cut("a")
        """
        self._cut(self._named(name))

    def dismiss(self, name: str, reason: str = "the node shuts down") -> None:
        """Let a member end the streams of events, and say why.

        :param name: the member's name.
        :param reason: what it says.

        >>> memory.dismiss("a")
        """
        for subscriber in list(self._named(name).subscribers):
            subscriber.dismiss(reason)

    def delay(self, name: str, seconds: float) -> None:
        """Let a member take its time with each answer.

        :param name: the member's name.
        :param seconds: how long, by the clock.

        >>> memory.delay("b", 0.2)
        """
        self._named(name).delay = seconds

    def answer(
        self,
        name: str,
        path: str,
        status: int | None,
        body: object = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Have a member answer all requests for a path with this from now on.

        :param name: the member's name.
        :param path: the path, without what follows a ``?``.
        :param status: the status; ``None`` for what it answers by itself.
        :param body: bytes, a text, or what is sent as JSON.
        :param headers: the headers.

        >>> memory.answer("a", "/config", 502, b"<html>", {"Content-Type": "text/html"})
        >>> (await memory.node("a").request("GET", "/config")).status
        502
        """
        canned = self._named(name).canned
        if status is None:
            canned.pop(path, None)
        elif isinstance(body, bytes | str):
            content = body.encode() if isinstance(body, str) else body
            canned[path] = Answer(status, content, headers or {})
        else:
            given = Answer.document(status, body)
            canned[path] = Answer(status, given.body, {**given.headers, **(headers or {})})

    # How it is done

    def _named(self, name: str) -> MemoryNode:
        if name not in self._nodes:
            raise ValueError(f"{name!r} is none of the members: {', '.join(self._nodes)}")
        return self._nodes[name]

    def _flights_to(self, node: MemoryNode) -> list[_Flight]:
        return [each for each in self._flights if each.node is node]

    def _cut(self, node: MemoryNode) -> None:
        """Break all connections of a member."""
        for flight in self._flights_to(node):
            self._flights.remove(flight)
            flight.end()
            flight.answer.errback(Failure(_lost()))
        for subscriber in list(node.subscribers):
            subscriber.cut(_lost())

    def _take(self, node: MemoryNode, path: str, asked: Question) -> Deferred[IResponse]:
        answer: Deferred[IResponse] = Deferred(lambda _: self._give_up(flight))
        flight = _Flight(node, path, asked, answer)
        self._flights.append(flight)
        if node.delay:
            flight.timer = self.clock.callLater(node.delay, self._arrive, flight)
        else:
            self._arrive(flight)
        return answer

    def _arrive(self, flight: _Flight) -> None:
        node, asked = flight.node, flight.question
        if flight not in self._flights or flight.judged or node.silent or flight.path in node.hung:
            return
        flight.judged = True  # whoever is told of what it changes may look at all flights again
        found = node.canned.get(flight.path) or self._pages.answer(node, asked)
        flight.judged = False
        if isinstance(found, Later):
            if not self._is_over(flight, found.seconds):
                return
            found = found.answer
        # What it asks for may have broken this very connection.
        if flight in self._flights:
            self._flights.remove(flight)
        flight.end()
        is_head = asked.method == "HEAD"
        response = found.response(is_head=is_head) if isinstance(found, Answer) else found
        if not flight.answer.called:
            flight.answer.callback(response)

    def _is_over(self, flight: _Flight, seconds: float) -> bool:
        """Tell whether a request has waited for long enough; if not, it waits on."""
        now = self.clock.seconds()
        if flight.until is None:
            flight.end()
            flight.until = now + seconds
            flight.timer = self.clock.callLater(seconds, self._arrive, flight)
        return now >= flight.until

    def _look_again(self) -> None:
        """Answer those who have waited for a change, if this was it."""
        for flight in [each for each in self._flights if each.until is not None]:
            self._arrive(flight)

    def _give_up(self, flight: _Flight) -> None:
        flight.end()
        if flight in self._flights:
            self._flights.remove(flight)
