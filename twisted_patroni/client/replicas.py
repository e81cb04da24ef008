"""A whole cluster: whoever leads is asked to change things, and the replicas share the reading.

async with Replicas(reactor, ["http://10.0.0.11:8008", "http://10.0.0.12:8008"]) as replicas:
    print((await replicas.get("/patroni")).json()["role"])
    await replicas.request("PATCH", "/config", json={"ttl": 30}, retry=True)
"""

from __future__ import annotations

import random
from json import dumps
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field
from twisted.web.client import Agent

from twisted_patroni.client.calls import Call, everybody
from twisted_patroni.client.connecting import connection_to, conninfo_of
from twisted_patroni.client.crew import Crew
from twisted_patroni.client.errors import NoMember
from twisted_patroni.client.lifetime import Announcer, Lifetime
from twisted_patroni.client.node import Node
from twisted_patroni.client.pool import SAFE
from twisted_patroni.client.postgres import Connector
from twisted_patroni.client.searching import Search
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.topology import Topology
from twisted_patroni.client.values import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    import psycopg
    from twisted.web.iweb import IAgent

    from twisted_patroni.client.balance import Target
    from twisted_patroni.client.errors import ClientError
    from twisted_patroni.client.response import Response

#: What may be asked for, and what that is called where a member is chosen.
_TARGETS: Mapping[str, Target] = {
    "leader": "leader",
    "primary": "leader",
    "replica": "replica",
    "any": "any",
}

_T = TypeVar("_T")


def _target(name: str) -> Target:
    if name not in _TARGETS:
        raise ValueError(f"target: {name!r} is none of {', '.join(_TARGETS)}")
    return _TARGETS[name]


def _listed(seeds: str | Sequence[str]) -> tuple[str, ...]:
    return (seeds,) if isinstance(seeds, str) else tuple(seeds)


