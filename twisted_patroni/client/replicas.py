"""A whole cluster: whoever leads is asked to change things, and the replicas share the reading."""

from __future__ import annotations

from json import dumps
from typing import TYPE_CHECKING, Any

from attrs import define

from twisted_patroni.client.amounts import bytes_of
from twisted_patroni.client.balance import target_of
from twisted_patroni.client.calls import Call, everybody
from twisted_patroni.client.membership import Membership
from twisted_patroni.client.pool import SAFE
from twisted_patroni.client.postgres import connection_to, conninfo_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    from twisted_patroni.client.errors import ClientError
    from twisted_patroni.client.response import Response


@define(eq=False, repr=False)
class Replicas(Membership):
    """A cluster, known from one or more of its nodes, and followed from then on.

    Each method finds out about the cluster first, if that has not been done.

    >>> async with Replicas(reactor, memory.urls, settings, agent=memory) as cluster:
    ...     (await cluster.get("/patroni")).json()["role"]
    ...     (await cluster.request("PATCH", "/config", json={"ttl": 40}, retry=True)).status
    'replica'
    200

    :param reactor: the reactor.
    :param seeds: the URLs of nodes to learn the members from; which ones does not matter.
    :param settings: how to speak to them.
    :param agent: makes the requests; by default connections are made as the settings say.
    :param random: a number from 0 to 1, a new one for each call.
    """

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        target: str | None = None,
        lag: int | str | None = None,
        retry: bool = False,
    ) -> Response:
        """Ask a member that will do, and return its answer, whatever its status.

        A host that cannot be reached is no obstacle if there is another. What only reads is asked
        of another one also when the answer fails to come, and of the new leader when the one that
        was asked leads no more. What changes something is not sent again once it has arrived,
        unless it was refused: then, if the answer fails to come, the error says that the outcome
        is unknown. An old leader has five seconds for its answers after the change.

        >>> (await replicas.request("PATCH", "/config", json={"ttl": 40}, retry=True)).url
        'http://a:8008/config'
        >>> (await replicas.request("POST", "/restart", target="replica", timeout=60.0)).status
        200

        :param method: the method.
        :param path: the path and what follows it.
        :param json: what to send as JSON, if anything.
        :param headers: what to send along.
        :param timeout: seconds for all of it; by default those of the settings.
        :param target: ``leader``, ``replica`` or ``any``; by default a replica is asked to read,
            or the leader if there is none, and the leader to do anything else.
        :param lag: bytes that a replica may be behind the leader, as a number or as ``1MB``.
        :param retry: also wait, until the time is up, for a leader where there is none, for a
            host to be reached, and for the end of answers of status 503.
        """
        method = method.upper()
        call = Call(
            crew=self._crew,
            target=target_of(target or ("replica" if method in SAFE else "leader")),
            lag=bytes_of(lag),
            fallback=target is None and lag is None and method in SAFE,
            retry=retry,
            deadline=self._deadline(timeout),
            method=method,
            path=path,
            body=None if json is None else dumps(json).encode(),
            headers=headers,
        )
        return await self._found(call, call.run)

    async def get(self, path: str, **options: Any) -> Response:
        """Read something, of a replica if there is one.

        >>> (await replicas.get("/patroni")).json()["role"]
        'replica'
        >>> (await replicas.get("/patroni", target="leader")).json()["role"]
        'primary'

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

        >>> memory.refuse("b")
        >>> for name, result in (await replicas.broadcast("POST", "/reload")).items():
        ...     print(name, result if isinstance(result, ClientError) else result.status)
        a 202
        b http://b:8008/reload refuses connections
        c 202

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
        self, target: str = "primary", lag: int | str | None = None, **parameters: Any
    ) -> str:
        """Return the connection string for the PostgreSQL of a member that will do right now.

        >>> await replicas.conninfo(dbname="app", user="writer")
        'dbname=app host=10.0.0.1 port=5432 target_session_attrs=read-write user=writer'

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
        lag: int | str | None = None,
        *,
        timeout: float | None = None,
        retry: bool = False,
        **parameters: Any,
    ) -> psycopg.Connection[Any]:
        """Open a connection to the PostgreSQL of a member that will do.

        Members that take none, or are no more what they were, are passed over.

        >>> memory.demote()
        >>> await replicas.connect(dbname="app", timeout=60.0)
        Traceback (most recent call last):
        twisted_patroni.client.errors.NoLeader: the cluster has no leader that can be asked

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
