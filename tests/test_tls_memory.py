"""A TLS connection that is over holds no memory until the garbage collector comes."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionLost

from tests.tls_api import TlsApiCase, request_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.tls_api import TlsClient

GET = request_bytes("GET", "/primary")


class MemoryTests(TlsApiCase):
    """Thousands of clients may come and go between two collections."""

    def survivors(self, end: Callable[[TlsClient], object]) -> list[str]:
        """Return the kinds of what is left of a connection after its end."""
        client = self.connect()
        transport = client.protocol
        watched = {
            "channel": weakref.ref(transport.wrappedProtocol),
            "transport": weakref.ref(transport),
            "connection": weakref.ref(transport.getHandle()),
        }
        del transport
        gc.disable()
        self.addCleanup(gc.enable)
        end(client)
        self.assertTrue(client.closed)
        del client
        left = [kind for kind, reference in watched.items() if reference() is not None]
        gc.enable()
        return left

    def test_vanished(self) -> None:
        """A client may vanish after a request, or before the handshake."""

        def end(client: TlsClient) -> None:
            client.say(GET)
            client.leave()

        self.assertEqual(self.survivors(end), [])
        self.assertEqual(self.survivors(self.vanish), [])

    def vanish(self, client: TlsClient) -> None:
        """Leave at once."""
        client.leave(ConnectionLost())

    def test_said_goodbye(self) -> None:
        """It may take its leave."""

        def end(client: TlsClient) -> None:
            client.say(GET)
            client.say_goodbye()
            client.leave()

        self.assertEqual(self.survivors(end), [])

    def test_too_slow(self) -> None:
        """It may be too slow for the handshake, or for anything after it."""

        def end(client: TlsClient) -> None:
            client.shake_hands()
            self.api.wait(20)

        self.assertEqual(self.survivors(lambda client: self.api.clock.pump([0.5] * 40)), [])
        self.assertEqual(self.survivors(end), [])

    def test_no_tls(self) -> None:
        """It may speak something else."""

        def end(client: TlsClient) -> None:
            client.send(GET)
            client.leave()

        self.assertEqual(self.survivors(end), [])
