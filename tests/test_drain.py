"""Tests of twisted_patroni.drain: what a drain is, how long it lasts, and who hears of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import NOW, FakeEngine
from tests.logs import logged_by
from twisted_patroni.drain import LONGEST, BadDrain, Drain, Drains, fit, parse_drain

HOUR = timedelta(hours=1)


class DrainsTests(SynchronousTestCase):
    """The drain of a node."""

    def setUp(self) -> None:
        """Begin without one."""
        self.clock = Clock()
        self.clock.advance(NOW.timestamp())
        self.drains = Drains(self.clock)
        self.heard: list[Drain | None] = []
        self.drains.on_change.append(lambda: self.heard.append(self.drains.current))

    def test_until_further_notice(self) -> None:
        """A drain without an end lasts until it is ended."""
        drain = self.drains.begin(reason="disk", owner="alice", primary=True)
        self.assertEqual(drain, Drain(NOW, "alice", "disk", None, primary=True))
        self.clock.advance(10**8)
        self.assertIs(self.drains.current, drain)
        self.assertTrue(self.drains.end())
        self.assertIsNone(self.drains.current)
        self.assertEqual(self.heard, [drain, None])

    def test_nothing_to_end(self) -> None:
        """Ending what is not there changes nothing."""
        self.assertFalse(self.drains.end())
        self.assertEqual(self.heard, [])

    def test_expiry(self) -> None:
        """A drain ends at its time, and leaves nothing behind."""
        drain = self.drains.begin(expires=NOW + HOUR)
        self.clock.advance(3599)
        self.assertIs(self.drains.current, drain)
        self.clock.advance(1)
        self.assertIsNone(self.drains.current)
        self.assertEqual(self.heard, [drain, None])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.drains.end())

    def test_ended_early(self) -> None:
        """After an early end the time that was set means nothing."""
        self.drains.begin(expires=NOW + HOUR)
        self.drains.end()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_replaced(self) -> None:
        """Another drain takes the place of the first, its end included."""
        self.drains.begin(expires=NOW + HOUR, reason="first")
        self.clock.advance(60)
        second = self.drains.begin(expires=NOW + 2 * HOUR)
        self.assertEqual((second.since, second.reason), (NOW + timedelta(minutes=1), None))
        self.clock.advance(3600)
        self.assertIs(self.drains.current, second)
        self.clock.advance(3600)
        self.assertIsNone(self.drains.current)
        third = self.drains.begin(expires=self.drains.now() + HOUR)
        fourth = self.drains.begin()
        self.clock.advance(7200)
        self.assertIs(self.drains.current, fourth)
        self.assertEqual(self.heard[-2:], [third, fourth])

    def test_past(self) -> None:
        """A time that has passed meanwhile ends the drain in the next turn."""
        self.drains.begin(expires=NOW - HOUR)
        self.clock.advance(0)
        self.assertIsNone(self.drains.current)

    def test_stop(self) -> None:
        """Stopping keeps the drain, and nothing on the clock."""
        drain = self.drains.begin(expires=NOW + HOUR)
        self.drains.stop()
        self.drains.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIs(self.drains.current, drain)

    def test_failing_listener(self) -> None:
        """A listener that fails keeps the news from nobody."""

        def fail() -> None:
            raise RuntimeError("no")

        self.drains.on_change.insert(0, fail)
        drain = self.drains.begin()
        self.assertEqual(self.heard, [drain])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_log(self) -> None:
        """The log tells of each change."""
        events = logged_by(self, "twisted_patroni.drain")
        self.drains.begin()
        self.drains.begin(reason="{disk}", owner="alice", expires=NOW + HOUR, primary=True)
        self.clock.advance(3600)
        self.drains.begin()
        self.drains.end()
        unknown = "This node is drained until further notice, by nobody known, reason: not given"
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                unknown,
                f"This node is drained, also as primary, until {(NOW + HOUR).isoformat()},"
                " by alice, reason: {disk}",
                "The drain of this node has expired",
                unknown,
                "This node is not drained any more",
            ],
        )

    def test_document(self) -> None:
        """The document has all keys always."""
        begun = "2026-07-01T12:00:00+00:00"
        since = datetime.fromisoformat(begun)
        self.assertEqual(
            Drain(since).document,
            {"since": begun, "owner": None, "reason": None, "expires": None, "primary": False},
        )
        self.assertEqual(
            Drain(since, "alice", "disk", since + HOUR, primary=True).document,
            {
                "since": begun,
                "owner": "alice",
                "reason": "disk",
                "expires": "2026-07-01T13:00:00+00:00",
                "primary": True,
            },
        )


class ParseTests(SynchronousTestCase):
    """What a client sends."""

    def parse(self, body: dict[str, Any]) -> dict[str, Any]:
        """Parse a body as of a fixed time."""
        return parse_drain(body, FakeEngine().parse_seconds, NOW)

    def error(self, body: dict[str, Any]) -> str:
        """Return what is wrong with a body."""
        return str(self.assertRaises(BadDrain, self.parse, body))

    def test_texts(self) -> None:
        """Texts are taken as they are; without one the key is not there."""
        given = {"reason": "Zahlen für März ☃", "owner": "x" * LONGEST}
        self.assertEqual(self.parse(given), {**given, "expires": None, "primary": False})
        nothing = {"expires": None, "primary": False}
        for body in ({}, {"reason": None, "owner": None, "expires": None}, {"owner": ""}):
            self.assertEqual(self.parse(body), nothing)

    def test_expires(self) -> None:
        """Seconds, durations and times with a zone."""
        rows: list[tuple[Any, timedelta]] = [
            (90, timedelta(seconds=90)),
            (1.6, timedelta(seconds=2)),
            ("90", timedelta(seconds=90)),
            ("30min", timedelta(minutes=30)),
            ("2h", 2 * HOUR),
            ((NOW + HOUR).isoformat(), HOUR),
            ((NOW + HOUR).isoformat(timespec="seconds").replace("+00:00", "Z"), HOUR),
            ((NOW + timedelta(hours=3)).replace(tzinfo=None).isoformat() + "+02:00", HOUR),
        ]
        for value, expected in rows:
            found = self.parse({"expires": value})["expires"]
            microseconds = timedelta(microseconds=NOW.microsecond)
            self.assertIn(found - NOW, (expected, expected - microseconds), str(value))
            self.assertIs(found.tzinfo, UTC)

    def test_wrong(self) -> None:
        """What is wrong is said, with the key."""
        long = "x" * (LONGEST + 1)
        rows: list[tuple[dict[str, Any], str]] = [
            ({"until": 1}, '"until" is not known here, only reason, owner, expires, primary'),
            ({"\n" + long: 1}, '"\\n' + "x" * 57 + "... is not known here"),
            ({"reason": 0}, "reason: expected a text, but got 0"),
            ({"reason": []}, "reason: expected a text, but got a list"),
            ({"owner": {"a": 1}}, "owner: expected a text, but got an object"),
            ({"owner": False}, "owner: expected a text, but got false"),
            ({"reason": long}, "reason: expected at most 200 characters, but got 201"),
            ({"owner": "a\nb"}, "owner: expected a text without control characters"),
            ({"primary": 1}, "primary: expected true or false, but got 1"),
            ({"primary": None}, "primary: expected true or false, but got null"),
            ({"primary": "true"}, 'primary: expected true or false, but got "true"'),
        ]
        for body, expected in rows:
            error = self.error(body)
            self.assertTrue(error.startswith(expected), error)

    def test_control_characters(self) -> None:
        """No text turns lines, colours or directions of those who read it."""
        for character in ("\0", "\x1b", "\x7f", "\x85", "\u2028", "\u202e", "\u200b", "\ud800"):
            for key in ("reason", "owner"):
                self.assertIn("control characters", self.error({key: f"a{character}b"}))

    def test_wrong_expires(self) -> None:
        """Only what is a time, and to come."""
        rows: list[tuple[tuple[Any, ...], str]] = [
            ((True, [], {}, "", "soon", "5 weeks"), "expected seconds, a duration such as"),
            (
                ("2099-01-01", "2099-01-01T00:00", "1" * 201, 10**400),
                "expected seconds, a duration such as",
            ),
            ((0, -1, 0.4, "0", "-5min", NOW.isoformat()), "is not in the future"),
            (("2001-01-01T00:00:00Z",), 'expires: "2001-01-01T00:00:00Z" is not in the future'),
            ((2**60, "1" * 200, "0001-01-01T00:00:00+23:00"), "is out of range"),
        ]
        for values, expected in rows:
            for value in values:
                error = self.error({"expires": value})
                self.assertTrue(error.startswith("expires: "), error)
                self.assertIn(expected, error)
                self.assertLess(len(error), 250)

    def test_infinity(self) -> None:
        """A number beyond all numbers, at which the engine's parser fails, is out of range."""

        def parse_seconds(value: object) -> int:
            return round(float(str(value)))

        for value in ("1e400", float("inf")):
            error = self.assertRaises(BadDrain, parse_drain, {"expires": value}, parse_seconds, NOW)
            self.assertIn("is out of range", str(error))

    def test_fit(self) -> None:
        """A name from a certificate is cut and cleaned, not refused."""
        self.assertEqual(fit("CN=backup,O=dba"), "CN=backup,O=dba")
        self.assertEqual(fit("a\nb" + "x" * 300), "a?b" + "x" * (LONGEST - 3))
