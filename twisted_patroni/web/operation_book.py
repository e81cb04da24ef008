"""`/operations`: what is being done, what was done, and how it has ended."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import define
from twisted.internet.defer import TimeoutError as DeferredTimeout

from twisted_patroni.access import Access
from twisted_patroni.events.model import history_document
from twisted_patroni.settings import Right
from twisted_patroni.web.answers import Answer, json_answer, problem
from twisted_patroni.web.resource import refuse
from twisted_patroni.web.routing import Parameter, endpoint

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from twisted_patroni.operations import Desk, Operation
    from twisted_patroni.web.resource import Call

#: Seconds that one can wait for an operation's end in one request.
LONGEST_WAIT = 60.0
#: Lines of the history that are shown.
_PAST = 100
_SECONDS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")


def _seconds(call: Call) -> float:
    text = call.query.get("wait", "0")
    seconds = float(text) if _SECONDS.fullmatch(text) else None
    if seconds is None or seconds > LONGEST_WAIT:
        sentence = f"wait: expected seconds from 0 to {LONGEST_WAIT:.0f}, but got {text[:40]!r}"
        raise refuse(400, sentence)
    return seconds


@define(eq=False)
class BookPages:
    """Shows operations, and cancels what is scheduled.

    :param desk: has the operations.
    :param clock: for those who wait.
    """

    desk: Desk
    clock: IReactorTime

    @endpoint(
        "GET",
        "/operations",
        summary="The last operations, newest first, and past changes of the leader.",
        right=Right.READ,
    )
    async def index(self, call: Call) -> Answer:
        """Show all that are kept, and of the history as much as is useful."""
        if "wait" in call.query:
            return problem(400, "wait: only a single operation can be waited for")
        look, cached = self.desk.looks.latest, self.desk.engine.node().cluster
        cluster = cached if look is None else look.cluster
        history = [] if cluster is None else list(cluster.history)[-_PAST:]
        return json_answer(
            {
                "operations": self.desk.book.documents(),
                "history": [history_document(line) for line in history],
            }
        )

    def _find(self, call: Call) -> Operation:
        operation = self.desk.book.find(call.parameters["id"])
        if operation is None:
            sentence = "there is no such operation, or no more"
            raise refuse(404, sentence)
        return operation

    @endpoint(
        "GET",
        "/operations/:id",
        summary="One operation.",
        right=Right.READ,
        query=(Parameter("wait", "Seconds, up to 60, to wait for its end."),),
    )
    async def show(self, call: Call) -> Answer:
        """Answer at its end, or after the time that the client would wait."""
        operation, seconds = self._find(call), _seconds(call)
        if seconds > 0 and not operation.finished:
            with suppress(DeferredTimeout):
                await operation.over.wait().addTimeout(seconds, self.clock)
        return json_answer(operation.document)

    @endpoint(
        "DELETE",
        "/operations/:id",
        summary="Cancel an operation that is scheduled.",
        access=Access.CHECKED,
        right=Right.OPERATE,
    )
    async def cancel(self, call: Call) -> Answer:
        """Answer with the operation; 409 if it is too late for that, or has always been."""
        operation = self._find(call)
        if await self.desk.cancel(operation):
            return json_answer(operation.document)
        if operation.finished:
            return problem(409, f"the operation has ended: {operation.state}")
        if operation.cancellable:
            return problem(409, "what was scheduled has changed meanwhile, or is gone")
        return problem(409, f"the operation is {operation.state}: it is too late to cancel it")
