"""One member's health checks: each is a question that is answered by yes or no."""

from __future__ import annotations

from json import dumps
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from attrs import define

from twisted_patroni.client.amounts import query_of
from twisted_patroni.client.errors import refused
from twisted_patroni.client.response import object_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted_patroni.client.pool import Pool
    from twisted_patroni.client.response import Response

_HEALTH = (200, 503)
#: These answer by their status alone.
_SILENT = ("/liveness", "/readiness")


@define(eq=False)
class Health:
    """One member, and what it is at the moment.

    :param pool: the connections to it.
    """

    pool: Pool

    @property
    def url(self) -> str:
        """Where its API is.

        >>> node.url
        'http://a:8008'
        """
        return self.pool.url

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Send a request and return the answer, whatever its status.

        :param method: the method.
        :param path: the path and what follows it.
        :param json: what to send as JSON, if anything.
        :param headers: what to send along.
        :param timeout: seconds until the answer must be complete.

        >>> response = await node.request("GET", "/patroni")
        >>> response.status, response.json()["role"]
        (200, 'primary')
        """
        body = None if json is None else dumps(json).encode()
        return await self.pool.request(method, path, body=body, headers=headers, timeout=timeout)

    async def check(self, path: str, **query: str | None) -> bool:
        """Tell whether the node is what a health check asks for.

        :param path: the check, as ``/primary``.
        :param query: its parameters, without those that are ``None``.
        :raise Refused: if it answers anything but yes or no.

        >>> await node.check("/primary"), await node.check("/replica", lag="1MB")
        (True, False)
        """
        given = urlencode({key: value for key, value in query.items() if value is not None})
        response = await self.request("GET", f"{path}?{given}" if given else path)
        if response.status not in _HEALTH:
            raise refused(response)
        if path not in _SILENT or response.body:
            self._look(response)
        return response.ok

    def _look(self, response: Response) -> None:
        # A proxy has pages for 200 and 503, too, and a node that has too much to do answers 503.
        document = object_of(response)
        if not response.ok and "error" in document and "state" not in document:
            raise refused(response)

    async def _replicates(
        self, path: str, lag: str | int | None, tags: Mapping[str, Any] | None, **more: str | None
    ) -> bool:
        wanted = {f"tag_{name}": _tag(value) for name, value in (tags or {}).items()}
        return await self.check(path, lag=query_of(lag), **more, **wanted)

    async def is_primary(self) -> bool:
        """Tell whether it is the leader, and its PostgreSQL the primary.

        >>> await node.is_primary(), await memory.node("b").is_primary()
        (True, False)
        """
        return await self.check("/primary")

    async def is_read_write(self) -> bool:
        """Tell whether it may be written to; the same as :meth:`is_primary`.

        >>> await node.is_read_write()
        True
        """
        return await self.check("/read-write")

    async def is_leader(self) -> bool:
        """Tell whether it holds the leader key, of a standby cluster, too.

        >>> await node.is_leader()
        True
        """
        return await self.check("/leader")

    async def is_standby_leader(self) -> bool:
        """Tell whether it leads a standby cluster.

        >>> await node.is_standby_leader()
        False
        """
        return await self.check("/standby-leader")

    async def is_replica(
        self,
        lag: str | int | None = None,
        tags: Mapping[str, Any] | None = None,
        replication_state: str | None = None,
    ) -> bool:
        """Tell whether it is a running replica that may be read from.

        :param lag: how far it may be behind, in bytes or with a unit (``1MB``).
        :param tags: tags that it must have.
        :param replication_state: ``streaming`` or ``in archive recovery``.

        >>> await memory.node("b").is_replica(lag="1MB")
        True
        """
        return await self._replicates("/replica", lag, tags, replication_state=replication_state)

    async def is_read_only(
        self, lag: str | int | None = None, tags: Mapping[str, Any] | None = None
    ) -> bool:
        """Tell whether it may be read from: it leads, or is such a replica.

        :param lag: how far a replica may be behind.
        :param tags: tags that it must have.

        >>> await node.is_read_only(), await memory.node("b").is_read_only()
        (True, True)
        """
        return await self._replicates("/read-only", lag, tags)

    async def is_synchronous(
        self, lag: str | int | None = None, tags: Mapping[str, Any] | None = None
    ) -> bool:
        """Tell whether it is a synchronous standby that may be read from.

        :param lag: how far it may be behind.
        :param tags: tags that it must have.

        >>> await memory.node("b").is_synchronous()
        False
        """
        return await self._replicates("/sync", lag, tags)

    async def is_asynchronous(
        self, lag: str | int | None = None, tags: Mapping[str, Any] | None = None
    ) -> bool:
        """Tell whether it is an asynchronous standby that may be read from.

        :param lag: how far it may be behind.
        :param tags: tags that it must have.

        >>> await memory.node("b").is_asynchronous()
        True
        """
        return await self._replicates("/async", lag, tags)

    async def is_quorum(
        self, lag: str | int | None = None, tags: Mapping[str, Any] | None = None
    ) -> bool:
        """Tell whether it is a standby of the quorum that may be read from.

        :param lag: how far it may be behind.
        :param tags: tags that it must have.

        >>> await memory.node("b").is_quorum()
        False
        """
        return await self._replicates("/quorum", lag, tags)

    async def is_read_only_synchronous(
        self, lag: str | int | None = None, tags: Mapping[str, Any] | None = None
    ) -> bool:
        """Tell whether it leads, or is a synchronous standby that may be read from.

        :param lag: how far a standby may be behind.
        :param tags: tags that it must have.

        >>> await node.is_read_only_synchronous()
        True
        """
        return await self._replicates("/read-only-sync", lag, tags)

    async def is_read_only_quorum(
        self, lag: str | int | None = None, tags: Mapping[str, Any] | None = None
    ) -> bool:
        """Tell whether it leads, or is a standby of the quorum that may be read from.

        :param lag: how far a standby may be behind.
        :param tags: tags that it must have.

        >>> await node.is_read_only_quorum()
        True
        """
        return await self._replicates("/read-only-quorum", lag, tags)

    async def is_healthy(self) -> bool:
        """Tell whether PostgreSQL runs, whatever its role.

        >>> await node.is_healthy()
        True
        """
        return await self.check("/health")

    async def is_alive(self) -> bool:
        """Tell whether the HA loop runs on time.

        >>> await node.is_alive()
        True
        """
        return await self.check("/liveness")

    async def is_ready(self, lag: str | int | None = None, mode: str | None = None) -> bool:
        """Tell whether it leads, or replicates without too much lag.

        :param lag: how far it may be behind; by default as far as for a failover.
        :param mode: what is compared: ``apply``, which is the default, or ``write``.

        >>> await node.is_ready()
        True
        """
        return await self.check("/readiness", lag=query_of(lag), mode=mode)


def _tag(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
