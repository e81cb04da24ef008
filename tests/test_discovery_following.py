"""Which members fit at any time is what the cluster tells, and what each says itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from attrs import evolve
from psycopg.conninfo import conninfo_to_dict
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.client.endpoint import PatroniEndpoint
from twisted_patroni.client.errors import ClusterUnknown, NoMember
from twisted_patroni.client.finding import Aim, Place
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.testing import MemoryCluster
from twisted_patroni.client.tls import TlsFiles
from twisted_patroni.client.values import Member
from twisted_patroni.discovery.command import follow, once
from twisted_patroni.discovery.settings import Wish
from twisted_patroni.discovery.shapes import lines
from twisted_patroni.watch.settings import Contact

if TYPE_CHECKING:
    from collections.abc import Sequence


class DiscoveryCase(SynchronousTestCase):
    """A cluster in memory whose ``a`` leads."""

    def setUp(self) -> None:
        """Begin with all members well."""
        self.memory = MemoryCluster()
        self.shown: list[str] = []
        self.running: Deferred[None] | None = None
        self.addCleanup(self.end)

    def show(self, places: Sequence[Place]) -> None:
        """Note the names of those who fit."""
        self.shown.append(" ".join(place.member.name for place in places))

    def endpoint(self, *words: Any) -> PatroniEndpoint:
        """Return what knows whom to ask."""
        memory = self.memory
        return PatroniEndpoint(
            memory.clock, memory.urls, ClientSettings(), Aim(*words), memory, lambda: 0.5
        )

    def follow(self, *words: Any) -> None:
        """Begin to follow what is wanted: target, port, lag."""
        self.running = Deferred.fromCoroutine(follow(self.endpoint(*words), 10.0, self.show))
        self.wait(0.1)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.memory.clock.pump([0.1] * round(seconds * 10))

    def end(self) -> None:
        """End it, and see that nothing is left."""
        if self.running is not None and not self.running.called:
            self.running.cancel()
            self.failureResultOf(self.running, CancelledError)
        self.assertEqual(self.memory.clock.getDelayedCalls(), [])
        self.assertEqual(self.memory.open, 0)

    def assertShown(self, *expected: str) -> None:
        """Fail unless this was shown, and nothing else since the last time."""
        self.assertEqual(self.shown, list(expected))
        self.shown.clear()


class PrimaryTests(DiscoveryCase):
    """The primary."""

    def test_switchover(self) -> None:
        """It is shown at first, and again as soon as it is another one; not in between."""
        self.follow()
        self.assertShown("a")
        self.wait(10)
        self.assertShown()
        self.memory.switchover("b")
        self.assertShown("b")
        self.memory.switchover("a")
        self.assertShown("a")

    def test_none(self) -> None:
        """That there is none is shown as well, also at first."""
        self.memory.demote()
        self.follow()
        self.assertShown("")
        self.memory.switchover("c")
        self.assertShown("c")
        self.memory.kill("c")
        self.assertShown("")

    def test_promotion(self) -> None:
        """One that leads, but is not promoted yet, is shown as soon as it is."""
        self.memory.answer("b", "/primary", 503, {})
        self.follow()
        self.memory.switchover("b")
        self.wait(1)
        self.assertShown("a", "")
        self.memory.revive("b")
        self.wait(0.5)
        self.assertShown("b")

    def test_silent(self) -> None:
        """One whose API alone fails stays, until the cluster has another."""
        self.follow()
        self.memory.hang("a")
        self.wait(5)
        self.memory.revive("a")
        self.memory.refuse("a")
        self.wait(5)
        self.assertShown("a")
        self.memory.switchover("b")
        self.assertShown("b")

    def test_denied(self) -> None:
        """One that says that it is no primary is out, whatever the others take it for."""
        self.follow()
        self.memory.answer("a", "/primary", 503, {})
        self.wait(2)
        self.assertShown("a", "")

    def test_upstream(self) -> None:
        """Nodes without events are followed, too."""
        self.memory = MemoryCluster(events=False)
        self.follow()
        self.memory.switchover("c")
        self.wait(2.5)
        self.assertShown("a", "c")

    def test_nobody(self) -> None:
        """If no node answers at the start in time it fails, and says why."""
        for name in "abc":
            self.memory.kill(name)
        self.follow()
        self.wait(10)
        assert self.running is not None
        text = str(self.failureResultOf(self.running, ClusterUnknown).value)
        for name in "abc":
            self.assertIn(f"http://{name}:8008", text)
        self.assertShown()

    def test_silence_at_start(self) -> None:
        """Nodes that do not answer are named, too."""
        for name in "abc":
            self.memory.hang(name)
        self.follow()
        self.wait(10)
        assert self.running is not None
        text = str(self.failureResultOf(self.running, ClusterUnknown).value)
        self.assertEqual(text.count("http://"), 3)


class ReplicaTests(DiscoveryCase):
    """Replicas."""

    def test_replicas(self) -> None:
        """All are shown together, at each change of one of them."""
        self.follow("replica")
        self.assertShown("b c")
        self.memory.kill("b")
        self.assertShown("c")
        self.memory.revive("b")
        self.assertShown("b c")
        self.memory.switchover("b")
        self.assertEqual(self.shown[-1], "a c")

    def test_gone_meanwhile(self) -> None:
        """One that is gone before it has answered is not waited for."""
        self.memory.hang("b", "/replica")
        self.follow("replica")
        self.assertShown()
        self.memory.kill("b")
        self.assertShown("c")

    def test_no_answer(self) -> None:
        """One that does not answer at first does not hold up the others for ever."""
        self.memory.hang("b", "/replica")
        self.follow("replica")
        self.wait(3)
        self.assertShown("c")
        self.memory.revive("b")
        self.wait(3.1)
        self.assertShown("b c")

    def test_no_tls(self) -> None:
        """Who asks by TLS prints nobody whose API has none."""
        self.memory = MemoryCluster(scheme="https")
        found = self.successResultOf(Deferred.fromCoroutine(self.memory.node("a").cluster()))
        plain = [
            {**each, "api_url": each["api_url"].replace("https", "http")}
            if each["name"] == "b"
            else each
            for each in found.document["members"]
        ]
        for name in "abc":
            self.memory.answer(name, "/cluster", 200, {**found.document, "members": plain})
            self.memory.answer(name, "/events", 404, {})
        self.follow("replica")
        self.assertShown("c")

    def test_drained(self) -> None:
        """One that balancers are told to leave is out soon after, and in again later."""
        self.follow("replica")
        self.memory.answer("b", "/replica", 503, {})
        self.wait(2.1)
        self.assertShown("b c", "c")
        self.memory.revive("b")
        self.wait(0.6)
        self.assertShown("b c")

    def test_lag(self) -> None:
        """One is in while it is within the bound."""
        self.follow("replica", "postgres", 1000)
        self.memory.lag("b", 1001)
        self.wait(2.1)
        self.assertShown("b c", "c")
        self.memory.lag("b", 1000)
        self.wait(0.6)
        self.assertShown("b c")

    def test_any(self) -> None:
        """Any member is shown, whoever leads, in the order of their names."""
        self.follow("any", "rest")
        self.assertShown("a b c")


class OnceTests(DiscoveryCase):
    """Once."""

    def once(self, *words: Any) -> None:
        """Begin to look."""
        self.running = Deferred.fromCoroutine(once(self.endpoint(*words), 5.0, self.show))

    def test_primary(self) -> None:
        """What is there is shown at once."""
        self.once()
        self.assertShown("a")

    def test_replicas(self) -> None:
        """All that fit are shown together, without those that say they do not."""
        self.memory.answer("b", "/replica", 503, {})
        self.once("replica")
        self.assertShown("c")

    def test_waiting(self) -> None:
        """What is not there is waited for."""
        self.memory.demote()
        self.once()
        self.wait(1)
        self.assertShown()
        self.memory.switchover("c")
        self.wait(1)
        self.assertShown("c")

    def test_in_vain(self) -> None:
        """If there is none in time it fails, and says what was found."""
        self.memory.kill("a", noticed=False)
        self.once()
        self.wait(5.1)
        assert self.running is not None
        text = str(self.failureResultOf(self.running, NoMember).value)
        self.assertIn("http://a:8008/primary refuses connections", text)

    def test_cancelled(self) -> None:
        """It can be given up while it waits."""
        self.memory.hang("a")
        self.once()
        self.assertShown()


class ShapeTests(SynchronousTestCase):
    """How members are printed."""

    def setUp(self) -> None:
        """Have two members."""
        self.wish = Wish(Contact((), TlsFiles(), None), Aim("any"), False, "plain", 10.0)
        a = Member("a", "leader", host="10.0.0.1", port=5432)
        b = Member("b", "replica", host="::1", port=5433, lag=7)
        self.places = [Place(each, each.host or "", each.port or 0) for each in (a, b)]

    def lines(self, **changes: Any) -> list[str]:
        """Return how they are printed."""
        return lines(self.places, evolve(self.wish, **changes))

    def test_plain(self) -> None:
        """Once they are lines, followed they are one."""
        self.assertEqual(self.lines(), ["10.0.0.1:5432", "[::1]:5433"])
        self.assertEqual(self.lines(follow=True), ["10.0.0.1:5432,[::1]:5433"])
        self.places = []
        self.assertEqual(self.lines(follow=True), [""])
        self.assertEqual(self.lines(follow=True, shape="conninfo"), [""])

    def test_json(self) -> None:
        """In JSON they are one object in any case."""
        (line,) = self.lines(shape="json")
        self.assertEqual(self.lines(shape="json", follow=True), [line])
        b = {"name": "b", "role": "replica", "host": "::1", "port": 5433, "lag": 7}
        found = json.loads(line)
        self.assertEqual((found["target"], found["members"][1]), ("any", b))

    def test_conninfo(self) -> None:
        """For libpq each is a string; followed, one string leads to whichever takes it."""
        first, second = map(conninfo_to_dict, self.lines(shape="conninfo"))
        self.assertEqual(first, {"host": "10.0.0.1", "port": "5432"})
        self.assertEqual(second, {"host": "::1", "port": "5433"})
        (line,) = self.lines(shape="conninfo", follow=True, aim=Aim("replica"))
        expected = {
            "host": "10.0.0.1,::1",
            "port": "5432,5433",
            "target_session_attrs": "standby",
        }
        self.assertEqual(conninfo_to_dict(line), expected)

    def test_primary(self) -> None:
        """The session of a primary can write; the one of a standby cluster's leader cannot."""
        self.places = self.places[:1]
        (line,) = self.lines(shape="conninfo", aim=Aim("primary"))
        self.assertEqual(conninfo_to_dict(line)["target_session_attrs"], "read-write")
        member = evolve(self.places[0].member, role="standby_leader")
        self.places = [evolve(self.places[0], member=member)]
        (line,) = self.lines(shape="conninfo", aim=Aim("primary"))
        self.assertEqual(conninfo_to_dict(line)["target_session_attrs"], "standby")
