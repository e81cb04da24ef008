"""TLS connections that end early, or go on in an odd way: nothing is done twice, kept or logged."""

from __future__ import annotations

import json
from itertools import chain, product, repeat
from typing import TYPE_CHECKING

from cryptography.hazmat.bindings.openssl.binding import Binding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost

from tests.certificates import Authority
from tests.handshakes import TLS_1_2, TLS_1_3
from tests.logs import logged_by
from tests.tls_api import OpenSslClient, TlsApiCase, Wire, request_bytes
from tests.wire_client import SEND_BUFFER
from twisted_patroni.web.entrance import MOST_BESIDES

if TYPE_CHECKING:
    from collections.abc import Iterator

GET = request_bytes("GET", "/primary")
RELOAD = request_bytes("POST", "/reload")
VERSIONS = (TLS_1_2, TLS_1_3)
ENDS = (ConnectionDone, ConnectionLost)


class LeavingTests(TlsApiCase):
    """Clients that leave without saying so."""

    def test_each_flight(self) -> None:
        """A client may leave at any point of the handshake, whatever the end looks like."""
        for version, end in product(VERSIONS, ENDS):
            for flight, share in product(range(3), (0, 0.1, 0.5, 0.9, 1)):
                self.use(verify_client="optional")
                client = self.connect(self.authority.client("x"), version)
                for _ in range(flight):
                    client.hear(client.send(client.step()))
                data = client.step()
                client.send(data[: int(len(data) * share)])
                client.leave(end())
                site = self.api.api.site
                self.assertEqual(site.handshakes + site.handshake_failures["closed"], 1)
                self.assertEqual(site.handshakes, int(flight == 2 or (flight, share) == (1, 1)))
                self.assert_nothing_left()

    def test_server_ends(self) -> None:
        """The API may shut at any point of it, too, and waits for nobody."""
        for version, flight in product(VERSIONS, range(4)):
            self.use()
            client = self.connect(version=version)
            for _ in range(flight):
                client.hear(client.send(client.step()))
            closing = self.api.api.close()
            self.api.clock.advance(0)
            self.assertTrue(client.closed)
            self.successResultOf(closing)
            self.assert_nothing_left()
            self.assertEqual(self.api.clock.getDelayedCalls(), [])

    def test_in_request(self) -> None:
        """In the middle of a request as well, and half of it does nothing."""
        request = request_bytes("PATCH", "/config", {}, {"ttl": 20})
        for version, end in product(VERSIONS, ENDS):
            for sent in (1, 20, len(request) - 15, len(request) - 1):
                client = self.connect(version=version)
                self.assertEqual(client.say(request[:sent]), b"")
                client.leave(end())
        self.assertEqual(self.engine.calls, [])
        self.assert_nothing_left()

    def test_while_answered(self) -> None:
        """What is done for it is given up; the audit log knows who it was."""
        events = logged_by(self, "twisted_patroni.audit")
        self.use(verify_client="required")
        for version, goodbye in product(VERSIONS, (True, False)):
            events.clear()
            cancelled: list[object] = []
            self.engine.outcomes["restart"] = Deferred(cancelled.append)
            client = self.connect(self.authority.client("dba", serial=0xABC), version)
            self.assertEqual(client.say(request_bytes("POST", "/restart")), b"")
            if goodbye:
                client.say_goodbye()
            else:
                client.leave(ConnectionLost())
            self.assertEqual(len(cancelled), 1)
            (event,) = events
            said = json.loads(event["line"])
            self.assertEqual(said["identity"], {"subject": "CN=dba", "serial": "0ABC"})
            self.assertEqual((said["status"], said["left"]), (None, True))
            self.assert_nothing_left()

    def test_after_answer(self) -> None:
        """Leaving without the end that TLS wants is no error."""
        for version, end in product(VERSIONS, ENDS):
            client = self.connect(version=version)
            self.assertEqual(client.status("GET", "/primary"), 200)
            client.leave(end())
        self.assert_nothing_left()

    def test_goodbye(self) -> None:
        """An orderly end is answered with one."""
        for version in VERSIONS:
            client = self.connect(version=version)
            self.assertEqual(client.status("GET", "/primary"), 200)
            client.say_goodbye()
            self.assertTrue(client.closed)
        self.assert_nothing_left()


