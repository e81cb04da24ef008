"""Who is let in when many are connected: kept places, limits per address, requests in flight."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.wire_client import Client, Echo
from twisted_patroni.settings import Limits
from twisted_patroni.web.answers import json_answer
from twisted_patroni.web.entrance import Door
from twisted_patroni.web.site import ApiSite

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
STRANGER, OTHER, MEMBER, LOOPBACK = "192.0.2.7", "192.0.2.8", "10.0.0.1", "127.0.0.1"


class PlacesTests(SynchronousTestCase):
    """Ten places, three of them kept for loopback and members; an address gets four."""

    def setUp(self) -> None:
        """Make the site."""
        self.clock = Clock()
        self.root = Echo()
        limits = Limits(connections=10, connections_reserved=3, connections_per_address=4)
        self.site = ApiSite(self.root, self.clock, limits)
        self.site.connections.trusts = lambda host: host in (MEMBER, LOOPBACK, "")

    def connect(self, host: str = STRANGER, door: Door | None = None) -> Client:
        """Open a connection."""
        address: IAddress = IPv4Address("TCP", host, 50000)
        if ":" in host:
            address = IPv6Address("TCP", host, 50000)
        return Client(self.site, self.clock, peer=address, door=door)

    def strangers(self, number: int) -> list[Client]:
        """Open connections from as many addresses."""
        return [self.connect(f"198.51.100.{each}") for each in range(number)]

    def closed(self, *clients: Client) -> list[bool]:
        """Tell of each connection whether it was closed."""
        return [client.pipe.aborted for client in clients]

    def test_per_address(self) -> None:
        """One connection too many of an address is closed, and counts no more when another goes."""
        first, *rest = (self.connect() for _ in range(4))
        self.assertEqual(self.closed(self.connect(), self.connect(OTHER)), [True, False])
        self.assertEqual(self.site.connections.refused, {"address": 1})
        first.vanish()
        self.assertEqual(self.closed(self.connect(), self.connect()), [False, True])
        self.assertEqual(self.closed(*rest), [False, False, False])

    def test_mapped_address(self) -> None:
        """IPv4 seen through an IPv6 socket is the same address."""
        for _ in range(2):
            self.connect()
            self.connect(f"::ffff:{STRANGER}")
        self.assertTrue(self.connect(f"::ffff:{STRANGER}").pipe.aborted)

    def test_trusted_addresses(self) -> None:
        """Loopback and members have no limit per address."""
        self.assertNotIn(True, self.closed(*(self.connect(MEMBER) for _ in range(5))))
        self.assertNotIn(True, self.closed(*(self.connect(LOOPBACK) for _ in range(5))))

    def test_kept_places(self) -> None:
        """Strangers make room for each other, and never take the places of the trusted."""
        strangers = self.strangers(7)
        self.assertNotIn(True, self.closed(*strangers))
        self.strangers(1)
        self.assertEqual(self.closed(*strangers), [True] + [False] * 6)
        trusted = [self.connect(MEMBER), self.connect(LOOPBACK), self.connect(MEMBER)]
        self.clock.advance(0)
        self.strangers(3)
        self.assertNotIn(True, self.closed(*trusted))

    def test_busy_strangers(self) -> None:
        """Where all strangers wait for answers a further one is closed, a member is not."""
        self.root.hold = True
        strangers = self.strangers(7)
        for each in strangers:
            each.send(GET)
        self.assertEqual(self.closed(self.connect(OTHER), self.connect(MEMBER)), [True, False])
        self.assertNotIn(True, self.closed(*strangers))

    def test_trusted_in_place_of_strangers(self) -> None:
        """When all places are taken, a member gets that of the stranger that waits longest."""
        trusted = [self.connect(MEMBER) for _ in range(3)]
        strangers = self.strangers(7)
        self.assertFalse(self.connect(LOOPBACK).pipe.aborted)
        self.assertEqual(self.closed(*strangers), [True] + [False] * 6)
        self.assertNotIn(True, self.closed(*trusted))

    def test_trusted_among_themselves(self) -> None:
        """When all places are theirs, the one that waits longest makes room."""
        trusted = [self.connect(MEMBER) for _ in range(10)]
        self.assertFalse(self.connect(LOOPBACK).pipe.aborted)
        self.assertEqual(self.closed(*trusted), [True] + [False] * 9)

    def test_unread_answers(self) -> None:
        """Those who do not take what was sent to them, or the end, make room as well."""
        strangers = self.strangers(7)
        for each in strangers:
            each.stop_reading()
            each.send(GET.replace(b"\r\nHost", b"\r\nConnection: close\r\nHost"))
        for number in (1, 2, 3):
            newcomer = self.connect(OTHER)
            self.assertIn(b" 200 OK", newcomer.ask(GET))
            self.assertEqual(self.closed(*strangers), [True] * number + [False] * (7 - number))

    def test_unix(self) -> None:
        """A Unix socket's clients are on this machine."""
        client = Client(self.site, self.clock, peer=UNIXAddress(None))
        self.assertTrue(client.protocol.trusted)
        self.assertEqual(client.protocol.client_host, "")

    def test_limits_change(self) -> None:
        """Other limits count for connections to come."""
        clients = [self.connect() for _ in range(3)]
        self.site.apply(Limits(connections_per_address=2))
        self.assertTrue(self.connect().pipe.aborted)
        self.assertNotIn(True, self.closed(*clients))


