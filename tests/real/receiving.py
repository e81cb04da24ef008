"""Receivers of webhooks: one that keeps what it is sent and fails on demand, and a black hole."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import deferLater
from twisted.protocols.policies import WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.real.harness import free_ports
from twisted_patroni.demo.layout import HOST

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IListeningPort
    from twisted.web.http import Request


@frozen
class Delivery:
    """What a receiver was sent in one attempt.

    :param id: the message's id.
    :param event: the document.
    :param genuine: whether the signature is right.
    :param code: what was answered.
    """

    id: str
    event: dict[str, Any]
    genuine: bool
    code: int


class _Inbox(Resource):
    isLeaf = True

    def __init__(self, take: Callable[[Request, bytes], int]) -> None:
        super().__init__()
        self._take = take

    def render_POST(self, request: Request) -> bytes:
        assert request.content is not None
        request.setResponseCode(self._take(request, request.content.read()))
        return b"{}"


@define(eq=False)
class Receiver:
    """A receiver in this process.

    :param secret: verifies signatures.
    :param answer: returns the status for an attempt, by their number so far.
    :ivar deliveries: all attempts.
    """

    secret: str
    answer: Callable[[int], int] = lambda number: 200
    port: int = field(factory=lambda: free_ports(1))
    deliveries: list[Delivery] = field(factory=list)
    _listening: IListeningPort | None = None
    _factory: WrappingFactory[Any] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.port}/in"

    @property
    def name(self) -> str:
        """What metrics call it."""
        return f"{HOST}:{self.port}/in"

    async def open(self) -> None:
        """Listen."""
        endpoint = TCP4ServerEndpoint(reactor, self.port, interface=HOST)
        self._factory = WrappingFactory(Site(_Inbox(self._take)))
        self._listening = await endpoint.listen(self._factory)

    async def shut(self) -> None:
        """End all connections, and refuse further ones."""
        port, self._listening = self._listening, None
        if port is not None:
            await maybeDeferred(port.stopListening)
        if self._factory is not None:
            for each in tuple(self._factory.protocols):
                each.abortConnection()
            while self._factory.protocols:
                await deferLater(reactor, 0.01)

    def _take(self, request: Request, body: bytes) -> int:
        identity, stamp, signature = (
            request.getHeader(f"webhook-{name}") or "" for name in ("id", "timestamp", "signature")
        )
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        digest = hmac.new(key, f"{identity}.{stamp}.".encode() + body, hashlib.sha256).digest()
        genuine = signature == f"v1,{base64.b64encode(digest).decode()}"
        code = self.answer(len(self.deliveries))
        self.deliveries.append(Delivery(identity, json.loads(body), genuine, code))
        return code

    def accepted(self, event_type: str) -> list[dict[str, Any]]:
        """Return the events of a type for which the answer was 200.

        :param event_type: the type.
        """
        return [
            each.event
            for each in self.deliveries
            if each.code == 200 and each.event["type"] == event_type
        ]


class BlackHole:
    """A port whose packets nobody answers: its queue of connections is full."""

    def __init__(self) -> None:
        self._sockets = [socket.create_server((HOST, 0), backlog=0)]
        self.port: int = self._sockets[0].getsockname()[1]
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect((HOST, self.port))
            self._sockets.append(filler)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.port}/hole"

    def close(self) -> None:
        """Be gone."""
        for each in self._sockets:
            each.close()
