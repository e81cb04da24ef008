"""Broken and hostile clients of a TLS listener: closed in time, counted, and nothing logged."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import TYPE_CHECKING

from tests.handshakes import TLS_1_2, TLS_1_3
from tests.tls_api import TlsApiCase, Wire, request_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

GET = request_bytes("GET", "/primary")
RELOAD = request_bytes("POST", "/reload")
VERSIONS = (TLS_1_2, TLS_1_3)
#: What is no TLS, or breaks its rules at once, with the reason that the metrics give for it.
NONSENSE = {
    b"GET / HTTP/1.0\r\n\r\n": "plain_http",
    b"HEAD /primary HTTP/1.0\r\n\r\n": "plain_http",
    b"POST /reload HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n": "plain_http",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": "not_tls",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\nGET / HTTP/1.0\r\n\r\n": "not_tls",
    b"SSH-2.0-OpenSSH_9.2\r\n": "not_tls",
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f": "not_tls",  # PostgreSQL's way to ask for TLS
    b"\x00" * 50: "not_tls",
    b"\xff" * 60_000: "not_tls",
    b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10": "not_tls",  # SSL 2.0
    b"\x15\x03\x03\x00\x02\x02\x28": "other",  # an alert before anything else
    b"\x15\x03\x03\x00\x02\x01\x00": "other",
    b"\x14\x03\x03\x00\x01\x01": "other",
    b"\x17\x03\x03\x00\x02xx": "other",
    b"\x16\x03\x01\xff\xff" + b"x" * 100: "other",  # a record that is too long
    b"\x16\x03\x01\x00\x04\x01\xff\xff\xff" + b"x" * 100: "excess",  # so is a message
    b"\x16\x03\x01\x00\x04\x0b\x00\x00\x00": "other",  # the wrong message
    b"\x16\x03\x01\x00\x00" * 40: "other",
}


class CountedCase(TlsApiCase):
    """A test case that knows how handshakes have ended."""

    @property
    def failures(self) -> dict[str, int]:
        """How many handshakes have failed, by reason."""
        counted = dict(self.api.api.site.handshake_failures)
        for reason, number in counted.items():
            name = f'twisted_patroni_tls_handshake_failures_total{{reason="{reason}"}}'
            self.assertEqual(self.metric(name), number)
        return counted

    @property
    def timeouts(self) -> dict[str, int]:
        """How often a deadline has passed, by phase."""
        return dict(self.api.api.site.timeouts)

    def assert_closed_after(self, wire: Wire, seconds: int, drip: Iterable[bytes] = ()) -> None:
        """Fail unless a connection is closed then, give or take the sweep.

        :param wire: the connection.
        :param seconds: when.
        :param drip: what is sent meanwhile, one each second.
        """
        drops = iter(drip)
        for second in range(seconds):
            self.assertFalse(wire.closed, f"after {second} seconds")
            wire.send(next(drops, b""))
            self.api.wait(1)
        self.api.wait(1)
        self.assertTrue(wire.closed)
        self.assert_nothing_left()


class NoTlsTests(CountedCase):
    """Clients that do not speak TLS, and those that do where nobody else does."""

    def test_nonsense(self) -> None:
        """Whatever is no TLS is closed at once, without an answer in HTTP, and counted."""
        for data, reason in NONSENSE.items():
            self.use()
            wire = Wire(self.api)
            wire.send(data)
            self.assertTrue(wire.closed, data[:60])
            self.assertRegex(wire.received, rb"(?s)^(\x15\x03.\x00\x02\x02.)?$", data[:60])
            self.assertEqual(self.failures, {reason: 1}, data[:60])
            self.assert_nothing_left()

    def test_byte_by_byte(self) -> None:
        """Nor does it matter how it arrives."""
        for data in NONSENSE:
            self.use()
            wire = Wire(self.api)
            for byte in data[:200]:
                wire.send(bytes([byte]))
            self.assertTrue(wire.closed, data[:60])
            self.assert_nothing_left()

    def test_random(self) -> None:
        """Nothing odd comes of random bytes, nor of a handshake with some of its bits wrong."""
        random = Random(3)
        for _ in range(100):
            wire = Wire(self.api)
            wire.send(random.randbytes(random.randrange(1, 600)))
            wire.leave()
        for version, _ in product(VERSIONS, range(100)):
            client = self.connect(version=version)
            for _ in range(3):
                flight = bytearray(client.step())
                if flight and random.randrange(2):
                    flight[random.randrange(len(flight))] ^= 1 << random.randrange(8)
                client.hear(client.send(bytes(flight)))
            client.leave()
        self.assert_nothing_left()
        done = self.api.api.site.handshakes
        self.assertGreater(done, 20)
        self.assertEqual(done + sum(self.failures.values()), 300)

    def test_plain_door(self) -> None:
        """TLS at a plain listener is told, in HTTP, that it is wrong there."""
        client = self.connect(factory=self.use_door(tls=False))
        client.shake_hands()
        self.assertTrue(client.received.startswith(b"HTTP/1.1 400 Bad Request\r\n"))
        self.assertTrue(client.pipe.write_closed)
        self.api.wait(3)
        self.assertTrue(client.closed)
        self.assertEqual(self.failures, {})
        self.assert_nothing_left()


class SilenceTests(CountedCase):
    """Clients that say nothing, or hardly anything."""

    def test_nothing(self) -> None:
        """Who says nothing is let go after the time for a handshake."""
        self.assert_closed_after(Wire(self.api), 5)
        self.assertEqual((self.timeouts, self.failures), ({"handshake": 1}, {"timeout": 1}))

    def test_half(self) -> None:
        """So is who stops in the middle of it."""
        self.use(limits={"handshake": 3})
        for sent in (1, 5, 6, 100):
            client = self.connect()
            self.assertEqual(client.send(client.step()[:sent]), b"")
            self.assert_closed_after(client, 3)
        self.assertEqual((self.timeouts, self.failures), ({"handshake": 4}, {"timeout": 4}))

    def test_after_hello(self) -> None:
        """So is who does not go on after our part of it."""
        for version in VERSIONS:
            client = self.connect(version=version)
            self.assertGreater(len(client.send(client.step())), 500)
            self.assert_closed_after(client, 5)
        self.assertEqual((self.timeouts, self.failures), ({"handshake": 2}, {"timeout": 2}))

    def test_dripped(self) -> None:
        """A byte each second does not gain time."""
        client = self.connect()
        self.assert_closed_after(client, 5, (bytes([byte]) for byte in client.step()))
        self.assertEqual(self.failures, {"timeout": 1})

    def test_dripped_fast(self) -> None:
        """A client whose bytes arrive one by one, but in time, is answered."""
        for version in VERSIONS:
            client = self.connect(version=version)
            while not client.greeted:
                for byte in client.step():
                    client.hear(client.send(bytes([byte])))
            client.tls.write(GET)
            for byte in client.step():
                client.hear(client.send(bytes([byte])))
            self.assertIn(b"HTTP/1.1 200 OK\r\n", client.pump())
            client.leave()
        self.assert_nothing_left()

    def test_after_handshake(self) -> None:
        """A client that has nothing to ask is let go after the time for the first byte."""
        for version in VERSIONS:
            client = self.connect(version=version).shake_hands()
            self.api.wait(5)
            self.assertFalse(client.closed)
            self.api.wait(1)
            self.assertFalse(client.closed)  # TLS waits for the client's consent
            client.pump()
            self.assertTrue(client.ended and client.closed)
        self.assertEqual((self.timeouts, self.failures), ({"first_byte": 2}, {}))
        self.assert_nothing_left()

    def test_no_consent(self) -> None:
        """A client that does not agree to the end is cut off."""
        client = self.connect().shake_hands()
        self.assert_closed_after(client, 16)
        self.assertTrue(client.pipe.aborted)
        self.assertEqual(self.timeouts, {"first_byte": 1, "close": 1})

    def test_dripped_request(self) -> None:
        """The time for a head counts over TLS, whatever the records are like."""
        client = self.connect().shake_hands()
        for byte in GET[:10]:
            self.assertFalse(client.ended)
            self.assertEqual(client.say(bytes([byte])), b"")
            self.api.wait(1)
        self.api.wait(1)
        self.assertIn(b"HTTP/1.1 408 ", client.pump())
        self.assertTrue(client.closed)
        self.assert_nothing_left()

    def test_idle(self) -> None:
        """A connection that is kept has its time between requests."""
        client = self.connect()
        for _ in range(3):
            self.assertEqual(client.status("GET", "/primary"), 200)
            self.api.wait(59)
            self.assertEqual(client.pump(), b"")
        self.api.wait(2)
        client.pump()
        self.assertTrue(client.closed)
        self.assertEqual(self.timeouts, {"idle": 1})
