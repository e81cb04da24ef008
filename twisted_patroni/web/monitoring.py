"""`GET /metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from twisted_patroni.metrics import ApiMetrics, engine_metrics
from twisted_patroni.settings import Right
from twisted_patroni.web.answers import Answer
from twisted_patroni.web.routing import endpoint

if TYPE_CHECKING:
    from twisted_patroni.status import StatusSource
    from twisted_patroni.web.resource import Call


@define(eq=False)
class Monitoring:
    """Serves Prometheus.

    :param status: PostgreSQL's status.
    :param api: what the API counts about itself.
    """

    status: StatusSource
    api: ApiMetrics

    @endpoint(
        "GET", "/metrics/:rest*", summary="Metrics in Prometheus' text format.", right=Right.READ
    )
    async def metrics(self, call: Call) -> Answer:
        """Answer in every state of PostgreSQL: a failed scrape would blind its reader."""
        seen = await self.status.current()
        shared = seen.once("metrics", lambda it: engine_metrics(it.node, it.status))
        text = shared + self.api.text()
        return Answer(200, text.encode("utf-8"), "text/plain")