class OddTests(TlsApiCase):
    """What TLS allows, or forbids, after the first flights."""

    def test_request_in_the_last_flight(self) -> None:
        """A request may come with the end of the handshake, and counts only if that is good."""
        for version, (name, calls) in product(VERSIONS, {"good": 1, "bad": 0}.items()):
            self.use(verify_client="required")
            authority = self.authority if name == "good" else Authority()
            client = self.connect(authority.client("x"), version)
            client.say(RELOAD * 3)
            self.assertEqual(len(self.engine.called("reload")), 3 * calls)
            self.assertEqual(self.api.api.site.handshakes, calls)
            client.leave()
            self.assert_nothing_left()

    def test_early_data(self) -> None:
        """Requests before the end of a resumed handshake, which others could repeat, are off."""
        client = OpenSslClient(self.api, TLS_1_3)
        client.say(GET)
        session = client.tls.get_session()
        assert session is not None
        self.assertEqual(Binding().lib.SSL_SESSION_get_max_early_data(session._session), 0)

    def test_renegotiation(self) -> None:
        """A client that wants another handshake is told no."""
        client = OpenSslClient(self.api, TLS_1_2)
        self.assertIn(b"HTTP/1.1 200 OK\r\n", client.say(GET))
        client.tls.renegotiate()
        with self.assertRaises(SSL.WantReadError):
            client.tls.do_handshake()
        with self.assertRaises(SSL.Error) as caught:
            client.pump()
        self.assertIn("no renegotiation", str(caught.exception))
        self.assertEqual(self.api.api.site.handshakes, 1)
        self.assertFalse(client.closed)
        client.leave()
        self.assert_nothing_left()

    def test_damaged_record(self) -> None:
        """A record that was changed on its way ends the connection, and does nothing."""
        for version in VERSIONS:
            client = self.connect(version=version)
            self.assertEqual(client.status("GET", "/primary"), 200)
            client.tls.write(RELOAD)
            data = bytearray(client.step())
            data[-1] ^= 1
            client.hear(client.send(bytes(data)))
            self.assertTrue(client.closed)
            client.step()
            self.assertEqual(client.alert, "BAD_RECORD_MAC")
        self.assertEqual(self.engine.calls, [])
        self.assert_nothing_left()

    def test_plain_afterwards(self) -> None:
        """So does plain HTTP in the middle of TLS."""
        for version in VERSIONS:
            client = self.connect(version=version)
            self.assertEqual(client.status("GET", "/primary"), 200)
            client.send(RELOAD)
            self.assertTrue(client.closed)
        self.assertEqual(self.engine.calls, [])
        self.assertEqual(self.api.api.site.handshake_failures, {})
        self.assert_nothing_left()

    def test_within_tls(self) -> None:
        """TLS within TLS is told that it is wrong there."""
        client = self.connect()
        self.assertIn(b"HTTP/1.1 400 ", client.say(self.connect().step()))
        self.assertTrue(client.closed)


class Sealing:
    """A client's records in TLS_AES_256_GCM_SHA384, made by hand.

    :param secret: the client's, before it has sent anything.
    """

    def __init__(self, secret: bytes) -> None:
        self._begin(secret)

    def _begin(self, secret: bytes) -> None:
        self._secret, self._sent = secret, 0
        self._cipher = AESGCM(self._derived(b"key", 32))
        self._vector = int.from_bytes(self._derived(b"iv", 12), "big")

    def _derived(self, label: bytes, length: int) -> bytes:
        text = b"tls13 " + label
        info = length.to_bytes(2, "big") + bytes([len(text)]) + text + b"\0"
        return HKDFExpand(SHA384(), length, info).derive(self._secret)

    def seal(self, data: bytes, kind: bytes = b"\x17") -> bytes:
        """Return a record.

        :param data: what is in it.
        :param kind: what that is; of the application if not given.
        """
        head = b"\x17\x03\x03" + (len(data) + 17).to_bytes(2, "big")
        nonce = (self._vector ^ self._sent).to_bytes(12, "big")
        self._sent += 1
        return head + self._cipher.encrypt(nonce, data + kind, head)

    def new_keys(self) -> bytes:
        """Return a record after which there are new keys, which asks the server for such, too."""
        record = self.seal(b"\x18\0\0\x01\x01", b"\x16")
        self._begin(self._derived(b"traffic upd", 48))
        return record