class ProxyTests(SynchronousTestCase):
    """Behind a proxy the client's address comes later, and only from a proxy that is known."""

    def setUp(self) -> None:
        """Make a site with a door for proxies of one network."""
        self.clock = Clock()
        limits = Limits(connections_per_address=1)
        self.site = ApiSite(Echo(), self.clock, limits)
        self.door = Door("haproxy", proxies=(ip_network("10.1.0.0/16"),))

    def connect(self, host: str) -> Client:
        """Open a connection."""
        peer = IPv4Address("TCP", host, 50000)
        return Client(self.site, self.clock, peer=peer, door=self.door)

    def test_known(self) -> None:
        """A known proxy has no limit of its own, and lends nobody the trust in its address."""
        clients = [self.connect("10.1.2.3") for _ in range(3)]
        self.assertEqual([each.pipe.aborted for each in clients], [False] * 3)
        self.assertEqual([each.protocol.trusted for each in clients], [False] * 3)

    def test_unknown(self) -> None:
        """Nobody else may connect there, loopback included."""
        for host in (STRANGER, LOOPBACK):
            self.assertTrue(self.connect(host).pipe.aborted)
        self.assertEqual(self.site.connections.refused, {"proxy": 2})


class RequestTests(SynchronousTestCase):
    """How many requests are answered at a time."""

    def test_too_many(self) -> None:
        """One too many gets 503 and when to try again; a trusted client's does not."""
        clock, root = Clock(), Echo()
        root.hold = True
        site = ApiSite(root, clock, Limits(requests=2))

        def client(host: str) -> Client:
            return Client(site, clock, peer=IPv4Address("TCP", host, 50000))

        for _ in range(2):
            self.assertEqual(client(STRANGER).ask(GET), b"")
        reply = client(STRANGER).ask(GET)
        self.assertEqual(reply.partition(b"\r\n")[0], b"HTTP/1.1 503 Service Unavailable")
        self.assertIn(b"\r\nRetry-After: 1\r\n", reply)
        self.assertEqual(client(LOOPBACK).ask(GET), b"")
        self.assertEqual((site.in_flight, site.overloads), (3, 1))
        root.hold = False
        for each in root.held:
            each.answer(json_answer({}))
        self.assertEqual(site.in_flight, 0)
        self.assertIn(b" 200 OK", client(STRANGER).ask(GET))
