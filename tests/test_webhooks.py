"""Tests of twisted_patroni.webhooks.hooks: what a whole node sends, over reloads and at its end."""

from __future__ import annotations

import json
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Authority
from tests.doubles import make_cluster
from tests.logs import logged_by
from tests.memory_api import ApiCase, inline_lanes
from tests.scratch import scratch_directory
from tests.webhook_cases import FakePoster
from twisted_patroni.events import NodeState, View
from twisted_patroni.events.stream import KEPT
from twisted_patroni.settings import Settings, SettingsError
from twisted_patroni.tap import Options, makeService
from twisted_patroni.webhooks.hooks import LAST_CHANCE

URL = "http://hooks.example.com/in?token=hush"
NAME = "hooks.example.com:80/in"


class HooksCase(ApiCase):
    """A test case with the node alpha, which leads, and receivers that the test answers for."""

    def setUp(self) -> None:
        """Begin with one webhook."""
        self.events = logged_by(self, "twisted_patroni.webhooks.hooks")
        self.begin({"url": URL})

    def begin(self, *entries: dict[str, Any]) -> None:
        """Begin with these webhooks."""
        self.posters: list[FakePoster] = []
        self.use(lanes=inline_lanes())
        self.hooks, self.stream = self.api.api.webhooks, self.api.api.stream

        def make_poster(*arguments: Any) -> FakePoster:
            self.posters.append(FakePoster(*arguments))
            return self.posters[-1]

        self.hooks.make_poster = make_poster
        self.stream.view = View("demo", NodeState("alpha", "running", "primary"), leader="alpha")
        self.reload(*entries)

    def reload(self, *entries: dict[str, Any]) -> None:
        """Let these webhooks count."""
        self.api.apply(Settings.of({"listen": "127.0.0.1:8008", "webhooks": list(entries)}))

    def publish(self, *names: str) -> None:
        """Let members take the lead, one after the other; it is this node that tells of alpha."""
        for name in names:
            self.stream.publish("leader", {"old": None, "new": name, "timeline": 1})
        self.api.clock.advance(0)

    def lines(self) -> list[str]:
        """Return the lines in the log since the last time."""
        lines = [formatEvent(event) for event in self.events]
        self.events.clear()
        return lines

    def numbers(self, which: int = -1) -> list[int]:
        """Return how many events after the first one each was that a receiver got."""
        first = int(self.api.clock.seconds() * 1000)
        return [int(number) - first for number in self.posters[which].ids]

    def samples(self) -> dict[str, float]:
        """Return the metrics of webhooks, by name, webhook and result."""
        prefix = "twisted_patroni_webhook_"
        text = self.request("GET", "/metrics").body.decode()
        return {
            " ".join(
                [sample.name.removeprefix(prefix)]
                + [sample.labels[key] for key in ("url", "result") if key in sample.labels]
            ): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith(prefix)
        }


