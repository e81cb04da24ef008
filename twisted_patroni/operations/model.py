"""One operation: what was asked for, what has happened so far, and how it ended."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from attrs import define, field, frozen

from twisted_patroni.operations.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from twisted.internet.defer import Deferred

    from twisted_patroni.engine.interface import FailoverView
    from twisted_patroni.operations.validation import Outcome

Kind = Literal["switchover", "failover", "restart", "reinitialize", "reload", "config"]
End = Literal["succeeded", "failed", "cancelled", "unknown"]
KINDS: tuple[Kind, ...] = ("switchover", "failover", "restart", "reinitialize", "reload", "config")
ENDS: tuple[End, ...] = ("succeeded", "failed", "cancelled", "unknown")

#: Steps that are kept of one operation.
MOST_STEPS = 100
_LONGEST_STEP = 500
#: Bytes of a request, as JSON, that are kept to be shown.
_LONGEST_REQUEST = 4096


def shown_request(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a request as an operation shows it: one that is too long only by its keys.

    :param request: the JSON object that the client sent.
    """
    try:
        text = json.dumps(request, default=str, allow_nan=False)
    except (ValueError, RecursionError):
        return {"omitted": "there is no JSON for it"}
    if len(text) <= _LONGEST_REQUEST:
        return json.loads(text)  # type: ignore[no-any-return]
    keys = [str(key)[:40] for key in list(request)[:20]]
    return {"omitted": f"{len(text)} bytes", "keys": keys}


@frozen
class Origin:
    """Who has asked for an operation.

    :param user: who the client has proved to be by a password.
    :param certificate: the subject of its certificate.
    :param address: where it came from; ``unix`` for a Unix socket.
    :param dcs: it was found in the DCS: another node, or ``patronictl``, has been asked.
    """

    user: str | None = None
    certificate: str | None = None
    address: str | None = None
    dcs: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """It as JSON."""
        known = {"user": self.user, "certificate": self.certificate, "address": self.address}
        return {**known, "dcs": True} if self.dcs else known


@define(eq=False)
class Operation:
    """An operation on its way.

    :param id: its name, as in ``/operations/<id>``.
    :param kind: what is done.
    :param node: the node that does it.
    :param request: as the client sent it.
    :param by: who asked.
    :param now: the present time, aware of its zone.
    :param changed: called after each change.
    :ivar detached: nobody need wait for it: it goes on when its client leaves.
    :ivar alone: its client has left.
    :ivar committed: something was done that does not end with the client's waiting.
    :ivar attempted: something was tried whose effect may have come about even if it has failed.
    :ivar cancelling: somebody is about to cancel what is scheduled.
    :ivar failover: the failover key that stands for it.
    :ivar accepted: opened when it is known that it is not refused, or that it is.
    :ivar answered: what the client that waits is told, or the failure.
    :ivar over: opened when it has ended.
    :ivar work: what carries it out.
    :ivar on_alone: called when nobody waits for its answer any more.
    """

    id: str
    kind: Kind
    node: str
    request: Mapping[str, Any]
    by: Origin
    now: Callable[[], datetime]
    changed: Callable[[Operation], None]
    state: str = field(default="accepted", init=False)
    scheduled_at: datetime | None = field(default=None, init=False)
    detached: bool = field(default=False, init=False)
    alone: bool = field(default=False, init=False)
    committed: bool = field(default=False, init=False)
    attempted: bool = field(default=False, init=False)
    cancelling: bool = field(default=False, init=False)
    failover: FailoverView | None = field(default=None, init=False)
    accepted: Gate[None] = field(factory=Gate, init=False)
    answered: Gate[Any] = field(init=False)
    over: Gate[None] = field(factory=Gate, init=False)
    work: Deferred[None] | None = field(default=None, init=False)
    on_alone: list[Callable[[], None]] = field(factory=list, init=False)
    created: datetime = field(init=False)
    _ended: datetime | None = field(default=None, init=False)
    _result: dict[str, Any] | None = field(default=None, init=False)
    _steps: list[dict[str, str]] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.created = self.now()
        self.answered = Gate(self._alone)

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self._ended is not None

    @property
    def refused(self) -> bool:
        """Whether nothing was done at all, and it is known why."""
        return self.answered.is_open and not self.committed

    @property
    def cancellable(self) -> bool:
        """Whether it is still to come, and can be called off."""
        return self.state == "accepted" and self.scheduled_at is not None

    @property
    def document(self) -> dict[str, Any]:
        """It as clients see it; later changes do not touch what was returned."""
        return {
            "id": self.id,
            "kind": self.kind,
            "node": self.node,
            "request": self.request,
            "by": self.by.document,
            "state": self.state,
            "created": self.created.isoformat(),
            "scheduled_at": self.scheduled_at and self.scheduled_at.isoformat(),
            "ended": self._ended and self._ended.isoformat(),
            "steps": list(self._steps),
            "result": self._result,
            "cancellable": self.cancellable,
        }

    def step(self, text: str) -> None:
        """Tell what has just happened.

        :param text: a sentence without its full stop.
        """
        if not self.finished and len(self._steps) < MOST_STEPS:
            self._steps.append({"time": self.now().isoformat(), "text": text[:_LONGEST_STEP]})
            self.changed(self)

    def run(self, text: str) -> None:
        """Begin to happen, or go on: from now on it does not end with the client's waiting.

        :param text: what has just happened.
        """
        if not self.finished:
            self.begin()
            self.step(text)
            self.commit()

    def begin(self) -> None:
        """Begin to happen, though it may still be dropped if the client leaves."""
        self.state = "running"
        self.accepted.open(None)

    def schedule(self, when: datetime, text: str) -> None:
        """Be left until a time has come.

        :param when: that time.
        :param text: what has just happened.
        """
        if not self.finished:
            self.scheduled_at = when
            self.step(text)
            self.commit()

    def commit(self) -> None:
        """Take note that something was done that does not end with the client's waiting."""
        self.committed = True
        self.accepted.open(None)

    def answer(self, value: object) -> None:
        """Tell the client that waits; the operation itself may go on.

        :param value: an outcome, an answer or a failure.
        """
        self.answered.open(value)
        self.accepted.open(None)

    def end(self, state: End, outcome: Outcome, **more: Any) -> None:
        """End; what follows changes nothing any more.

        :param state: how.
        :param outcome: what a client is told of it.
        :param more: what else its result tells.
        """
        if self.finished:
            return
        self._ended = self.now()
        self.state = state
        self._result = {"status": outcome.code, "text": outcome.sentence, **more}
        self.changed(self)
        self.answer(outcome)
        self.over.open(None)
        self.on_alone.clear()

    def _alone(self) -> None:
        """Stop what is done only for a client that has left."""
        if self.detached or self.finished:
            return
        self.alone = True
        self.answered.forget()
        for each in list(self.on_alone):
            each()
        if not self.committed and self.work is not None:
            self.work.cancel()
