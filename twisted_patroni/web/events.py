"""`GET /events`: what changes in the cluster, as it happens, in the way the client asks for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from twisted_patroni.events import TYPES, Event, Position
from twisted_patroni.settings import Right
from twisted_patroni.web import websocket
from twisted_patroni.web.answers import Answer
from twisted_patroni.web.longpoll import LONGEST, TIMEOUT, LongPoll
from twisted_patroni.web.resource import Refused, refuse
from twisted_patroni.web.routing import Parameter, endpoint
from twisted_patroni.web.sse import EVENT_STREAM, Blocks, SseReader
from twisted_patroni.web.subscribers import Subscribers, Wish
from twisted_patroni.web.websocket import WebSocketReader
from twisted_patroni.web.wire import HTTP_1_1

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from twisted_patroni.engine.interface import Engine
    from twisted_patroni.web.answers import Headers
    from twisted_patroni.web.request import ApiRequest, Takeover
    from twisted_patroni.web.resource import Call

_LONGEST_SHOWN = 100
_SECONDS = re.compile(r"\d{1,4}(\.\d{1,6})?", re.ASCII)
_LATER: Headers = (("Retry-After", "1"),)


@define(eq=False)
class Snapshots:
    """Shows node and cluster to newcomers; all of one second share what they see.

    :param subscribers: who asks.
    :param engine: tells which configuration the node works by.
    :param operations: returns the documents of operations that have not ended.
    """

    subscribers: Subscribers
    engine: Engine
    operations: Callable[[], list[Any]]
    _shown: tuple[object, ...] = field(default=(), init=False)
    _event: Event | None = field(default=None, init=False)

    def take(self) -> Event:
        """Return node and cluster as they are, as a message; the events after its number follow."""
        stream = self.subscribers.stream
        seconds = stream.clock.seconds()
        shown = (int(seconds), stream.newest, id(stream.view))
        if self._event is None or shown != self._shown:
            self._shown = shown
            self._event = Event(stream.newest, seconds, "snapshot", self._picture(), stream.view)
        return self._event

    def _picture(self) -> dict[str, Any]:
        stream = self.subscribers.stream
        view = {} if stream.view is None else stream.view.document
        return {
            **view,
            "stream": stream.name,
            "node": {**view.get("node", {}), "config": self.engine.applied_config()},
            "operations": self.operations(),
        }


def _tokens(request: ApiRequest, name: bytes) -> set[str]:
    """Return the elements of a header's list, without their parameters, in lower case."""
    values = request.requestHeaders.getRawHeaders(name, [])
    elements = b",".join(values).decode("latin-1").lower().split(",")
    return {element.partition(";")[0].strip() for element in elements}


def _wants_websocket(request: ApiRequest) -> bool:
    # In HTTP/1.0 there is no Upgrade (RFC 9110 section 7.8).
    return (
        request.method == b"GET"
        and request.clientproto == HTTP_1_1
        and "websocket" in _tokens(request, b"Upgrade")
        and "upgrade" in _tokens(request, b"Connection")
    )


def same_origin(origin: str, host: str) -> bool:
    """Tell whether a page comes from this node: from its host and port.

    The scheme does not count, for TLS may end at a proxy.

    :param origin: what the browser says that the page comes from.
    :param host: what it believes to speak to.
    """
    scheme, found, place = origin.partition("://")
    return bool(found and scheme in ("http", "https") and place and place == host.lower())


def _cross_origin(request: ApiRequest, listed: Collection[str]) -> Headers:
    """Return the headers that allow a page of another origin to read the answer.

    :raise Refused: if it comes from nowhere known.
    """
    origins = request.requestHeaders.getRawHeaders(b"Origin", [])
    hosts = request.requestHeaders.getRawHeaders(b"Host", [b""])
    host = hosts[0].decode("latin-1")
    allowed: Headers = ()
    for origin in [raw.decode("latin-1").strip().lower() for raw in origins]:
        if origin in listed:
            allowed = (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))
        elif not same_origin(origin, host):
            shown = origin[:_LONGEST_SHOWN]
            sentence = f"pages of the origin {shown!r} may not read this: see restapi.origins"
            raise refuse(403, sentence)
    return allowed


