"""One member's REST API: each endpoint as a method, on connections that are kept.

node = Node.at(reactor, "http://10.0.0.11:8008")
print((await node.status()).role)
if await node.is_replica(lag="1MB"):
    ...
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from attrs import define

from twisted_patroni.client.errors import BrokenAnswer, refused
from twisted_patroni.client.pool import Pool
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.values import Cluster, HistoryEntry, NodeStatus, Operation, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from twisted.internet.defer import Deferred

    from twisted_patroni.client.response import Response

#: Seconds within which a node has answered a request that changes the leader or restarts.
PATIENCE = 60.0
_HEALTH = (200, 503)


@define(eq=False)
class Node:
    """One member of a cluster.

    :param pool: the connections to it.
    """

    pool: Pool

    @classmethod
    def at(cls, reactor: Any, url: str, settings: ClientSettings | None = None) -> Node:
        """Return the node at a URL; nothing is asked yet.

        :param reactor: the reactor.
        :param url: where its API is; a path ``/patroni``, as members publish it, is left out.
        :param settings: how to speak to it.
        """
        return cls(Pool(reactor, url, settings or ClientSettings()))

    @property
    def url(self) -> str:
        """Where its API is."""
        return self.pool.url

    def close(self) -> Deferred[None]:
        """Give up what is on its way, and close all connections."""
        return self.pool.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        json_body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Send a request and return the answer, whatever its status.

        :param method: the method.
        :param path: the path and what follows it.
        :param json_body: what to send as JSON, if anything.
        :param headers: what to send along.
        :param timeout: seconds until the answer must be complete.
        """
        body = None if json_body is None else json.dumps(json_body).encode()
        return await self.pool.request(method, path, body=body, headers=headers, timeout=timeout)

    async def _done(self, method: str, path: str, **more: Any) -> Response:
        response = await self.request(method, path, **more)
        if not response.ok:
            raise refused(response)
        return response

    async def _document(self, path: str) -> dict[str, Any]:
        response = await self._done("GET", path)
        document = response.json()
        if not isinstance(document, dict):
            raise BrokenAnswer(response.url, "answers with JSON that is no object", response)
        return document

    # What it is

    async def status(self) -> NodeStatus:
        """Return what the node says of itself."""
        return NodeStatus.of(await self._document("/patroni"))

    async def cluster(self) -> Cluster:
        """Return the members, as the DCS has them now."""
        return Cluster.of(await self._document("/cluster"))

    async def history(self) -> list[HistoryEntry]:
        """Return the past changes of the leader, oldest first."""
        response = await self._done("GET", "/history")
        lines = response.json()
        if not isinstance(lines, list):
            raise BrokenAnswer(response.url, "answers with JSON that is no list", response)
        return [HistoryEntry.of(line) for line in lines if isinstance(line, list)]

    async def metrics(self) -> str:
        """Return the metrics in Prometheus' text format."""
        return (await self._done("GET", "/metrics")).text

    async def check(self, path: str, **query: str | None) -> bool:
        """Tell whether the node is what a health check asks for.

        :param path: the check, as ``/primary``.
        :param query: its parameters, without those that are ``None``.
        """
        given = urlencode({key: value for key, value in query.items() if value is not None})
        response = await self.request("GET", f"{path}?{given}" if given else path)
        if response.status not in _HEALTH:
            raise refused(response)
        return response.ok

    async def is_primary(self) -> bool:
        """Tell whether it is the leader, and PostgreSQL accepts writes."""
        return await self.check("/primary")

    async def is_standby_leader(self) -> bool:
        """Tell whether it leads a standby cluster."""
        return await self.check("/standby-leader")

    async def is_replica(
        self,
        lag: str | int | None = None,
        tags: Mapping[str, str] | None = None,
        replication_state: str | None = None,
    ) -> bool:
        """Tell whether it is a running replica that may be read from.

        :param lag: how far it may be behind, in bytes or with a unit (``1MB``).
        :param tags: tags that it must have.
        :param replication_state: ``streaming`` or ``in archive recovery``.
        """
        wanted = {f"tag_{name}": value for name, value in (tags or {}).items()}
        bound = None if lag is None else str(lag)
        return await self.check(
            "/replica", lag=bound, replication_state=replication_state, **wanted
        )

    async def is_synchronous(self) -> bool:
        """Tell whether it is a synchronous standby."""
        return await self.check("/sync")

    async def is_asynchronous(self) -> bool:
        """Tell whether it is an asynchronous standby."""
        return await self.check("/async")

    async def is_healthy(self) -> bool:
        """Tell whether PostgreSQL runs, whatever its role."""
        return await self.check("/health")

    async def is_alive(self) -> bool:
        """Tell whether the HA loop runs on time."""
        return await self.check("/liveness")

    async def is_ready(self) -> bool:
        """Tell whether it leads, or replicates without too much lag."""
        return await self.check("/readiness")

    # The configuration

    async def config(self) -> dict[str, Any]:
        """Return the dynamic configuration of the cluster."""
        return await self._document("/config")

    async def patch_config(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a patch into the dynamic configuration, and return what comes of it.

        :param patch: the keys to set; those that are ``None`` are removed.
        """
        return await self._changed("PATCH", patch)

    async def replace_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the dynamic configuration, and return it.

        :param config: all of it.
        """
        return await self._changed("PUT", config)

    async def _changed(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        response = await self._done(method, "/config", json_body=dict(body))
        found = response.json()
        if not isinstance(found, dict):
            raise BrokenAnswer(response.url, "answers with JSON that is no object", response)
        return found

    async def reload(self) -> Outcome:
        """Have the node read its configuration file again."""
        return await self._act("POST", "/reload")

    # What it can be asked to do

    async def _act(self, method: str, path: str, body: object = None, **more: Any) -> Outcome:
        response = await self._done(method, path, json_body=body, **more)
        return Outcome(response.status, response.sentence)

    async def switchover(
        self,
        leader: str,
        candidate: str | None = None,
        *,
        at: datetime | None = None,
        timeout: float = PATIENCE,
    ) -> Outcome:
        """Hand the leader's role to another member, now or at a time.

        :param leader: who leads now; nothing is done if that is not so.
        :param candidate: who is to lead; ``None`` for the best.
        :param at: when, aware of its zone; ``None`` for now.
        :param timeout: seconds to wait for the end.
        """
        body = _failover(leader, candidate, at)
        return await self._act("POST", "/switchover", body, timeout=timeout)

    async def failover(self, candidate: str, *, timeout: float = PATIENCE) -> Outcome:
        """Make a member the leader, also when there is none.

        :param candidate: who is to lead.
        :param timeout: seconds to wait for the end.
        """
        return await self._act("POST", "/failover", {"candidate": candidate}, timeout=timeout)

    async def cancel_switchover(self) -> Outcome:
        """Forget the scheduled switchover."""
        return await self._act("DELETE", "/switchover")

    async def restart(
        self, *, at: datetime | None = None, timeout: float = PATIENCE, **conditions: Any
    ) -> Outcome:
        """Restart PostgreSQL, now or at a time.

        :param at: when, aware of its zone; ``None`` for now.
        :param timeout: seconds to wait for the end.
        :param conditions: what must be so: ``role``, ``postgres_version``, ``restart_pending``.
        """
        body = conditions if at is None else {**conditions, "schedule": at.isoformat()}
        return await self._act("POST", "/restart", body, timeout=timeout)

    async def cancel_restart(self) -> Outcome:
        """Forget the scheduled restart."""
        return await self._act("DELETE", "/restart")

    async def reinitialize(self, *, force: bool = False, from_leader: bool = False) -> Outcome:
        """Rebuild this replica from another member.

        :param force: also while something else goes on.
        :param from_leader: from the leader and nobody else.
        """
        body = {"force": force, "from_leader": from_leader}
        return await self._act("POST", "/reinitialize", body)

    # What is going on; nodes of upstream's daemon do not know of it

    async def operations(self) -> list[Operation]:
        """Return the last operations, newest first."""
        found = (await self._document("/operations")).get("operations")
        listed = found if isinstance(found, list) else []
        return [Operation.of(each) for each in listed if isinstance(each, dict)]

    async def operation(self, id: str, wait: float = 0.0) -> Operation:  # noqa: A002
        """Return an operation.

        :param id: its id.
        :param wait: seconds to wait for its end, 60 at most.
        """
        path = f"/operations/{id}?wait={wait:g}"
        response = await self._done("GET", path, timeout=wait + self.pool.settings.timeout)
        return Operation.of(response.json())


def _failover(leader: str, candidate: str | None, at: datetime | None) -> dict[str, str]:
    body = {"leader": leader}
    if candidate is not None:
        body["candidate"] = candidate
    if at is not None:
        body["scheduled_at"] = at.isoformat()
    return body