class ExcessTests(TlsApiCase):
    """Clients that say much, and nothing in HTTP."""

    def sealing(self, client: OpenSslClient) -> Sealing:
        """Do the handshake, and go on by hand."""
        client.pump()
        self.assertEqual(client.tls.get_cipher_name(), "TLS_AES_256_GCM_SHA384")
        return Sealing(client.secrets["CLIENT_TRAFFIC_SECRET_0"])

    def assert_cut_off(self, wire: Wire, pieces: Iterator[bytes]) -> None:
        """Fail unless a client is cut off soon, and counted.

        :param wire: its connection.
        :param pieces: what it goes on to send.
        """
        sent = 0
        while not wire.closed and sent < 10 * MOST_BESIDES:
            piece = next(pieces)
            wire.send(piece)
            sent += len(piece)
        self.assertTrue(abs(sent - MOST_BESIDES) < 20_000, sent)
        failures = "twisted_patroni_tls_handshake_failures_total"
        self.assertEqual(self.metric(f'{failures}{{reason="excess"}}'), 1)
        self.assertEqual(sum(self.api.api.site.handshake_failures.values()), 1)
        self.assert_nothing_left()

    def test_hello(self) -> None:
        """A client that begins with more than any client has to say is cut off."""
        record = b"\x16\x03\x01\x40\x00"
        first = record + b"\x01\x01\xff\x00" + b"x" * 16380
        self.assert_cut_off(Wire(self.api), chain([first], repeat(record + b"x" * 16384)))

    def test_new_keys(self) -> None:
        """A client that only wants new keys is, even while a request of it is answered."""
        for request in (b"", request_bytes("POST", "/restart")):
            self.use()
            self.engine.outcomes["restart"] = Deferred()
            client = OpenSslClient(self.api, TLS_1_3)
            sealing = self.sealing(client)
            if request:
                client.send(sealing.seal(request))
                self.assertEqual(self.api.api.site.in_flight, 1)
            self.assert_cut_off(client, iter(sealing.new_keys, b""))

    def test_some_new_keys(self) -> None:
        """A client that wants them between its requests is served."""
        client = OpenSslClient(self.api, TLS_1_3)
        sealing = self.sealing(client)
        for _ in range(50):
            flight = b"".join(sealing.new_keys() for _ in range(50))
            client.tls.bio_write(client.send(flight + sealing.seal(GET)))
            self.assertIn(b"HTTP/1.1 200 OK\r\n", client.pump())

    def test_body(self) -> None:
        """What is HTTP may be long, in whatever pieces it arrives."""
        self.use(limits={"body_bytes": 2_000_000})
        request = request_bytes("PATCH", "/config", {}, {"x": "y" * 1_000_000})
        for version in VERSIONS:
            client = self.connect(version=version).shake_hands()
            client.tls.write(request)
            data = client.step()
            for start in range(0, len(data), 10_000):
                client.hear(client.send(data[start : start + 10_000]))
            self.assertIn(b"HTTP/1.1 200 OK\r\n", client.pump())


class UnreadTests(TlsApiCase):
    """Clients that ask, and do not read."""

    def test_bounded(self) -> None:
        """What waits for such a client has an end, and so has the wait."""
        for version in VERSIONS:
            client = self.connect(version=version).shake_hands()
            client.pipe.reading = False
            asked = 0
            while client.pipe.producerState == "producing" and asked < 1000:
                client.tls.write(request_bytes("GET", "/metrics") * 20)
                client.protocol.dataReceived(client.step())
                self.api.clock.pump([0] * 10)
                asked += 20
            self.assertLess(asked, 1000)
            self.api.wait(75)
            self.assertTrue(client.closed)
            self.assertLess(len(client.pipe.value()), 2 * SEND_BUFFER)
            self.assert_nothing_left()
