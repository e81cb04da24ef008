"""Members to connect to, found by asking now: who fits, where it is, and whether that is so."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred, DeferredList

from twisted_patroni.client.balance import fitting
from twisted_patroni.client.errors import (
    ClientError,
    ClusterUnknown,
    NoLeader,
    NoMember,
    Unreachable,
)
from twisted_patroni.client.node import Node
from twisted_patroni.client.pool import Pool
from twisted_patroni.client.racing import Race
from twisted_patroni.client.urls import AddressError, announced_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.web.iweb import IAgent

    from twisted_patroni.client.settings import ClientSettings
    from twisted_patroni.client.values import Cluster, Member

#: What may be looked for.
TARGETS = ("primary", "replica", "any")
#: The ports of a member.
PORTS = ("postgres", "rest")
#: Seconds until one node more is asked, if those that were have not answered.
STAGGER = 0.2
#: Seconds that a node may take to answer, if there is as much time.
PATIENCE = 3.0

# What could steer a terminal, or be taken for two by a script, is no host.
_HOST = re.compile(r"[\w.:%-]+")
_PORTS_BY_SCHEME = {"http": 80, "https": 443}
_NO_ANSWER = "does not answer"

_T = TypeVar("_T")


@frozen
class Aim:
    """What is looked for.

    :param target: ``primary``, ``replica`` or ``any``. The leader of a standby cluster counts as
        its primary.
    :param port: ``postgres`` or ``rest``.
    :param lag: bytes that a replica may be behind.
    """

    target: str = field(default="primary")
    port: str = field(default="postgres")
    lag: int | None = None

    @target.validator
    def _known_target(self, attribute: object, value: str) -> None:
        if value not in TARGETS:
            raise ValueError(f"target: {value!r} is none of {', '.join(TARGETS)}")

    @port.validator
    def _known_port(self, attribute: object, value: str) -> None:
        if value not in PORTS:
            raise ValueError(f"port: {value!r} is none of {', '.join(PORTS)}")

    def places(self, members: Sequence[Member]) -> list[Place]:
        """Return where the members listen that fit, as far as they say so.

        :param members: the members.
        """
        fit = fitting(members, self.target, self.lag)
        places = (Place.of(member, self.port) for member in fit)
        return [place for place in places if place is not None]


@frozen
class Place:
    """Where a member listens.

    :param member: the member.
    :param host: its name or address.
    :param port: the port.
    :param tls: it is the REST API, and speaks TLS.
    """

    member: Member
    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, member: Member, port: str) -> Place | None:
        """Return where a member listens, ``None`` if it does not tell.

        :param member: the member.
        :param port: ``postgres`` or ``rest``.
        """
        if port == "postgres":
            host, number = member.host or "", member.port or 0
            known = _HOST.fullmatch(host) is not None and 0 < number < 65536
            return cls(member, host, number) if known else None
        try:
            parts = urlsplit(announced_url(member.api_url, secure=False))
        except AddressError:
            return None
        host, number = parts.hostname or "", parts.port or _PORTS_BY_SCHEME[parts.scheme]
        known = _HOST.fullmatch(host) is not None
        return cls(member, host, number, parts.scheme == "https") if known else None


@define(eq=False)
class Checker:
    """Asks members whether they are what the cluster takes them for, as a load balancer does.

    What ``GET /cluster`` shows was true a moment ago: the leader may be in the middle of its
    promotion, or dead and not yet missed, and a replica may be about to leave. One request more
    is cheap beside a connection to the wrong server.

    :param reactor: the reactor.
    :param settings: who asks, and how long an answer may take.
    :param agent: does the requests.
    :param secure: members that announce their API without TLS are not asked.
    """

    reactor: Any
    settings: ClientSettings
    agent: IAgent
    secure: bool = False

    def node(self, url: str) -> Node:
        """Return the node at a URL.

        :param url: the URL.
        """
        settings = evolve(self.settings, timeout=min(PATIENCE, self.settings.timeout))
        return Node(Pool(self.reactor, url, settings, self.agent))

    async def fits(self, member: Member, lag: int | None) -> bool:
        """Tell whether a member says that it is what it is taken for.

        :param member: the member.
        :param lag: bytes that it may be behind, if it is a replica.
        :raise ClientError: if it does not say.
        """
        try:
            node = self.node(announced_url(member.api_url, self.secure))
        except AddressError as error:
            raise NoMember(str(error)) from None
        if member.role == "standby_leader":
            return await node.is_standby_leader()
        if member.leads:
            return await node.is_primary()
        return await node.is_replica(lag)


@define(eq=False)
class Finder:
    """Finds members that fit, once: in the view of one node after the other, until some do.

    The nodes are asked for ``GET /cluster``, one more every :data:`STAGGER` seconds and when one
    fails; the first answer counts, and the other requests are cancelled. Another node's view is
    taken if nobody in that one fits.

    :param seeds: the nodes to ask.
    :param aim: what is looked for.
    :param checker: asks them, and the members.
    :ivar reasons: why nodes gave no view.
    :ivar tried: why members were not taken, by their name and place.
    """

    seeds: Sequence[str]
    aim: Aim
    checker: Checker
    reasons: dict[str, ClientError] = field(factory=dict, init=False)
    tried: dict[tuple[str, str], str] = field(factory=dict, init=False)
    _left: list[str] = field(init=False)
    _seen: Cluster | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._left = list(self.seeds)

    async def more(self) -> list[Place] | None:
        """Return members that fit in the view of a node not heard yet, ``None`` if there is none.

        Those that were tried are left out.
        """
        asks = [partial(self._view, url) for url in self._left]
        view = await Race(self.checker.reactor, STAGGER, asks).run()
        if view is None:
            return None
        self._seen = view
        places = self.aim.places(view.members)
        return [place for place in places if _key(place) not in self.tried]

    async def _view(self, url: str) -> Cluster:
        self.reasons[url] = Unreachable(url, _NO_ANSWER)
        try:
            view = await self.checker.node(url).cluster()
        except ClientError as error:
            self.reasons[url] = error
            self._left.remove(url)
            raise
        del self.reasons[url]
        self._left.remove(url)
        return view

    async def fits(self, place: Place) -> bool:
        """Tell whether a member is what it is taken for, and take note if it is not.

        :param place: where it is.
        """
        self.note(place, _NO_ANSWER)
        try:
            fits = await self.checker.fits(place.member, self.aim.lag)
        except ClientError as error:
            self.note(place, str(error))
            return False
        if not fits:
            role = "primary" if place.member.leads else "replica"
            self.note(place, f"says that it is no {role} to connect to now")
        return fits

    def note(self, place: Place, reason: str) -> None:
        """Take note why a member cannot be taken.

        :param place: where it is.
        :param reason: why, in half a sentence.
        """
        self.tried[_key(place)] = reason

    async def places(self) -> list[Place]:
        """Return where all members listen that fit, each asked whether it does.

        :raise ClientError: if there is none; it says what was found.
        """
        while (places := await self.more()) is not None:
            asked = [Deferred.fromCoroutine(self.fits(place)) for place in places]
            found = [place for place, fits in zip(places, await _all(asked), strict=True) if fits]
            if found:
                return found
        raise self.failure()

    def failure(self) -> ClientError:
        """Return the error that says what was found."""
        view, target = self._seen, self.aim.target
        if view is None:
            return ClusterUnknown(self.reasons)
        if self.tried:
            told = "; ".join(f"{name} ({at}) {why}" for (name, at), why in self.tried.items())
            return NoMember(f"no {_WORDS[target]} can be connected to: {told}")
        shown = ", ".join(_shown(each) for each in view.members) or "it has no members"
        if target == "primary":
            hidden = " that tells where it is" if view.leader is not None else ""
            return NoLeader(f"the cluster has no leader{hidden} now: {shown}")
        bound = "" if self.aim.lag is None else f" within {self.aim.lag} bytes of lag"
        return NoMember(f"the cluster has no {_WORDS[target]}{bound} now: {shown}")


_WORDS = {"primary": "primary", "replica": "replica", "any": "member"}


def _key(place: Place) -> tuple[str, str]:
    return place.member.name, str(place)


def _shown(member: Member) -> str:
    lag = "" if member.lag is None else f", {member.lag} bytes behind"
    return f"{member.name} is {member.role or 'unknown'} ({member.state or 'unknown'}{lag})"


async def _all(asked: Sequence[Deferred[_T]]) -> list[_T]:
    """Return all results; a failure or a cancellation cancels the others."""
    together = DeferredList(asked, fireOnOneErrback=True, consumeErrors=True)
    try:
        results = await together
    finally:
        for each in asked:
            each.cancel()
    return [result for _, result in results]
