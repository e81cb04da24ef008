"""The members of a cluster that can be asked, each with its connections and what was seen of it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout

from twisted_patroni.client.asking import bounded
from twisted_patroni.client.balance import Candidate
from twisted_patroni.client.errors import NoLeader
from twisted_patroni.client.pool import Pool
from twisted_patroni.client.urls import AddressError, announced_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.web.iweb import IAgent

    from twisted_patroni.client.calls import Flight
    from twisted_patroni.client.settings import ClientSettings
    from twisted_patroni.client.topology import Topology
    from twisted_patroni.client.values import Member

#: Nodes whose connections are remembered; members that leave often come back.
MAX_NODES = 200


@define(eq=False)
class Crew:
    """What the calls to one cluster share.

    :param reactor: the reactor.
    :param topology: knows the members.
    :param settings: how to speak to them.
    :param agent: makes the requests; ``None`` for connections that are kept.
    :param random: a number from 0 to 1, a new one for each call.
    :param secure: members without TLS are not asked.
    :ivar flights: the requests that are on their way.
    """

    reactor: Any
    topology: Topology
    settings: ClientSettings
    agent: IAgent | None
    random: Callable[[], float]
    secure: bool
    flights: set[Flight] = field(factory=set, init=False)
    _candidates: dict[str, Candidate] = field(factory=dict, init=False)
    _urls: dict[str, str | None] = field(factory=dict, init=False)
    _closing: set[Deferred[None]] = field(factory=set, init=False)

    def candidate(self, member: Member) -> Candidate | None:
        """Return a member with its connections; ``None`` if it cannot be asked.

        :param member: the member.
        """
        url = self._url(member.api_url or "")
        if url is None:
            return None
        found = self._candidates.get(url)
        if found is None or found.pool.closed:
            self._forget()
            pool = Pool(self.reactor, url, self.settings, self.agent)
            found = self._candidates[url] = Candidate(member=member, pool=pool)
        found.member = member
        return found

    def _url(self, told: str) -> str | None:
        """Return where an API is, by what its member tells; it is asked for at each request."""
        if told not in self._urls:
            if len(self._urls) >= MAX_NODES:
                self._urls.clear()
            self._urls[told] = self._url_of(told)
        return self._urls[told]

    def _url_of(self, told: str) -> str | None:
        try:
            return announced_url(told, self.secure)
        except AddressError:
            return None

    def candidates(self, members: Iterable[Member]) -> list[Candidate]:
        """Return those of these members that can be asked.

        :param members: the members.
        """
        found = map(self.candidate, members)
        return [each for each in found if each is not None]

    def _forget(self) -> None:
        """Make room for another node, if there is none, by closing the connections to one."""
        if len(self._candidates) < MAX_NODES:
            return
        members = {self._url(each.api_url or "") for each in self.topology.members}
        for url, each in self._candidates.items():
            if url not in members and not each.pool.in_use:
                closing = each.pool.close()
                self._closing.add(closing)
                closing.addBoth(self._closed, closing)
                del self._candidates[url]
                return

    def _closed(self, result: object, closing: Deferred[None]) -> object:
        self._closing.discard(closing)
        return result

    async def known(self, seconds: float) -> float:
        """See to it that the members are known, and return the seconds that are left.

        :param seconds: how long it may take.
        :raise ClusterUnknown: if it took longer.
        """
        if self.topology.known:
            return seconds
        began = self.reactor.seconds()
        await self.topology.until_known(seconds)
        left: float = max(0.0, began + seconds - self.reactor.seconds())
        return left

    async def leader(self, not_: str | None, seconds: float) -> Member:
        """Return who leads, as soon as that is another one.

        :param not_: the name of the one who is not waited for.
        :param seconds: how long it may take.
        :raise NoLeader: if it took longer.
        """

        def look() -> Member | None:
            leader = self.topology.leader
            return None if leader is None or leader.name == not_ else leader

        try:
            return await self.topology.until(look, await self.known(seconds))
        except DeferredTimeout:
            other = "no member leads" if not_ is None else f"no other member than {not_} leads"
            raise NoLeader(f"{other} within {seconds:g} seconds") from None

    def led_by(self, leader: Member | None) -> None:
        """Tell those who are on their way to another member.

        :param leader: who leads now.
        """
        for each in tuple(self.flights):
            each.led_by(leader)

    async def refresh(self, seconds: float) -> None:
        """Learn how far the members are behind, or do without it.

        :param seconds: how long at most.
        """
        refreshing = Deferred.fromCoroutine(self.topology.refresh())
        with suppress(DeferredTimeout):
            await bounded(refreshing, seconds, self.reactor)

    async def news(self, view: Callable[[], object], seconds: float) -> bool:
        """Wait for a while, or until the cluster looks otherwise, and tell whether it does.

        :param view: what it looks like.
        :param seconds: how long at most.
        """
        before = view()
        try:
            await self.topology.until(lambda: True if view() != before else None, seconds)
        except DeferredTimeout:
            return False
        return True

    async def close(self) -> None:
        """Close all connections."""
        closing = [each.pool.close() for each in self._candidates.values()]
        await gatherResults([*closing, *self._closing], consumeErrors=True)
