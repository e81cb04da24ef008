"""A changed dynamic configuration on its way to each member of the cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from twisted_patroni.engine.interface import EngineError, config_digest
from twisted_patroni.operations.validation import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.internet.interfaces import IReactorTime

    from twisted_patroni.engine.interface import Engine
    from twisted_patroni.looks import Looks
    from twisted_patroni.operations.model import Operation

#: Seconds between two questions to a member.
INTERVAL = 1.0
#: Seconds after which nobody is asked any more.
LONGEST = 300.0
#: What a member is asked: the picture that it has of itself, at once.
QUESTION = "/events?timeout=0"
_GRACE = 2.0
_APPLIED = "applied"
_CANNOT_TELL = "cannot tell"
_NOT_YET = "not yet"


def told_digest(code: int, body: bytes) -> str | None:
    """Return the digest that a member's answer tells, ``None`` if it tells none.

    :param code: the answer's status.
    :param body: its body.
    """
    try:
        digest = json.loads(body)["snapshot"]["node"]["config"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return digest if code == 200 and isinstance(digest, str) else None


@define(eq=False)
class Rollout:
    """Asks members until they work by a configuration, each at most once a second.

    :param engine: asks them.
    :param looks: tells who is a member, and whether the configuration has changed again.
    :param clock: the time.
    :param operation: tells what has happened.
    :param config: the configuration that was written.
    :ivar members: for each member what is known of it.
    """

    engine: Engine
    looks: Looks
    clock: IReactorTime
    operation: Operation
    config: Mapping[str, Any]
    members: dict[str, str] = field(factory=dict, init=False)
    _digest: str = field(init=False)
    _began: float = field(init=False)
    _looks: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._digest = config_digest(self.config)
        self._began = self.clock.seconds()
        self._looks = self.engine.looks_begun()

    async def follow(self) -> None:
        """Ask until all have applied it or cannot tell, and end the operation."""
        while True:
            for name in list(self._open()):
                await self._ask(name)
            if self._replaced():
                sentence = "The configuration has been changed again"
                self.operation.end("unknown", Outcome(409, sentence), members=self.members)
                return
            if not any(True for _ in self._open()):
                return self._succeed()
            if self.clock.seconds() - self._began >= LONGEST:
                sentence = f"Not all members have applied it within {LONGEST:.0f} seconds"
                self.operation.end("unknown", Outcome(503, sentence), members=self.members)
                return
            await deferLater(self.clock, INTERVAL)

    def _succeed(self) -> None:
        applied = [name for name, known in self.members.items() if known == _APPLIED]
        silent = [name for name, known in self.members.items() if known == _CANNOT_TELL]
        sentence = f"Applied by {', '.join(applied) or 'nobody who can tell'}"
        if silent:
            sentence += f"; {', '.join(silent)} cannot tell"
        self.operation.end("succeeded", Outcome(200, sentence), members=self.members)

    def _open(self) -> Iterator[str]:
        """Name the members that are still to be asked; who leaves the cluster is not."""
        look, own = self.looks.latest, self.engine.node().name
        names = {own, *(() if look is None else (each.name for each in look.cluster.members))}
        self.members = {name: self.members.get(name, _NOT_YET) for name in sorted(names)}
        return (
            name for name, known in self.members.items() if known not in (_APPLIED, _CANNOT_TELL)
        )

    def _replaced(self) -> bool:
        look, waited = self.looks.latest, self.clock.seconds() - self._began
        # The first looks may still come from a cache that the write has not reached.
        if look is None or look.number <= self._looks or waited < _GRACE:
            return False
        config = look.cluster.config
        if config is None or config_digest(config) == self._digest:
            return False
        if _as_texts(config) == _as_texts(self.config):
            # The engine takes "30" for 30 and has left what was there before.
            self._digest = config_digest(config)
            return False
        return True

    async def _ask(self, name: str) -> None:
        if name == self.engine.node().name:
            found = self.engine.applied_config()
        else:
            try:
                found = told_digest(*await self.engine.ask_member(name, QUESTION))
            except CancelledError:
                raise
            except EngineError as error:
                self.members[name] = str(error)[:200]
                return
            if found is None:
                waited = self.clock.seconds() - self._began
                if waited >= 2 * self.engine.node().loop_wait:
                    self._know(name, _CANNOT_TELL)
                return
        if found == self._digest:
            self._know(name, _APPLIED)

    def _know(self, name: str, known: str) -> None:
        self.members[name] = known
        self.operation.step(f"{name} has applied it" if known == _APPLIED else f"{name} {known}")


def _as_texts(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _as_texts(each) for key, each in value.items()}
    return [_as_texts(each) for each in value] if isinstance(value, list) else str(value)


async def change_config(
    operation: Operation,
    engine: Engine,
    body: Mapping[str, Any],
    closing: Callable[[], bool],
    *,
    replace: bool,
) -> Outcome:
    """Change the dynamic configuration.

    :param operation: the operation that it is.
    :param engine: writes it.
    :param body: the JSON object of the request.
    :param closing: tells whether the API is being shut.
    :param replace: it is the whole configuration, not a patch.
    :return: how it ended, with the configuration if that was written.
    """
    operation.attempted = True
    try:
        if replace:
            if not await engine.replace_config(body):
                return Outcome(502, "The configuration could not be written")
            return Outcome(200, "configuration written", document=body)
        config = await engine.patch_config(body)
    except CancelledError:
        if closing():
            raise
        sentence = "The client has left while the configuration was being written"
        operation.end("unknown", Outcome(503, sentence))
        raise
    if config is None:
        return Outcome(503, "There is no configuration to patch")
    return Outcome(200, "configuration written", document=config)
