"""Tests of twisted_patroni.slowing on a clock set by hand."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.slowing import (
    ADDRESSES,
    FREE_FAILURES,
    KNOWN,
    QUIET,
    Slowing,
    source_of,
)

HOST = "192.0.2.1"
OTHER = "192.0.2.2"
GUESS = b"Basic guess"
RIGHT = b"Basic right"


class SlowingTests(SynchronousTestCase):
    """Waiting after wrong passwords."""

    def setUp(self) -> None:
        """Begin."""
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.slowing = Slowing(self.clock)

    def fail_times(self, times: int, host: str = HOST) -> None:
        """Give that many wrong passwords."""
        for _ in range(times):
            self.slowing.failed(host)

    def test_waits(self) -> None:
        """The fifth wrong password makes wait a second, each further one twice as long, to 60 s."""
        waits = []
        for _ in range(15):
            self.assertEqual(self.slowing.wait(HOST, GUESS), 0)
            self.slowing.failed(HOST)
            waits.append(self.slowing.wait(HOST, GUESS))
            self.clock.advance(waits[-1])
        self.assertEqual(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60])

    def test_what_is_left(self) -> None:
        """One who asks too early is told how long it still is; asking does not prolong it."""
        self.fail_times(8)
        self.clock.advance(3.5)
        self.assertEqual([self.slowing.wait(HOST, GUESS) for _ in range(3)], [4.5] * 3)
        self.clock.advance(4.5)
        self.assertEqual(self.slowing.wait(HOST, GUESS), 0)

    def test_others_do_not_wait(self) -> None:
        """Another address is another client."""
        self.fail_times(20)
        self.assertEqual(self.slowing.wait(OTHER, GUESS), 0)

    def test_counters(self) -> None:
        """Wrong passwords and early attempts are counted."""
        self.fail_times(7)
        self.slowing.wait(HOST, GUESS)
        self.slowing.wait(HOST, GUESS)
        self.slowing.wait(OTHER, GUESS)
        self.assertEqual((self.slowing.failures, self.slowing.slowed), (7, 2))

    def test_forgotten(self) -> None:
        """After ten quiet minutes the wrong passwords are forgotten, and not a moment before."""
        for quiet, wait in ((QUIET - 1, 2), (QUIET, 0)):
            self.slowing = Slowing(self.clock)
            self.fail_times(FREE_FAILURES)
            self.clock.advance(quiet)
            self.slowing.failed(HOST)
            self.assertEqual(self.slowing.wait(HOST, GUESS), wait)

    def test_row_ends(self) -> None:
        """A right password ends a row of wrong ones."""
        self.fail_times(FREE_FAILURES - 1)
        self.slowing.succeeded(HOST, RIGHT)
        self.fail_times(FREE_FAILURES - 1)
        self.assertEqual(self.slowing.wait(HOST, GUESS), 0)

    def test_known_password_never_waits(self) -> None:
        """What was right from this address before is let through, while guesses wait."""
        self.slowing.succeeded(HOST, RIGHT)
        self.fail_times(20)
        self.assertEqual(self.slowing.wait(HOST, RIGHT), 0)
        self.assertEqual(self.slowing.wait(HOST, GUESS), 60)
        self.fail_times(20, OTHER)
        self.assertEqual(self.slowing.wait(OTHER, RIGHT), 60)

    def test_known_password_helps_nobody_else(self) -> None:
        """A client at work does not end the row of those who guess beside it."""
        self.slowing.succeeded(HOST, RIGHT)
        for _ in range(FREE_FAILURES):
            self.slowing.failed(HOST)
            self.slowing.succeeded(HOST, RIGHT)
        self.assertEqual(self.slowing.wait(HOST, GUESS), 1)

    def test_few_are_known(self) -> None:
        """Of each address a few right passwords are remembered, the latest."""
        passwords = [b"Basic %d" % number for number in range(KNOWN + 1)]
        for password in passwords:
            self.slowing.succeeded(HOST, password)
        self.fail_times(FREE_FAILURES)
        waits = [self.slowing.wait(HOST, password) for password in passwords]
        self.assertEqual(waits, [1] + [0] * KNOWN)

    def test_bounded(self) -> None:
        """Of too many addresses those that failed longest ago are forgotten, but no right ones."""
        self.slowing.succeeded(HOST, RIGHT)
        self.fail_times(20)
        self.fail_times(20, OTHER)
        for number in range(ADDRESSES - 1):
            self.slowing.failed(f"10.0.{number >> 8}.{number & 255}")
        self.assertEqual(self.slowing.wait(HOST, GUESS), 0)
        self.assertGreater(self.slowing.wait(OTHER, GUESS), 0)
        self.fail_times(20)
        self.assertEqual(self.slowing.wait(HOST, RIGHT), 0)

    def test_bounded_successes(self) -> None:
        """Of too many addresses with right passwords the one used longest ago is forgotten."""
        for number in range(ADDRESSES + 1):
            self.slowing.succeeded(f"10.0.{number >> 8}.{number & 255}", RIGHT)
        for host, wait in (("10.0.0.0", 1), ("10.0.0.1", 0)):
            self.fail_times(FREE_FAILURES, host)
            self.assertEqual(self.slowing.wait(host, RIGHT), wait)


class SourceTests(SynchronousTestCase):
    """What counts as one address."""

    def test_table(self) -> None:
        """IPv4 by address, IPv6 by its /64 network, a Unix socket as this machine."""
        for host, source in (
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("::1", "::/64"),
            ("", "127.0.0.1"),
            ("made:up", "made:up"),
        ):
            self.assertEqual(source_of(host), source)
