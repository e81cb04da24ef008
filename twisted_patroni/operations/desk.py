"""Takes requests for operations, has them carried out, and lets clients wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_patroni.engine.interface import ConfigConflict, DcsUnavailable, EngineError, LaneFull
from twisted_patroni.operations.adoption import Adoption
from twisted_patroni.operations.book import OperationBook
from twisted_patroni.operations.cycles import Cycles
from twisted_patroni.operations.judges import status_unknown
from twisted_patroni.operations.leadership import Leadership, answer_time
from twisted_patroni.operations.restarts import Restarts
from twisted_patroni.operations.rollout import Rollout, change_config
from twisted_patroni.operations.validation import Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from twisted.internet.interfaces import IReactorTime

    from twisted_patroni.engine.interface import Engine, FailoverView, Look
    from twisted_patroni.events import EventStream
    from twisted_patroni.looks import Looks
    from twisted_patroni.operations.book import Key
    from twisted_patroni.operations.model import Kind, Operation, Origin

    Work = Callable[[Operation], Awaitable[Outcome | None]]

_log = Logger()
_GONE = Outcome(503, "The client has left before anything was done")
_SHUT = Outcome(503, "This node was shut down before the outcome was seen")


@define(eq=False)
class Desk:
    """Has operations carried out.

    :param engine: what carries them out.
    :param looks: tells what the DCS shows meanwhile.
    :param clock: for the deadlines.
    :param now: the present time, aware of its zone.
    :param stream: where their changes are published, and which tells of PostgreSQL's states.
    :param start_time: asks when the postmaster was started, ``None`` if that is not known.
    :param failed_reloads: returns how often the ``restapi`` section could not be reloaded.
    :ivar book: the operations.
    :ivar leadership: changes the leader.
    :ivar restarts: does what concerns this node only.
    """

    engine: Engine
    looks: Looks
    clock: IReactorTime
    now: Callable[[], datetime]
    stream: EventStream
    start_time: Callable[[], Deferred[datetime | None]]
    failed_reloads: Callable[[], int] = field(default=lambda: 0)
    book: OperationBook = field(init=False)
    leadership: Leadership = field(init=False)
    restarts: Restarts = field(init=False)
    _cycles: Cycles = field(init=False)
    _adoption: Adoption = field(init=False)
    _closing: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        def closing() -> bool:
            return self._closing

        self._cycles = Cycles(self.clock)
        self.book = OperationBook(
            lambda: self.engine.node().name,
            self.now,
            lambda document: self.stream.publish("operation", document),
        )
        self.leadership = Leadership(self.engine, self.looks, self.clock, self.now, closing)
        self.restarts = Restarts(
            self.engine,
            self._cycles,
            self.stream,
            self.start_time,
            self.now,
            closing,
            self.failed_reloads,
        )
        self._adoption = Adoption(self.book, self.leadership, self._begin)

    def looked(self, look: Look) -> None:
        """Take note of a look at the DCS.

        :param look: what it showed.
        """
        if not self._closing:
            self._adoption.looked(look)

    def cycled(self) -> None:
        """Take note of the end of an HA cycle."""
        self._cycles.tell()

    def stop(self) -> None:
        """Follow nothing any more; the engine goes on with what it has begun."""
        self._closing = True
        for operation in self.book.on_their_way():
            if operation.work is not None:
                operation.work.cancel()

    def begin(
        self,
        kind: Kind,
        body: Mapping[str, Any],
        by: Origin,
        key: Key | None = None,
        *,
        detached: bool = False,
        replace: bool = False,
    ) -> Operation:
        """Begin an operation.

        :param kind: what to do.
        :param body: the JSON object of the request.
        :param by: who asks.
        :param key: by what the request is known if it is repeated.
        :param detached: nobody waits for it: it goes on when its client leaves, and what others
            have to do for it is followed as well.
        :param replace: a configuration is the whole one, not a patch.
        :raise BookFull: if too many are on their way.
        """
        operation = self.book.enter(kind, body, by, key)
        operation.detached = detached or key is not None
        work: Work
        match kind:
            case "switchover" | "failover":
                work = lambda it: self.leadership.change(it, body, kind)  # noqa: E731
            case "restart":
                work = lambda it: self.restarts.restart(it, body)  # noqa: E731
            case "reinitialize":
                work = lambda it: self.restarts.reinitialize(it, body)  # noqa: E731
            case "reload":
                work = self.restarts.reload
            case "config":
                work = lambda it: self._configure(it, body, replace, detached)  # noqa: E731
        self._begin(operation, work)
        return operation

    async def _configure(
        self, operation: Operation, body: Mapping[str, Any], replace: bool, followed: bool
    ) -> Outcome | None:
        outcome = await change_config(
            operation, self.engine, body, lambda: self._closing, replace=replace
        )
        if outcome.code != 200 or not followed:
            return outcome
        operation.run(outcome.sentence)
        operation.answer(outcome)
        config = outcome.document
        await Rollout(self.engine, self.looks, self.clock, operation, config).follow()
        return None

    def _begin(self, operation: Operation, work: Work) -> None:
        operation.work = Deferred.fromCoroutine(self._carry_out(operation, work))

    async def _carry_out(self, operation: Operation, work: Work) -> None:
        """Do the work of an operation and see that it ends. Never fails."""
        try:
            outcome = await work(operation)
        except CancelledError:
            self._failed(operation, Failure(), _SHUT if self._closing else _GONE)
        except Exception as error:
            self._failed(operation, Failure(), told_error(error))
        else:
            if outcome is not None:
                operation.end("succeeded" if outcome.code < 400 else "failed", outcome)

    def _failed(self, operation: Operation, failure: Failure, outcome: Outcome) -> None:
        if not operation.attempted or failure.check(LaneFull):
            self.book.release(operation)  # nothing was done: a repeated request begins anew
        # Whoever waits for the answer is told, and that is logged.
        alone = operation.work is not None and not operation.answered.waiting
        if alone and not failure.check(CancelledError, EngineError):
            _log.failure("The {kind} {id} failed", failure, kind=operation.kind, id=operation.id)
        operation.answer(failure)
        if not failure.check(CancelledError):
            operation.end("failed", outcome)
        else:
            operation.end("unknown" if operation.committed else "cancelled", outcome)

    async def answer(self, operation: Operation, *, again: bool = False) -> Any:
        """Wait for what a client is told that asks for an operation and waits.

        :param operation: the operation.
        :param again: the client repeats its request: its waiting has a deadline of its own.
        :return: an :class:`Outcome`; fails with what has kept the operation from being done.
        """
        if not again or operation.kind not in ("switchover", "failover"):
            return await operation.answered.wait()
        seconds = answer_time(self.engine.node().loop_wait)
        try:
            return await operation.answered.wait().addTimeout(seconds, self.clock)
        except DeferredTimeout:
            return status_unknown(operation.kind, seconds)

    async def cancel(self, operation: Operation) -> bool:
        """Cancel what is scheduled; the result is false if that is not possible any more.

        :param operation: the operation.
        """
        if not operation.cancellable:
            return False
        operation.cancelling = True
        try:
            if operation.kind == "restart":
                done = await self.engine.delete_restart()
            else:
                key = (await self.engine.look()).cluster.failover
                same = key is not None and key == operation.failover
                done = same and key is not None and await self.engine.delete_failover(key)
        except BaseException:
            operation.cancelling = False
            raise
        operation.cancelling = False
        if done:
            self._cancelled(operation)
        return done

    def restart_deleted(self) -> None:
        """Take note that the scheduled restart was deleted."""
        for operation in self.book.on_their_way():
            if operation.kind == "restart" and operation.cancellable:
                self._cancelled(operation)

    def switchover_deleted(self, key: FailoverView) -> None:
        """Take note that a scheduled switchover was deleted.

        :param key: what was its failover key.
        """
        for operation in self.book.on_their_way():
            if operation.cancellable and operation.failover == key:
                self._cancelled(operation)

    def _cancelled(self, operation: Operation) -> None:
        operation.end("cancelled", Outcome(200, f"scheduled {operation.kind} deleted"))
        if operation.work is not None:
            operation.work.cancel()


def told_error(error: Exception) -> Outcome:
    """Return what an operation tells of an error that has kept it from being done.

    :param error: the error.
    """
    match error:
        case LaneFull(lane=lane):
            return Outcome(503, f"too many requests of this kind ({lane}) are under way")
        case DcsUnavailable(reason=reason):
            return Outcome(503, f"DCS is not accessible: {reason}")
        case ConfigConflict():
            return Outcome(409, str(error))
        case EngineError():
            return Outcome(503, str(error))
    return Outcome(500, "The operation failed; the log tells more")
