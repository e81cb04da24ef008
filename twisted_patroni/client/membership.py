"""A cluster as it is followed: who its members are, and which of them leads."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field

from twisted_patroni.client.amounts import bytes_of
from twisted_patroni.client.balance import target_of
from twisted_patroni.client.configuration import Configuration
from twisted_patroni.client.crew import Crew
from twisted_patroni.client.errors import NoMember
from twisted_patroni.client.lifetime import Lifetime
from twisted_patroni.client.listeners import Announcer
from twisted_patroni.client.node import Node
from twisted_patroni.client.postgres import Connector
from twisted_patroni.client.reaching import agent_of
from twisted_patroni.client.searching import Search
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.topology import Topology
from twisted_patroni.client.urls import are_secure, seed_urls
from twisted_patroni.client.values import Member

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from typing import Self

    from twisted.web.iweb import IAgent

_T = TypeVar("_T")


@define(eq=False)
class Membership:
    """A cluster, known from one or more of its nodes, and followed from then on.

    Each method finds out about the cluster first, if that has not been done.

    :param reactor: the reactor.
    :param seeds: the URLs of nodes to learn the members from; which ones does not matter.
    :param settings: how to speak to them.
    :param agent: makes the requests; by default connections are made as the settings say.
    :param random: a number from 0 to 1, a new one for each call.
    """

    reactor: Any
    seeds: Sequence[str] = field(converter=seed_urls)
    settings: ClientSettings = field(factory=ClientSettings)
    agent: IAgent | None = None
    random: Callable[[], float] = random.random
    _topology: Topology = field(init=False)
    _crew: Crew = field(init=False)
    _connector: Connector = field(init=False)
    _lifetime: Lifetime = field(init=False)
    _announcer: Announcer = field(factory=Announcer, init=False)

    def __attrs_post_init__(self) -> None:
        settings, reactor = self.settings, self.reactor
        agent = self.agent or agent_of(reactor, settings)
        self._topology = Topology(reactor, self.seeds, settings, agent, self.random)
        self._topology.changed(lambda: self._announcer.led_by(self._topology.leader))
        secure = are_secure(self.seeds)
        self._crew = Crew(reactor, self._topology, settings, self.agent, self.random, secure)
        self._announcer.listen(self._crew.led_by)
        self._connector = Connector(reactor)
        self._lifetime = Lifetime("the client of the cluster is closed")

    @classmethod
    def from_patroni(
        cls,
        reactor: Any,
        source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        seeds: Sequence[str] = (),
        agent: IAgent | None = None,
        **others: Any,
    ) -> Self:
        """Return the cluster of which Patroni's configuration is; may block.

        :param reactor: the reactor.
        :param source: the file, or its content; ``None`` for the file that patronictl would read.
        :param seeds: the URLs of nodes; by default that of the node that the configuration is for.
        :param agent: makes the requests.
        :param others: the settings of which Patroni knows nothing, as ``timeout``.
        :raise ConfigurationError: if the configuration cannot be right.

        >>> node = {"restapi": {"connect_address": "10.0.0.11:8008"}}
        >>> Replicas.from_patroni(reactor, node, timeout=3.0)
        Replicas(seeds=('http://10.0.0.11:8008',))
        """
        configuration = Configuration.loaded(source)
        settings = ClientSettings.from_patroni(configuration, **others)
        return cls(reactor, seeds or (configuration.url(),), settings, agent)

    def __repr__(self) -> str:  # what is known of the cluster fills pages
        return f"{type(self).__name__}(seeds={self.seeds})"

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except Exception:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # To begin and to end

    async def start(self) -> None:
        """Find out who the members are, and follow them from now on.

        >>> replicas.members
        ()
        >>> await replicas.start()
        >>> [member.name for member in replicas.members]
        ['a', 'b', 'c']

        :raise ClusterUnknown: if no node has told in time; it says of each why.
        """
        await self._lifetime.run(self._crew.known(self.settings.timeout))

    async def close(self) -> None:
        """Follow the cluster no more, and close all connections.

        Who still waits for something fails with :class:`~twisted_patroni.client.PoolClosed`.

        >>> await replicas.close()
        >>> await replicas.leader()
        Traceback (most recent call last):
        twisted_patroni.client.pool.PoolClosed: the client of the cluster is closed
        """
        self._lifetime.close()
        self._announcer.close()
        self._connector.close()
        await self._topology.close()
        await self._crew.close()

    # Who is there

    @property
    def members(self) -> tuple[Member, ...]:
        """The members, as they were told of last; none before the start.

        >>> await replicas.start()
        >>> [(member.name, member.role) for member in replicas.members]
        [('a', 'leader'), ('b', 'replica'), ('c', 'replica')]
        """
        return self._topology.members

    @property
    def current_leader(self) -> Member | None:
        """Who leads, as far as it is known right now.

        >>> await replicas.start()
        >>> replicas.current_leader.name
        'a'
        """
        return self._topology.leader

    @property
    def conflict(self) -> tuple[Member, ...]:
        """Those who claim to lead at the same time, the one of the highest timeline first.

        >>> await replicas.start()
        >>> replicas.conflict
        ()
        """
        return self._topology.conflict

    async def leader(self, timeout: float | None = None) -> Member:
        """Return the member that leads, as soon as there is one.

        >>> (await replicas.leader()).name
        'a'
        >>> memory.demote()
        >>> await replicas.leader(timeout=5.0)
        Traceback (most recent call last):
        twisted_patroni.client.errors.NoLeader: no member leads within 5 seconds

        :param timeout: seconds to wait for one; by default those of the settings.
        :raise NoLeader: if there was none in time.
        """
        seconds = self.settings.timeout if timeout is None else timeout
        return await self._lifetime.run(self._crew.leader(None, seconds))

    async def wait_for_leader(
        self, not_: str | Member | None = None, timeout: float | None = None
    ) -> Member:
        """Return the member that leads, as soon as that is another one.

        >>> old = await replicas.leader()
        >>> memory.switchover("b")
        >>> (await replicas.wait_for_leader(not_=old, timeout=60.0)).name
        'b'

        :param not_: who is not waited for: the last one, or its name.
        :param timeout: seconds to wait; by default those of the settings.
        :raise NoLeader: if nobody else has led in time.
        """
        name = not_.name if isinstance(not_, Member) else not_
        seconds = self.settings.timeout if timeout is None else timeout
        return await self._lifetime.run(self._crew.leader(name, seconds))

    def on_leader_change(self, callback: Callable[[Member | None], object]) -> Callable[[], None]:
        """Have a function called with each new leader, and with ``None`` while there is none.

        The first one that is found out is new, too. What the function fails with is logged.

        >>> await replicas.start()
        >>> stop = replicas.on_leader_change(lambda leader: print("now:", leader and leader.name))
        >>> memory.switchover("c")
        now: c
        >>> stop()

        :param callback: the function; it may be a coroutine's.
        :return: call it to end that.
        """
        if self._lifetime.over:
            return lambda: None
        stop = self._announcer.listen(callback)
        self._topology.start()
        return stop

    # Single members

    def node(self, name: str) -> Node:
        """Return a member as a node; its connections are those of this cluster.

        >>> await replicas.start()
        >>> await replicas.node("b").is_replica()
        True

        :param name: its name.
        :raise NoMember: if there is no such member, or it does not tell where its API is.
        """
        for member in self.members:
            if member.name == name:
                return self._node(member)
        known = ", ".join(each.name for each in self.members) or "nobody"
        raise NoMember(f"{name!r} is not a member: the cluster is {known}")

    def _node(self, member: Member) -> Node:
        candidate = self._crew.candidate(member)
        if candidate is None:
            raise NoMember(f"{member.name} tells no URL of its API that can be used")
        return Node(candidate.pool)

    async def primary(self) -> Node:
        """Return the leader as a node, as soon as there is one.

        >>> node = await replicas.primary()
        >>> (await node.status()).name
        'a'

        :raise NoLeader: if there was none within the time of the settings.
        """
        return self._node(await self.leader())

    async def replica(self, lag: int | str | None = None) -> Node:
        """Return one of the replicas as a node: rather one that is near and has little to do.

        >>> memory.lag("c", 5_000_000)
        >>> (await replicas.replica(lag="1MB")).url
        'http://b:8008'

        :param lag: bytes that it may be behind the leader, as a number or as ``1MB``.
        :raise NoMember: if there is no such replica now.
        """
        search = self._search("replica", lag)
        candidate = await self._found(search, search.next)
        if candidate is None:
            raise search.in_vain()
        return Node(candidate.pool)

    async def _found(self, search: Search, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Do something for which the cluster must be known."""

        async def find() -> _T:
            await self._crew.known(search.left)
            return await work()

        return await self._lifetime.run(find())

    def _search(
        self, target: str, lag: int | str | None, timeout: float | None = None, retry: bool = False
    ) -> Search:
        crew, deadline = self._crew, self._deadline(timeout)
        return Search(
            crew,
            target_of(target),
            bytes_of(lag),
            fallback=False,
            retry=retry,
            deadline=deadline,
        )

    def _deadline(self, timeout: float | None) -> float:
        seconds = self.settings.timeout if timeout is None else timeout
        deadline: float = self.reactor.seconds() + seconds
        return deadline
