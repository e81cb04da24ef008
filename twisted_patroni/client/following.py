"""Follow a cluster's events, from whichever of its nodes can tell them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList

from twisted_patroni.client.asking import parse_object
from twisted_patroni.client.eventless import has_no_events, snapshot_of
from twisted_patroni.client.reasons import NoAnswer, refusal
from twisted_patroni.client.stream import Stream, events_request, farewell, is_position, is_stream
from twisted_patroni.client.urls import AddressError, announced_url, are_secure

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.web.iweb import IResponse

    from twisted_patroni.client.asking import Asker
    from twisted_patroni.client.sse import Message

#: Seconds between two looks at a node that has no events.
POLL = 2.0
#: Seconds between them at least, however much of a hurry there is.
QUICK = 0.25
#: Seconds between two searches for a node that has.
SEARCH = 30.0
#: Seconds that a connection must last for the others to be worth a new attempt at once.
STABLE = 10.0
#: Seconds to wait when all nodes have failed: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
#: Seconds that a node has at the end to take leave.
FAREWELL = 1.0
#: Nodes that are remembered.
MAX_NODES = 100

#: Messages that are passed on whatever types are asked for: what follows needs them.
ALWAYS = frozenset({"snapshot", "gap"})


class Listener(Protocol):
    """Is told what happens."""

    def connected(self, url: str, polling: bool) -> None:
        """Know that a node answers.

        :param url: the node.
        :param polling: it has no events, and is asked again and again.
        """

    def disconnected(self, url: str, reason: str) -> None:
        """Know that the node does not tell events any more.

        :param url: the node.
        :param reason: why: what the node does or has done, without its name.
        """

    def failed(self, url: str, reason: str) -> None:
        """Know that an attempt to connect to a node was in vain.

        :param url: the node.
        :param reason: why: what the node does, without its name.
        """

    def received(self, event: Mapping[str, Any]) -> None:
        """Take an event, a snapshot or the news of a gap.

        :param event: the object, as the node sent it; its ``type`` is a text.
        :raise NoAnswer: to be told by another node: what this one tells is of no use.
        """


@define(eq=False)
class Follower:
    """Follows one cluster for as long as it runs.

    It stays with a node until that fails, and then goes to the next one that it knows, at once. It
    learns of nodes from what it is told. To the node it comes from it returns with its position;
    from another one it takes a new snapshot.

    :param clock: for all waiting.
    :param asker: asks the nodes.
    :param given: URLs of nodes, as :func:`~twisted_patroni.client.urls.base_url` returns them.
    :param listener: is told what happens.
    :param types: the types of events to be told; none for all.
    :param after: a position to begin after; ``None`` for a snapshot.
    :param avoided: nodes that are tried only after all others.
    :param random: a number from 0 to 1, a new one for each call.
    """

    clock: IReactorTime
    asker: Asker
    given: Sequence[str]
    listener: Listener
    random: Callable[[], float]
    types: frozenset[str] = frozenset()
    after: str | None = None
    avoided: Container[str] = ()
    _learned: dict[str, str] = field(factory=dict, init=False)
    _at: tuple[str, bool] | None = field(default=None, init=False)
    _last: str | None = field(default=None, init=False)
    _position: tuple[str | None, str] | None = field(default=None, init=False)
    _tried: set[str] = field(factory=set, init=False)
    _plain: list[str] = field(factory=list, init=False)
    _rounds: int = field(default=0, init=False)
    _shown: Any = field(default=None, init=False)
    _stream: Stream | None = field(default=None, init=False)
    _open: set[Stream] = field(factory=set, init=False)
    _waiting: tuple[IDelayedCall, float] | None = field(default=None, init=False)

    async def run(self) -> None:
        """Follow the cluster until this is cancelled."""
        if self.after is not None:
            self._position = (None, self.after)
        while True:
            url = self._next()
            if url is not None:
                self._tried.add(url)
                self._last = url
                await self._visit(url)
            elif self._plain:
                await self._poll(self._preferred())
            else:
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._rounds, 10))
                self._rounds += 1
                await self._pause(pause * (0.5 + self.random() / 2), FIRST_PAUSE)
                self._begin()

    def leave(self, url: str, reason: str) -> None:
        """Go on with the next node, if it is this one that tells events.

        :param url: the node.
        :param reason: why: what it does, without its name.
        """
        if self._stream is not None and self._at is not None and self._at[0] == url:
            self._stream.end(NoAnswer(reason))

    def hurry(self) -> None:
        """Wait no longer than it must be, before the next look or the next round of attempts."""
        if self._waiting is not None and self._waiting[0].active():
            call, earliest = self._waiting
            call.reset(max(0.0, min(call.getTime(), earliest) - self.clock.seconds()))

    def gone(self) -> Deferred[Any]:
        """Return what fires when no connection is left of those that events came by.

        Nobody waits for long for a node that has vanished, and does not take leave.
        """
        gone = DeferredList([stream.gone for stream in self._open], consumeErrors=True)
        return gone.addTimeout(FAREWELL, self.clock)  # which ends the wait for each of them

    def _forget(self, result: object, stream: Stream) -> object:
        self._open.discard(stream)
        return result

    async def _pause(self, seconds: float, least: float) -> None:
        """Wait.

        :param seconds: how long.
        :param least: how long if there is a hurry.
        """
        over: Deferred[None] = Deferred()
        call = self.clock.callLater(seconds, over.callback, None)
        self._waiting = (call, self.clock.seconds() + least)
        try:
            await over
        finally:
            if call.active():
                call.cancel()

    def known(self) -> Iterable[str]:
        """Return the nodes that are known: those given, and those learned."""
        return dict.fromkeys([*self.given, *self._learned.values()])

    def _next(self) -> str | None:
        """Return the node to try next: after the last one, the first that was not tried yet."""
        known = list(self.known())
        start = known.index(self._last) + 1 if self._last in known else 0
        ordered = sorted(known[start:] + known[:start], key=lambda url: url in self.avoided)
        return next((url for url in ordered if url not in self._tried), None)

    def _begin(self, *tried: str) -> None:
        self._tried = set(tried)
        self._plain = []

    def _preferred(self) -> str:
        """Return the node to poll: the one that is polled already, if it can be."""
        return self._at[0] if self._at and self._at[0] in self._plain else self._plain[0]

    def _arrive(self, url: str, polling: bool) -> None:
        if self._at == (url, polling):
            return
        if self._at is not None and self._at[0] != url:
            self.listener.disconnected(self._at[0], "has no events, another node has")
        self._at = (url, polling)
        self._shown = None
        self.listener.connected(url, polling)

    def _lost(self, url: str, reason: str) -> None:
        if self._at is not None and self._at[0] == url:
            self._at = None
            self.listener.disconnected(url, reason)
        else:
            self.listener.failed(url, reason)

    # Nodes that tell events

    async def _visit(self, url: str) -> None:
        after = None
        if self._position is not None and self._position[0] in (None, url):
            after = self._position[1]
        # Members are asked for in any case: they are where to go when this node fails.
        types = sorted(self.types | {"member"}) if self.types else ()
        path, headers = events_request(types, after)
        try:
            if self._position is not None and not self._learned:
                # Who goes on from a position gets no snapshot to learn the members from.
                cluster = await self.asker.document(f"{url}/cluster")
                self._learn(snapshot_of(cluster, self.clock.seconds()))
            response = await self.asker.ask(f"{url}{path}", headers)
            if is_stream(response):
                await self._follow(url, response)
            body = await self.asker.read(response)
            if not has_no_events(response.code, body):
                raise NoAnswer(refusal(response.code, body))
            self._plain.append(url)
        except NoAnswer as error:
            self._lost(url, str(error))

    async def _follow(self, url: str, response: IResponse) -> None:
        """Pass on what a node tells, until it does no more.

        :raise NoAnswer: always.
        """
        began = self.clock.seconds()
        self._arrive(url, polling=False)
        stream = self._stream = Stream(self.clock, lambda message: self._take(url, message))
        self._open.add(stream)
        stream.gone.addBoth(self._forget, stream)
        response.deliverBody(stream)
        try:
            await stream.ended
        finally:
            self._stream = None
            stream.stop()
            if self.clock.seconds() - began >= STABLE:
                self._begin(url)
                self._rounds = 0

    def _take(self, url: str, message: Message) -> None:
        event = parse_object(message.data)
        if message.type == "end":
            raise farewell(event)
        if not isinstance(event.get("type"), str):
            raise NoAnswer("tells of an event without a type")
        if not self.types or event["type"] in self.types | ALWAYS:
            self.listener.received(event)
        if is_position(message.last_id):
            self._position = (url, message.last_id)
        self._learn(event)

    # Where the nodes are

    def _learn(self, event: Mapping[str, Any]) -> None:
        data = event.get("data")
        if not isinstance(data, dict):
            return
        if event["type"] == "snapshot" and isinstance(data.get("members"), list):
            self._learned = {}
            for member in data["members"]:
                self._learn_member(member)
        elif event["type"] == "member":
            if data.get("change") == "left":
                self._learned.pop(str(data.get("name")), None)
            else:
                self._learn_member(data.get("member"))

    def _learn_member(self, member: object) -> None:
        if not isinstance(member, dict) or len(self._learned) >= MAX_NODES:
            return
        with suppress(AddressError):
            url = announced_url(member.get("api_url"), are_secure(self.given))
            self._learned[str(member.get("name"))] = url

    # Nodes that do not

    async def _poll(self, url: str) -> None:
        """Look at a node again and again, until it fails or it is time to search for a better."""
        until = self.clock.seconds() + SEARCH
        while self.clock.seconds() < until:
            try:
                cluster = await self.asker.document(f"{url}/cluster")
                self._rounds = 0
                self._arrive(url, polling=True)
                self._show(snapshot_of(cluster, self.clock.seconds()))
            except NoAnswer as error:
                answered = self._at == (url, True)
                self._lost(url, str(error))
                if answered:  # it has turned silent: all others are worth an attempt
                    self._begin(url)
                else:
                    self._plain.remove(url)
                return
            if self._next() is not None:  # it has named one that may be better
                return
            await self._pause(POLL, QUICK)
        self._begin()

    def _show(self, snapshot: Mapping[str, Any]) -> None:
        if snapshot["data"] != self._shown:
            self.listener.received(snapshot)
            self._shown = snapshot["data"]
        self._learn(snapshot)
