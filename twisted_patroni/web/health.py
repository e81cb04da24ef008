"""Health checks and probes: `/primary`, `/replica` and their kin, `/liveness`, `/readiness`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define
from twisted.logger import Logger

from twisted_patroni import checks
from twisted_patroni.checks import OK, UNAVAILABLE, HealthQuery
from twisted_patroni.settings import Right
from twisted_patroni.status import document
from twisted_patroni.web.answers import Answer, bare_answer, json_answer
from twisted_patroni.web.routing import Parameter, endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from twisted_patroni.drain import Drain, Drains
    from twisted_patroni.engine.interface import Engine
    from twisted_patroni.status import Snapshot, StatusSource
    from twisted_patroni.web.resource import Call

_log = Logger()

LAG = Parameter("lag", "the greatest tolerable replication lag, in bytes or with a unit (1MB)")
REPLICATION_STATE = Parameter(
    "replication_state", "the replication state asked for: streaming, or in archive recovery"
)
TAGS = Parameter("tag_*", "a tag that the node must have with this value")
MODE = Parameter("mode", "measure the lag by what is written (write) or replayed (apply)")


@define(eq=False)
class HealthChecks:
    """Tells load balancers and supervisors what this node is.

    :param engine: the engine.
    :param status: PostgreSQL's status.
    :param drains: whether load balancers are to leave this node.
    :param legacy_roles: whether to say ``master`` for ``primary``.
    :param time: Unix time in seconds.
    """

    engine: Engine
    status: StatusSource
    drains: Drains
    legacy_roles: Callable[[], bool]
    time: Callable[[], float]

    @endpoint(
        "GET HEAD OPTIONS",
        "/:check*",
        summary="Answer 200 if this node is what the path asks for, else 503, with its status.",
        query=(LAG, REPLICATION_STATE, TAGS),
    )
    def check(self, call: Call) -> Deferred[Answer]:
        """Decide on any path that no other endpoint has; an unknown one is never healthy."""
        # Balancers ask the same question again and again: it is answered once per snapshot,
        # and per drain, which may begin or end while a snapshot is in use.
        asked = call.request.method, call.request.uri

        def answer(seen: Snapshot) -> Answer:
            drain = self.drains.current
            key = asked if drain is None else (asked, drain)
            return seen.once(key, lambda snapshot: self._checked(snapshot, call, drain))

        return self.status.current().addCallback(answer)

    def _checked(self, seen: Snapshot, call: Call, drain: Drain | None) -> Answer:
        if drain is not None and checks.covers(call.path, primary=drain.primary):
            code = UNAVAILABLE
        else:
            code = self._decided(seen, call)
        return bare_answer(code) if call.bodiless else self._shown(seen, code, drain)

    def _decided(self, seen: Snapshot, call: Call) -> int:
        lag = call.query.get("lag")
        query = HealthQuery.of(call.query, None if lag is None else self.engine.parse_size(lag))
        return checks.decide(call.path, query, seen.node, seen.status)

    def _shown(self, seen: Snapshot, code: int, drain: Drain | None) -> Answer:
        shown = document(
            seen.node,
            seen.status,
            legacy_roles=self.legacy_roles(),
            drain=None if drain is None else drain.document,
        )
        return json_answer(shown, code)

    @endpoint("GET", "/liveness/:rest*", summary="Answer 200 while the HA loop runs on time.")
    async def liveness(self, call: Call) -> Answer:
        """Decide without asking PostgreSQL or the DCS."""
        alive = checks.liveness(self.engine.node(), self.time())
        if alive is None:
            # Late by more than one ttl: too late for a primary whose postmaster runs.
            alive = not await self.engine.postmaster_alive()
        return bare_answer(OK if alive else UNAVAILABLE)

    @endpoint(
        "GET",
        "/readiness/:rest*",
        summary="Answer 200 if this node leads, or replicates without too much lag.",
        query=(LAG, MODE),
    )
    async def readiness(self, call: Call) -> Answer:
        """Decide whether traffic may be sent here."""
        reason = checks.ready_without_status(self.engine.node())
        if reason is None:
            seen = await self.status.current()
            lag = call.query.get("lag")
            reason = checks.unready_reason(
                seen.node,
                seen.status,
                None if lag is None else self.engine.parse_size(lag),
                "write" if call.query.get("mode") == "write" else "apply",
            )
        if reason:
            _log.debug("not ready: {reason}", reason=reason)
        return bare_answer(UNAVAILABLE if reason else OK)

    @endpoint(
        "GET",
        "/patroni/:rest*",
        summary="The status of this node.",
        right=Right.READ,
        for_members=True,
    )
    async def patroni(self, call: Call) -> Answer:
        """Answer 200 whatever the status is; other members read it during a leader race."""
        seen = await self.status.current()
        drain = self.drains.current
        return seen.once(("patroni", drain), lambda snapshot: self._shown(snapshot, OK, drain))