class SendingTests(HooksCase):
    """What is sent."""

    def test_body(self) -> None:
        """The event with the names of cluster and node; the id has stream and number."""
        self.publish("alpha")
        (poster,) = self.posters
        ((headers, body),) = poster.sent
        number = self.stream.newest
        self.assertEqual(headers["webhook-id"], f"{self.stream.name}.{number}")
        self.assertEqual(
            json.loads(body),
            {
                "number": number,
                "time": "2026-07-01T12:00:00+00:00",
                "type": "leader",
                "data": {"old": None, "new": "alpha", "timeline": 1},
                "scope": "demo",
                "node": "alpha",
            },
        )

    def test_choice(self) -> None:
        """Each gets the types that it wants, and only what this node sees first-hand."""
        self.begin({"url": URL}, {"url": "http://b", "events": ["operation", "leader"]})
        self.publish("beta", "alpha")
        self.stream.publish("operation", {"id": "op-1", "by": None})
        self.stream.publish("config", {"changed": {}})  # alpha is no member of this view
        self.stream.publish("node", {"name": "alpha", "changed": ["state"]})
        self.api.clock.advance(0)
        kinds = []
        for poster in self.posters:
            poster.answers = [200] * 9
            poster.answer()
            kinds.append([json.loads(body)["type"] for _, body in poster.sent])
        self.assertEqual(kinds, [["leader", "node"], ["leader", "operation"]])

    def test_real_change(self) -> None:
        """What the DCS shows to have changed is sent."""
        self.begin({"url": URL, "events": "config"})
        self.api.open()
        self.engine.look()
        self.engine.dcs = make_cluster(config={"ttl": 20})
        self.engine.look()
        self.api.clock.advance(0)
        ((_, body),) = self.posters[0].sent
        self.assertEqual(json.loads(body)["data"], {"changed": {"ttl": {"old": 30, "new": 20}}})

    def test_fault(self) -> None:
        """A fault of ours is logged, and does not reach others who follow the events."""
        told: list[int] = []
        self.stream.follow(lambda: told.append(1))
        identity = self.hooks.identity

        def fault() -> tuple[str, str]:
            raise ZeroDivisionError

        self.hooks.identity = fault
        self.publish("alpha")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.hooks.identity = identity
        self.publish("alpha")
        self.assertEqual((self.numbers(), told), ([2], [1, 1]))

    def test_overrun(self) -> None:
        """What has come and gone before anybody could look is counted, and the rest is sent."""
        self.begin({"url": URL, "queue": 5000})
        self.posters[0].answers = [200] * 2000
        self.publish(*["alpha"] * (KEPT + 7))
        self.assertEqual(self.numbers(), list(range(8, KEPT + 8)))
        self.assertEqual(self.lines(), ["7 events have come and gone too fast for webhooks"])
        self.assertEqual(self.samples()[f"deliveries_total {NAME} dropped"], 7)

    def test_nobody(self) -> None:
        """Without webhooks nobody follows the events."""
        self.assertEqual(self.stream.followers, 1)
        self.reload()
        self.assertEqual(self.stream.followers, 0)
        self.publish("alpha")
        self.reload({"url": URL})
        self.assertEqual(self.stream.followers, 1)
        self.assertEqual(self.posters[-1].sent, [])

    def test_metrics(self) -> None:
        """The metrics tell of events, attempts and the queue, without the query of the URL."""
        for answer in (200, 404):
            self.publish("alpha")
            self.posters[0].answer(answer)
        self.publish("alpha", "alpha", "alpha")
        samples = self.samples()
        expected = {
            f"deliveries_total {NAME} success": 1,
            f"deliveries_total {NAME} failure": 1,
            f"deliveries_total {NAME} dropped": 0,
            f"attempts_total {NAME}": 3,
            f"queue {NAME}": 3,
        }
        self.assertEqual(samples, expected)


class ReloadTests(HooksCase):
    """Reloads."""

    def test_unchanged(self) -> None:
        """An unchanged webhook keeps its queue and its connection, wherever in the list it is."""
        self.publish("alpha", "alpha")
        self.reload({"url": "http://b"}, {"url": URL})
        first, second = self.posters
        self.assertFalse(first.closed)
        self.publish("alpha")
        first.answers = [200, 200]
        first.answer()
        self.assertEqual(self.numbers(0), [1, 2, 3])
        self.assertEqual(self.numbers(1), [3])
        self.assertEqual(self.lines(), [])
        self.assertIsNotNone(second)

    def test_changed(self) -> None:
        """A changed one goes on with what waits, as far as it still wants that."""
        self.publish("alpha")
        self.stream.publish("node", {"name": "alpha", "changed": ["state"]})
        self.publish("alpha")
        self.reload({"url": URL, "events": "leader", "secret": "sixteen letters!"})
        first, second = self.posters
        self.assertTrue(first.closed)
        second.answers = [200]
        second.answer()
        self.assertEqual(self.numbers(), [1, 3])
        self.assertIn("webhook-signature", second.sent[0][0])
        self.assertEqual(self.lines(), [])
        samples = self.samples()
        self.assertEqual(samples[f"attempts_total {NAME}"], 3)
        self.assertEqual(samples[f"deliveries_total {NAME} success"], 2)

    def test_removed(self) -> None:
        """What waits for one that is removed is dropped, and the log says how much."""
        self.publish("alpha", "alpha")
        self.reload({"url": "http://b"})
        self.assertTrue(self.posters[0].closed)
        self.assertEqual(
            self.lines(),
            [f"The webhook {NAME} is removed; 2 events are not delivered to it"],
        )
        self.publish("alpha")
        self.assertEqual((self.numbers(0), self.numbers(1)), ([1], [3]))
        self.assertNotIn(NAME, str(self.samples()))

    def test_gone(self) -> None:
        """A receiver that wanted no more gets events again after a reload."""
        self.publish("alpha")
        self.posters[0].answer(410)
        self.publish("alpha")
        self.reload({"url": URL})
        self.publish("alpha")
        self.assertEqual(self.numbers(), [1, 3])

    def test_in_between(self) -> None:
        """What happens in the turn of a reload is for those who were there before."""
        self.stream.publish("leader", {"old": None, "new": "alpha", "timeline": 1})
        self.reload({"url": URL}, {"url": "http://b"})
        self.api.clock.advance(0)
        self.assertEqual((self.numbers(0), self.numbers(1)), ([1], []))

    def test_wrong_file(self) -> None:
        """A file that cannot be used leaves everything as it was, and names its key."""
        home = scratch_directory(self)
        good = {"url": "https://b", "cafile": Authority().write(home)}
        self.reload({"url": URL}, good)
        bad = {"url": "https://b", "cafile": str(home / "missing")}
        error = self.assertRaises(SettingsError, self.reload, {"url": "http://c"}, bad)
        self.assertIn("restapi.webhooks[1].cafile: cannot read", str(error))
        self.publish("alpha")
        self.assertEqual([poster.ids != [] for poster in self.posters], [True, True])

    def test_file_gone(self) -> None:
        """A file that breaks later keeps no reload from anything else."""
        home = scratch_directory(self)
        entry = {"url": "https://b", "cafile": Authority().write(home)}
        self.reload(entry)
        (home / "ca.crt").unlink()
        self.reload({"url": URL}, entry)
        self.publish("alpha")
        self.assertEqual(len(self.posters[-1].sent), 1)