def _types(query: str | None) -> frozenset[str] | None:
    if query is None:
        return None
    named = {name.strip() for name in query.split(",")}
    for name in sorted(named.difference(TYPES)):
        known = ", ".join(TYPES)
        shown = name[:_LONGEST_SHOWN]
        raise refuse(400, f"types: there are no events of type {shown!r}; the types are {known}")
    return frozenset(named)


def _position(call: Call, *, by_header: bool) -> Position | None:
    name, text = "after", call.query.get("after", "")
    header = call.request.requestHeaders.getRawHeaders(b"Last-Event-ID", [b""])[0]
    if by_header and header:
        name, text = "Last-Event-ID", header.decode("latin-1")
    if not text:
        return None
    try:
        return Position.parse(text)
    except ValueError as error:
        raise refuse(400, f"{name}: {error}") from error


def _timeout(query: str | None) -> float:
    if query is None:
        return TIMEOUT
    if not _SECONDS.fullmatch(query) or float(query) > LONGEST:
        shown = query[:_LONGEST_SHOWN]
        raise refuse(400, f"timeout: expected 0 to {LONGEST:.0f} seconds, but got {shown!r}")
    return float(query)


@define(eq=False)
class EventPages:
    """Lets clients follow the events.

    :param subscribers: those who do.
    :param snapshots: what newcomers are shown.
    :param origins: returns the origins, besides this node's own, whose pages may follow them.
    """

    subscribers: Subscribers
    snapshots: Snapshots
    origins: Callable[[], Collection[str]]
    _blocks: Blocks = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._blocks = Blocks(self.subscribers.stream.name)

    @endpoint(
        "GET",
        "/events",
        summary="What changes, as it happens: by WebSocket, Server-Sent Events or long polling.",
        right=Right.READ,
        query=(
            Parameter("after", "The position to go on from, NUMBER or NUMBER.STREAM."),
            Parameter("types", "The types of events that are wanted, separated by commas."),
            Parameter("timeout", "How many seconds a long poll waits, 0 to 60."),
        ),
        headers=(
            Parameter("Accept", "Server-Sent Events are asked for by text/event-stream."),
            Parameter("Upgrade", "A WebSocket is asked for by websocket."),
            Parameter("Last-Event-ID", "The position to go on from, before the parameter."),
            Parameter("Origin", "Where the page comes from that asks, if one does."),
        ),
    )
    async def events(self, call: Call) -> Answer | Takeover:
        """Answer in the way that is asked for."""
        headers = _cross_origin(call.request, self.origins())
        try:
            reply = await self._follow(call, headers)
        except Refused as refused:
            reply = refused.answer
        if isinstance(reply, Answer):
            return evolve(reply, headers=(*reply.headers, *headers))
        return reply

    async def _follow(self, call: Call, headers: Headers) -> Answer | Takeover:
        request = call.request
        by_socket = _wants_websocket(request)
        by_sse = not by_socket and EVENT_STREAM in _tokens(request, b"Accept")
        wish = Wish(_types(call.query.get("types")), _position(call, by_header=by_sse))
        seconds = _timeout(call.query.get("timeout"))
        refusal = websocket.refusal(request) if by_socket else None
        if refusal is not None:
            return refusal
        if self.subscribers.stream.view is None:
            raise refuse(503, "this node has not seen the cluster yet", _LATER)
        if by_socket or by_sse:
            self._admit(request)
        if by_socket:
            return WebSocketReader(self.subscribers, wish, self.snapshots.take)
        if by_sse:
            return SseReader(self.subscribers, wish, self.snapshots.take, self._blocks, headers)
        poll = LongPoll(self.subscribers, wish, self.snapshots.take)
        if not poll.ready and seconds and not call.bodiless:
            self._admit(request)
            await poll.wait(request, seconds)
        return poll.answer()

    def _admit(self, request: ApiRequest) -> None:
        if request.site.closing:
            raise refuse(503, "the node shuts down", _LATER)
        if not self.subscribers.admits(request):
            raise refuse(503, "too many follow the events of this node already", _LATER)
