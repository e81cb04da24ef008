"""What a node says about itself over its REST API, and when a cluster counts as ready."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.iweb import IAgent

_NO_ANSWER = (
    ConnectError,
    ConnectionClosed,
    ResponseFailed,
    ValueError,
    FileNotFoundError,  # the certificates of a cluster that was never started
)


@frozen
class View:
    """One node as it describes itself.

    :param role: ``primary``, ``replica`` or another of upstream's names.
    :param state: PostgreSQL's state in upstream's words, as ``running``.
    :param timeline: PostgreSQL's timeline, once it is known.
    :param streaming: the node receives WAL from another one.
    :param unlocked: the node sees a cluster without leader.
    """

    role: str
    state: str
    timeline: int | None = None
    streaming: bool = False
    unlocked: bool = False

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> View:
        """Read the document of ``GET /patroni``.

        :param document: the document.
        """
        timeline = document.get("timeline")
        return cls(
            role=str(document.get("role", "")),
            state=str(document.get("state", "")),
            timeline=timeline if isinstance(timeline, int) else None,
            streaming=document.get("replication_state") == "streaming",
            unlocked=bool(document.get("cluster_unlocked", False)),
        )

    @property
    def is_primary(self) -> bool:
        """Whether this node is a running primary of a cluster that has a leader."""
        return self.role == "primary" and self.state == "running" and not self.unlocked


Views = dict[str, View | None]
"""What each node says, by name; ``None`` for one that does not answer."""


def describe(view: View | None) -> str:
    """Say in a few words how a node is.

    :param view: what it says, or ``None`` if it does not answer.
    """
    if view is None:
        return "does not answer"
    if view.state != "running":
        return view.state
    words = [view.role]
    if view.streaming:
        words.append("streaming")
    if view.timeline:
        words.append(f"timeline {view.timeline}")
    if view.unlocked:
        words.append("the cluster has no leader")
    return ", ".join(words)


def changes(before: Views, after: Views) -> list[str]:
    """Return a line for each node that is not as it was.

    :param before: the last views; nodes that are missing are new.
    :param after: the present views.
    """
    return [
        f"{name}: {describe(view)}"
        for name, view in after.items()
        if name not in before or describe(before[name]) != describe(view)
    ]


def is_ready(views: Views) -> bool:
    """Whether there is one primary, and each other node streams.

    :param views: what all nodes say.
    """
    answered = [view for view in views.values() if view is not None and not view.unlocked]
    running = [view for view in answered if view.state == "running"]
    primaries = [view for view in running if view.is_primary]
    followers = [view for view in running if view.role == "replica" and view.streaming]
    return len(primaries) == 1 and len(primaries) + len(followers) == len(views)


class Getter(Protocol):
    """Fetches a JSON document; whatever goes wrong on the way gives ``None``."""

    async def __call__(self, url: str) -> Any:
        """Fetch.

        :param url: where from.
        """


class _Body(TwistedProtocol):
    """Collects a body; unlike readBody it takes one without a length, as upstream sends them."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.complete: Deferred[bytes] = Deferred(self._abandon)

    def _abandon(self, complete: Deferred[bytes]) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone, PotentialDataLoss):
            self.complete.callback(b"".join(self._parts))
        elif not self.complete.called:
            self.complete.errback(reason)


def json_getter(clock: IReactorTime, agent: IAgent, seconds: float = 1.0) -> Getter:
    """Make a function that fetches small JSON documents.

    :param clock: limits each fetch.
    :param agent: does the requests.
    :param seconds: how long one fetch may take.
    """

    async def read(url: str) -> Any:
        response = await agent.request(b"GET", url.encode("ascii"))
        body = _Body()
        response.deliverBody(body)
        return json.loads(await body.complete)

    def nothing(failure: Failure) -> None:
        failure.trap(CancelledError, *_NO_ANSWER)

    async def get(url: str) -> Any:
        # A cancelled request may fail with ResponseFailed, which would hide from the caller that it
        # was cancelled itself. So the caller waits for a Deferred of its own.
        answer: Deferred[Any] = Deferred()
        fetching = Deferred.fromCoroutine(read(url)).addErrback(nothing)
        fetching.addCallback(lambda value: None if answer.called else answer.callback(value))
        try:
            return await answer.addTimeout(seconds, clock)
        except DeferredTimeout:
            return None
        finally:
            fetching.cancel()

    return get