class StartTests(SynchronousTestCase):
    """The start of a daemon."""

    def test_wrong_file(self) -> None:
        """A file that cannot be used stops it, with one line that names the key."""
        home = scratch_directory(self)
        hook = {"url": "https://b", "cafile": str(home / "missing")}
        section = {"listen": "127.0.0.1:8008", "webhooks": [hook]}
        (home / "a.yml").write_text(yaml.safe_dump({"name": "a", "restapi": section}))
        options = Options()
        options.parseOptions([str(home / "a.yml")])
        error = self.assertRaises(SystemExit, makeService, options)
        self.assertEqual(
            str(error),
            f"patroni: restapi.webhooks[0].cafile: cannot read {home}/missing: No such file or"
            " directory",
        )


class EndTests(HooksCase):
    """The end of the API."""

    def close(self) -> None:
        """Shut the API; nothing waits for webhooks."""
        self.successResultOf(self.api.api.close())

    def test_nothing_waits(self) -> None:
        """Without events on their way it is over at once."""
        self.publish("alpha")
        self.posters[0].answer()
        self.close()
        self.assertTrue(self.posters[0].closed)
        self.assertEqual((self.stream.followers, self.lines()), (0, []))
        self.assertEqual(self.api.clock.getDelayedCalls(), [])

    def test_last_chance(self) -> None:
        """What waits has a moment; when all is delivered, nothing is left."""
        self.publish("alpha")
        self.posters[0].answer(503)
        self.stream.publish("leader", {"old": None, "new": "alpha", "timeline": 1})
        self.close()
        self.assertEqual(self.lines(), [f"2 events for the webhook {NAME} have 2.0 seconds left"])
        self.assertEqual(self.numbers(), [1, 1])
        self.posters[0].answers = [200]
        self.posters[0].answer()
        self.assertEqual(self.numbers(), [1, 1, 2])
        self.assertTrue(self.posters[0].closed)
        self.api.clock.advance(0)
        self.assertEqual((self.lines(), self.api.clock.getDelayedCalls()), ([], []))

    def test_undelivered(self) -> None:
        """What is not delivered by then is counted in the log, and dropped."""
        self.publish("alpha", "alpha", "alpha")
        self.close()
        self.lines()
        self.api.clock.advance(LAST_CHANCE)
        self.assertEqual(self.lines(), [f"3 events are not delivered to the webhook {NAME}"])
        self.assertTrue(self.posters[0].closed)
        self.assertEqual(self.api.clock.getDelayedCalls(), [])

    def test_afterwards(self) -> None:
        """Nothing that happens afterwards is sent, and a reload that comes late has no effect."""
        self.close()
        self.hooks.close()
        self.publish("alpha")
        self.hooks.apply(Settings.of({"listen": ":1", "webhooks": [{"url": "http://b"}]}).webhooks)
        self.publish("alpha")
        self.assertEqual([poster.sent for poster in self.posters], [[]])
