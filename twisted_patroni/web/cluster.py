"""What the DCS knows of the cluster: its members, and its past."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from twisted_patroni.settings import Right
from twisted_patroni.web.answers import Answer, json_answer
from twisted_patroni.web.routing import endpoint

if TYPE_CHECKING:
    from twisted_patroni.drain import Drains
    from twisted_patroni.engine.interface import ClusterView, Engine
    from twisted_patroni.web.resource import Call


async def known_cluster(engine: Engine) -> ClusterView:
    """Return the cluster as last seen, looking at the DCS only if that has expired.

    :param engine: the engine.
    """
    return engine.node().cluster or (await engine.look()).cluster


@define(eq=False)
class ClusterPages:
    """Shows the cluster.

    :param engine: the engine.
    :param drains: whether load balancers are to leave this node.
    """

    engine: Engine
    drains: Drains

    @endpoint(
        "GET", "/cluster/:rest*", summary="The members, as the DCS has them now.", right=Right.READ
    )
    async def cluster(self, call: Call) -> Answer:
        """Look at the DCS, once for all who ask together."""
        cluster = await self.engine.cluster_document()
        drain = self.drains.current
        if drain is None:
            return json_answer(cluster)
        # Nobody but the node itself knows of its drain, and the document belongs to others, too.
        own = self.engine.node().name
        members = [
            {**member, "drain": drain.document} if member["name"] == own else member
            for member in cluster["members"]
        ]
        return json_answer({**cluster, "members": members})

    @endpoint(
        "GET",
        "/history/:rest*",
        summary="Past changes of the leader, oldest first.",
        right=Right.READ,
    )
    async def history(self, call: Call) -> Answer:
        """Show the history key."""
        return json_answer((await known_cluster(self.engine)).history)
