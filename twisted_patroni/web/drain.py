"""`/drain`: have load balancers leave this node before maintenance, and come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from twisted_patroni.access import Access
from twisted_patroni.drain import BadDrain, fit, parse_drain
from twisted_patroni.settings import Right
from twisted_patroni.web.answers import Answer, json_answer, problem
from twisted_patroni.web.resource import Refused
from twisted_patroni.web.routing import Body, endpoint

if TYPE_CHECKING:
    from twisted_patroni.drain import Drains
    from twisted_patroni.engine.interface import Engine
    from twisted_patroni.web.resource import Call

_LONGEST_BODY = 16384


def _owner(call: Call) -> str | None:
    """Return who the client has proved to be: by a password, or else by a certificate."""
    certificate = call.request.channel.client_certificate
    name = call.request.user or (certificate and certificate.subject)
    return fit(name) if name else None


def _not_drained() -> Answer:
    return problem(404, "this node is not drained")


@define(eq=False)
class DrainPages:
    """Drains this node, and says whether it is drained.

    :param engine: parses durations.
    :param drains: the drain that there may be.
    """

    engine: Engine
    drains: Drains

    @endpoint("GET", "/drain", summary="The drain of this node.", right=Right.READ)
    async def show(self, call: Call) -> Answer:
        """Answer 404 if there is none."""
        drain = self.drains.current
        return _not_drained() if drain is None else json_answer(drain.document)

    @endpoint(
        "POST",
        "/drain",
        summary="Answer 503 to the checks of load balancers, until further notice or a time.",
        access=Access.CHECKED,
        right=Right.OPERATE,
        body=Body(optional=True, limit=_LONGEST_BODY),
    )
    async def drain(self, call: Call) -> Answer:
        """Answer with the drain, which takes the place of the one before."""
        try:
            wanted = parse_drain(call.json(), self.engine.parse_seconds, self.drains.now())
        except Refused as refused:
            return problem(refused.answer.code, refused.sentence)
        except BadDrain as error:
            return problem(400, str(error))
        drain = self.drains.begin(**{"owner": _owner(call), **wanted})
        return json_answer(drain.document)

    @endpoint(
        "DELETE",
        "/drain",
        summary="End the drain of this node.",
        access=Access.CHECKED,
        right=Right.OPERATE,
    )
    async def end(self, call: Call) -> Answer:
        """Answer with the drain that has ended, 404 if there was none."""
        drain = self.drains.current
        if drain is None:
            return _not_drained()
        self.drains.end()
        return json_answer(drain.document)
