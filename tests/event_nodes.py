"""Doubles of nodes for clients: real HTTP, told by the test what to say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from attrs import define, field
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.web.iweb import IAgent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.web.http_headers import Headers
    from twisted.web.iweb import IBodyProducer, IResponse
    from twisted.web.server import Request

TIME = "2026-11-21T15:30:00+00:00"
_KEYS = ("Accept", "Authorization", "Last-Event-ID")


def member(name: str, role: str = "replica", **changes: Any) -> dict[str, Any]:
    """Return a member's document.

    :param name: its name; its API is at ``http://NAME:8008``.
    :param role: its role.
    :param changes: what is different from a healthy member.
    """
    leads = role == "leader"
    document: dict[str, Any] = {
        "name": name,
        "role": role,
        "state": "running" if leads else "streaming",
        "api_url": f"http://{name}:8008/patroni",
        "host": "127.0.0.1",
        "port": 5432,
        "timeline": 3,
        "lag": None if leads else 0,
        "lag_class": None if leads else "low",
        "tags": {},
        "pending_restart": False,
        "scheduled_restart": None,
    }
    return {**document, **changes}


def view(*members: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return what a newcomer is told.

    :param members: the members' documents; by default ``a``, who leads, and ``b``.
    :param changes: what is different from a healthy cluster.
    """
    document: dict[str, Any] = {
        "scope": "demo",
        "stream": "6fa3c001",
        "leader": "a",
        "timeline": 3,
        "locked": True,
        "paused": False,
        "failsafe": False,
        "dcs": True,
        "switchover": None,
        "sync": [],
        "members": list(members) or [member("a", "leader"), member("b")],
        "node": {
            "name": "a",
            "state": "running",
            "role": "primary",
            "pending_restart": [],
            "drain": None,
            "config": "0",
        },
        "operations": [],
        "history": [],
    }
    return {**document, **changes}


def event(kind: str, data: Any, number: int = 1) -> dict[str, Any]:
    """Return an event's object.

    :param kind: its type.
    :param data: what it tells.
    :param number: its number.
    """
    return {"number": number, "time": TIME, "type": kind, "data": data}


@define(eq=False)
class EventNode(Resource):
    """A node that tells of events by the wire format, and of nothing else but its cluster.

    :param stream: the name of its stream.
    :ivar answer: if set, the status and the body of all answers.
    :ivar cluster: what ``GET /cluster`` says; without it that is unknown.
    :ivar status: what ``GET /patroni`` says; without it that is unknown.
    :ivar plain: it has no events, as upstream's daemon.
    :ivar asked: what was asked for: the target, and the headers that count.
    :ivar open: the requests that it tells of events.
    :ivar silent: it takes requests, and answers none.
    :ivar greeting: what it tells newcomers as a snapshot.
    """

    stream: str = "6fa3c001"
    answer: tuple[int, bytes] | None = field(default=None, init=False)
    cluster: dict[str, Any] | None = field(default=None, init=False)
    status: dict[str, Any] | None = field(default=None, init=False)
    plain: bool = field(default=False, init=False)
    asked: list[tuple[str, dict[str, str]]] = field(factory=list, init=False)
    open: list[Request] = field(factory=list, init=False)
    silent: bool = field(default=False, init=False)
    greeting: dict[str, Any] | None = field(default=None, init=False)
    number: int = field(default=100, init=False)
    isLeaf = True

    def __attrs_post_init__(self) -> None:
        Resource.__init__(self)

    def render_GET(self, request: Request) -> bytes | int:
        """Answer, or begin to tell."""
        target = request.uri.decode()
        found = {name: request.getHeader(name) for name in _KEYS}
        self.asked.append((target, {name: text for name, text in found.items() if text}))
        if self.silent:
            return NOT_DONE_YET
        if self.answer is not None:
            request.setResponseCode(self.answer[0])
            return self.answer[1]
        documents = {"/cluster": self.cluster, "/patroni": self.status}
        if target in documents:
            request.setResponseCode(404 if documents[target] is None else 200)
            return json.dumps(documents[target]).encode()
        if self.plain:
            request.setResponseCode(503)
            return b'{"state": "running", "patroni": {"version": "4.1.5"}}'
        request.setHeader("Content-Type", "text/event-stream; charset=utf-8")
        request.notifyFinish().addBoth(lambda _: self.open.remove(request))
        self.open.append(request)
        request.write(b": \n\n")
        if self.greeting is not None and not request.getHeader("Last-Event-ID"):
            self.say("snapshot", self.greeting)
        return NOT_DONE_YET

    def say(self, kind: str, data: Any) -> dict[str, Any]:
        """Tell everybody of an event, and return its object."""
        self.number += 1
        document = event(kind, data, self.number)
        text = f"event: {kind}\nid: {self.number}.{self.stream}\ndata: {json.dumps(document)}\n\n"
        self.send(text.encode())
        return document

    def send(self, data: bytes) -> None:
        """Send everybody bytes."""
        for request in self.open:
            request.write(data)

    def cut(self) -> None:
        """End all connections, as a node does that dies."""
        for request in tuple(self.open):
            if request.transport is not None:
                request.transport.loseConnection()


@implementer(IAgent)
class Network:
    """Nodes by their names; who is not there refuses connections.

    :ivar nodes: the nodes.
    :ivar attempts: the names of those who were asked, in order.
    """

    def __init__(self, **nodes: EventNode) -> None:
        self.nodes = nodes
        self.attempts: list[str] = []
        self._agents: dict[int, RequestTraversalAgent] = {}

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Send a request to the node that is named in the URL."""
        name = urlsplit(uri.decode()).hostname or ""
        self.attempts.append(name)
        node = self.nodes.get(name)
        if node is None:
            return fail(Refused())
        agent = self._agents.setdefault(id(node), RequestTraversalAgent(node))
        asked: Deferred[IResponse] = agent.request(method, uri, headers, bodyProducer)
        return asked

    def flush(self) -> None:
        """Let all that was sent arrive."""
        for agent in tuple(self._agents.values()):
            agent.flush()


@define(eq=False)
class Notes:
    """A listener that notes down what it is told.

    :ivar told: all of it, in order.
    :ivar events: the objects that were received.
    :param when_told: called with each object.
    """

    when_told: Callable[[Any], None] | None = None
    told: list[tuple[Any, ...]] = field(factory=list, init=False)
    events: list[Any] = field(factory=list, init=False)

    def connected(self, url: str, polling: bool) -> None:
        """Note that a node answers."""
        self.told.append(("connected", url, polling))

    def disconnected(self, url: str, reason: str) -> None:
        """Note that it does no more."""
        self.told.append(("disconnected", url, reason))

    def failed(self, url: str, reason: str) -> None:
        """Note that a node cannot be reached."""
        self.told.append(("failed", url, reason))

    def received(self, event: Any) -> None:
        """Note an event."""
        self.events.append(event)
        if self.when_told is not None:
            self.when_told(event)