@define(eq=False)
class Replicas:
    """A cluster, known from one or more of its nodes, and followed from then on.

    Each method finds out about the cluster first, if that has not been done.

    :param reactor: the reactor.
    :param seeds: the URLs of nodes to learn the members from; which ones does not matter.
    :param settings: how to speak to them.
    :param agent: makes the requests; by default connections are made as the settings say.
    :param random: a number from 0 to 1, a new one for each call.
    """

    reactor: Any
    seeds: Sequence[str] = field(converter=_listed)
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
        agent = self.agent or Agent(reactor, settings.policy, settings.connect_timeout)
        self._topology = Topology(reactor, self.seeds, settings, agent, self.random)
        self._topology.changed(lambda: self._announcer.led_by(self._topology.leader))
        secure = all(each.startswith("https:") for each in self.seeds)
        self._crew = Crew(reactor, self._topology, settings, self.agent, self.random, secure)
        self._announcer.listen(self._crew.led_by)
        self._connector = Connector(reactor)
        self._lifetime = Lifetime("the client of the cluster is closed")

    async def __aenter__(self) -> Replicas:
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

        :raise ClusterUnknown: if no node has told in time; it says of each why.
        """
        await self._lifetime.run(self._crew.known(self.settings.timeout))

    async def close(self) -> None:
        """Follow the cluster no more, and close all connections.

        Who still waits for something fails with :class:`~twisted_patroni.client.PoolClosed`.
        """
        self._lifetime.close()
        self._announcer.close()
        self._connector.close()
        await self._topology.close()
        await self._crew.close()

    # Who is there

    @property
    def members(self) -> tuple[Member, ...]:
        """The members, as they were told of last; none before the start."""
        return self._topology.members

    @property
    def current_leader(self) -> Member | None:
        """Who leads, as far as it is known right now."""
        return self._topology.leader

    @property
    def conflict(self) -> tuple[Member, ...]:
        """Those who claim to lead at the same time, the one of the highest timeline first."""
        return self._topology.conflict

    async def leader(self, timeout: float | None = None) -> Member:
        """Return the member that leads, as soon as there is one.

        :param timeout: seconds to wait for one; by default those of the settings.
        :raise NoLeader: if there was none in time.
        """
        seconds = self.settings.timeout if timeout is None else timeout
        return await self._lifetime.run(self._crew.leader(None, seconds))

    async def wait_for_leader(
        self, not_: str | Member | None = None, timeout: float | None = None
    ) -> Member:
        """Return the member that leads, as soon as that is another one.

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

        :raise NoLeader: if there was none within the time of the settings.
        """
        return self._node(await self.leader())

    async def replica(self, lag: int | None = None) -> Node:
        """Return one of the replicas as a node: rather one that is near and has little to do.

        :param lag: bytes that it may be behind the leader.
        :raise NoMember: if there is no such replica now.
        """
        search = self._search("replica", lag)
        candidate = await self._found(search, search.next)
        if candidate is None:
            raise search.in_vain()
        return Node(candidate.pool)

    # Requests

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        target: str | None = None,
        lag: int | None = None,
        retry: bool = False,
    ) -> Response:
        """Ask a member that will do, and return its answer, whatever its status.

        A host that cannot be reached is no obstacle if there is another. What only reads is asked
        of another one also when the answer fails to come, and of the new leader when the old one
        was asked. What changes something is never sent twice: if its answer fails to come, the
        error says that the outcome is unknown.

        :param method: the method.
        :param path: the path and what follows it.
        :param json: what to send as JSON, if anything.
        :param headers: what to send along.
        :param timeout: seconds for all of it; by default those of the settings.
        :param target: ``leader``, ``replica`` or ``any``; by default a replica is asked to read,
            or the leader if there is none, and the leader to do anything else.
        :param lag: bytes that a replica may be behind the leader.
        :param retry: also wait, until the time is up, for a leader where there is none, for a
            host to be reached, and for the end of answers of status 503.
        """
        method = method.upper()
        call = Call(
            crew=self._crew,
            target=_target(target or ("replica" if method in SAFE else "leader")),
            lag=lag,
            fallback=target is None and lag is None and method in SAFE,
            retry=retry,
            deadline=self._deadline(timeout),
            method=method,
            path=path,
            body=None if json is None else dumps(json).encode(),
            headers=headers,
        )
        return await self._found(call, call.run)

    async def _found(self, search: Search, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Do something for which the cluster must be known."""

        async def find() -> _T:
            await self._crew.known(search.left)
            return await work()

        return await self._lifetime.run(find())

    def _search(
        self, target: str, lag: int | None, timeout: float | None = None, retry: bool = False
    ) -> Search:
        crew, deadline = self._crew, self._deadline(timeout)
        return Search(crew, _target(target), lag, False, retry, deadline)

    def _deadline(self, timeout: float | None) -> float:
        seconds = self.settings.timeout if timeout is None else timeout
        deadline: float = self.reactor.seconds() + seconds
        return deadline

    async def get(self, path: str, **options: Any) -> Response:
        """Read something, of a replica if there is one.

        :param path: the path and what follows it.
        :param options: as for :meth:`request`.
        """
        return await self.request("GET", path, **options)

    async def broadcast(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Response | ClientError]:
        """Ask all members at once, and return what has come of it, by their names.

        :param method: the method.
        :param path: the path and what follows it.
        :param json: what to send as JSON, if anything.
        :param headers: what to send along.
        :param timeout: seconds for each; by default those of the settings.
        :return: answers of whatever status, and the errors of those who gave none.
        """
        await self.start()
        body = None if json is None else dumps(json).encode()
        seconds = self.settings.timeout if timeout is None else timeout
        asking = everybody(self._crew, method.upper(), path, body, headers, seconds)
        return await self._lifetime.run(asking)

    # PostgreSQL

    async def conninfo(
        self, target: str = "primary", lag: int | None = None, **parameters: Any
    ) -> str:
        """Return the connection string for the PostgreSQL of a member that will do right now.

        :param target: ``primary``, ``replica`` or ``any``.
        :param lag: bytes that a replica may be behind the primary.
        :param parameters: libpq's: ``dbname``, ``user``, ``connect_timeout`` ...
        :raise NoLeader: if there is no primary now.
        :raise NoMember: if there is no such member now.
        """
        search = self._search(target, lag)
        return await self._found(search, lambda: conninfo_of(search, parameters))

    async def connect(
        self,
        target: str = "primary",
        lag: int | None = None,
        *,
        timeout: float | None = None,
        retry: bool = False,
        **parameters: Any,
    ) -> psycopg.Connection[Any]:
        """Open a connection to the PostgreSQL of a member that will do.

        Members that take none, or are no more what they were, are passed over.

        :param target: ``primary``, ``replica`` or ``any``.
        :param lag: bytes that a replica may be behind the primary.
        :param timeout: seconds for all of it; by default those of the settings.
        :param retry: wait, until the time is up, for a member that takes the connection.
        :param parameters: libpq's: ``dbname``, ``user`` ...; ``connect_timeout``, by default that
            of the settings, is for each member.
        :return: the connection, which is the caller's to close; what it does blocks.
        :raise NoLeader: if there is no primary.
        :raise NoMember: if there is no such member.
        :raise CannotConnect: if none of them has taken the connection.
        """
        search, patience = self._search(target, lag, timeout, retry), self.settings.connect_timeout
        return await self._found(
            search, lambda: connection_to(search, self._connector, parameters, patience)
        )
