"""Tests of the client of a cluster to which anything happens, at random but the same each time."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from attrs import define, field
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.python.failure import Failure
from twisted.web.iweb import IAgent
from zope.interface import implementer

from tests.replicascase import ReplicasCase
from twisted_patroni.client.errors import ClientError, OutcomeUnknown
from twisted_patroni.client.response import Response

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.web.iweb import IResponse

STEP = 0.05
NAMES = ("a", "b", "c")


@implementer(IAgent)
@define(eq=False)
class Witness:
    """Brings requests to the nodes, and notes how each of them has ended.

    :param agent: brings them there.
    :ivar ends: by what was asked, how each attempt has ended: with a status, with ``unreachable``,
        with ``lost``, or not yet, which is ``open``.
    """

    agent: IAgent
    ends: dict[str, list[str]] = field(factory=dict)

    def request(self, method: bytes, uri: bytes, *more: Any) -> Deferred[IResponse]:
        """Send a request."""
        parts = urlsplit(uri.decode())
        ends = self.ends.setdefault(f"{parts.path}?{parts.query}", [])
        place = len(ends)
        ends.append("open")
        asked: Deferred[IResponse] = self.agent.request(method, uri, *more)

        def ended(result: Any) -> Any:
            if isinstance(result, Failure):
                ends[place] = "unreachable" if result.check(Refused) else "lost"
            else:
                ends[place] = str(result.code)
            return result

        return asked.addBoth(ended)


@define(eq=False)
class Asked:
    """A request that somebody waits for.

    :param target: what was asked for.
    :param safe: it only reads.
    :param deadline: when it must have ended.
    :ivar ended: when it has, and with what.
    """

    target: str
    safe: bool
    deadline: float
    ended: tuple[float, Any] | None = None


class StormTests(ReplicasCase):
    """A cluster in a storm."""

    def setUp(self) -> None:
        """Watch what is asked."""
        super().setUp()
        self.witness = Witness(self.memory)
        self.gate.agent = self.witness
        self.asked_all: list[Asked] = []

    def happen(self, random: Random) -> None:
        """Let something happen to a member."""
        name = random.choice(NAMES)
        what = random.choice(("switchover", "kill", "revive", "revive", "hang", "refuse", "busy"))
        if what == "switchover":
            self.memory.revive(name)
            self.memory.switchover(name)
        elif what == "busy":
            self.memory.answer(name, "/restart", random.choice((None, 503)), "busy")
        else:
            getattr(self.memory, what)(name)

    def ask(self, random: Random) -> None:
        """Ask for something."""
        safe, seconds = random.random() < 0.5, random.uniform(1.0, 15.0)
        method, path = ("GET", "/patroni") if safe else ("POST", "/restart")
        target = f"{path}?n={len(self.asked_all)}"
        asked = Asked(target, safe, self.clock.seconds() + seconds)
        self.asked_all.append(asked)
        options: dict[str, Any] = {"timeout": seconds, "retry": random.random() < 0.7}
        if random.random() < 0.3:
            options["target"] = random.choice(("any", "leader"))

        def ended(result: Any) -> None:
            asked.ended = (self.clock.seconds(), result)

        self.begin(self.replicas.request(method, target, **options)).addBoth(ended)

    def check(self, asked: Asked) -> None:
        """Assert that a request has ended in time, and was sent no more often than it may be."""
        assert asked.ended is not None, asked.target
        when, result = asked.ended
        self.assertLessEqual(when, asked.deadline + 2 * STEP, asked.target)
        if isinstance(result, Failure):
            self.assertTrue(result.check(ClientError), result)
        else:
            self.assertIsInstance(result, Response)
        ends = self.witness.ends.get(asked.target, [])
        if not asked.safe:
            for each in ends[:-1]:
                self.assertIn(each, ("unreachable", "503"), f"{asked.target}: {ends}")
            if ends and ends[-1] in ("lost", "open"):
                self.assertTrue(result.check(OutcomeUnknown), f"{asked.target}: {result}")

    def storm(self, seed: int) -> None:
        """Let things happen for a while, and be asked meanwhile."""
        random = Random(seed)
        self.started()
        for _ in range(600):
            if random.random() < 0.05:
                self.happen(random)
            if random.random() < 0.3:
                self.ask(random)
            self.clock.advance(STEP)
        for name in NAMES:
            self.memory.revive(name)
        if self.memory.leader is None:
            self.memory.switchover("b")
        self.pass_time(16.0, STEP)
        for each in self.asked_all:
            self.check(each)
        results = [each.ended[1] for each in self.asked_all if each.ended is not None]
        statuses = [getattr(each, "status", None) for each in results]
        self.assertGreater(statuses.count(200), len(statuses) / 4)
        self.assertEqual(self.get(self.replicas.leader()).name, self.memory.leader)
        self.get(self.replicas.close())
        self.assertEqual((self.memory.open, self.clock.getDelayedCalls()), (0, []))


def _add_tests() -> None:
    def test_of(seed: int) -> Any:
        def test(self: StormTests) -> None:
            self.storm(seed)

        test.__doc__ = f"All ends in time, and nothing is done twice, in storm {seed}."
        return test

    for seed in range(8):
        setattr(StormTests, f"test_{seed}", test_of(seed))


_add_tests()
