"""Tests of twisted_patroni.addresses with a resolver that the test answers for."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import make_cluster
from tests.logs import logged_by
from twisted_patroni.addresses import REFRESH_INTERVAL, AddressBook, member_hosts, resolve
from twisted_patroni.engine.interface import MemberView

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted_patroni.settings import Network

ONE = (ip_network("10.0.0.1/32"),)
TWO = (ip_network("10.0.0.2/32"), ip_network("2001:db8::2/128"))


class MemberHostTests(SynchronousTestCase):
    """Whose addresses are the members'."""

    def test_table(self) -> None:
        """Hosts come from the API's URL of members and workers; what is none is left out."""
        rows: list[tuple[str | None, set[str]]] = [
            ("http://node1:8008/patroni", {"node1"}),
            ("https://10.0.0.1:8008/patroni", {"10.0.0.1"}),
            ("http://[2001:db8::1]:8008/patroni", {"2001:db8::1"}),
            ("http://*:8008/patroni", {"*"}),
            ("http://[/patroni", set()),
            ("", set()),
            (None, set()),
        ]
        for url, expected in rows:
            member = (MemberView("beta", url),)
            for cluster in (
                make_cluster(members=member),
                make_cluster(members=(), worker_members=member),
            ):
                self.assertEqual(member_hosts(cluster), expected, url)


class AddressBookTests(SynchronousTestCase):
    """The book, with a lane in which nothing happens until the test says so."""

    def setUp(self) -> None:
        """Make a book and a resolver of two names."""
        self.clock = Clock()
        self.lane: list[tuple[Callable[[], tuple[Network, ...]], Deferred[object]]] = []
        self.names = {"one": ONE, "two": TWO}
        self.book = AddressBook(self.clock, self.in_lane, self.resolve)  # type: ignore[arg-type]

    def in_lane(self, function: Callable[[], tuple[Network, ...]]) -> Deferred[object]:
        """Keep a call until :meth:`work`."""
        self.lane.append((function, Deferred()))
        return self.lane[-1][1]

    def resolve(self, host: str) -> tuple[Network, ...]:
        """Resolve a name."""
        if host not in self.names:
            raise OSError(f"{host}: unknown name")
        return self.names[host]

    def work(self) -> int:
        """Make the calls that wait and return their number."""
        calls, self.lane = self.lane, []
        for function, result in calls:
            try:
                result.callback(function())
            except OSError:
                result.errback()
        return len(calls)

    def test_unresolved_names_are_not_known(self) -> None:
        """Until a name is resolved it has no address, and asking does not wait."""
        self.book.want(frozenset({"one"}))
        self.assertEqual(self.book.networks(["one"]), ())
        self.work()
        self.assertEqual(self.book.networks(["one"]), ONE)
        self.assertEqual(self.book.networks(["two"]), ())

    def test_addresses_need_no_resolver(self) -> None:
        """What is an address already is known at once."""
        self.book.want(frozenset({"10.0.0.1", "2001:db8::2"}))
        self.assertEqual(self.lane, [])
        self.assertEqual(self.book.networks(["2001:db8::2", "10.0.0.1"]), (TWO[1], *ONE))

    def test_no_names_twice(self) -> None:
        """A name is not resolved again while that goes on, nor when the same are wanted."""
        self.book.want(frozenset({"one"}))
        self.book.want(frozenset({"one"}))
        self.book.want(frozenset({"one", "two"}))
        self.assertEqual(self.work(), 2)
        self.book.want(frozenset({"two"}))
        self.assertEqual(self.work(), 0)

    def test_forgotten_names(self) -> None:
        """A name no longer wanted is forgotten, even if its answer is still to come."""
        self.book.want(frozenset({"one"}))
        self.book.want(frozenset({"two"}))
        self.work()
        self.assertEqual(self.book.networks(["one", "two"]), TWO)
        self.book.want(frozenset())
        self.assertEqual(self.book.networks(["two"]), ())

    def test_refresh(self) -> None:
        """Names are resolved anew every now and then."""
        self.book.start()
        self.book.want(frozenset({"one"}))
        self.work()
        self.names["one"] = TWO
        self.clock.advance(REFRESH_INTERVAL)
        self.assertEqual(self.book.networks(["one"]), ONE)
        self.work()
        self.assertEqual(self.book.networks(["one"]), TWO)
        self.book.stop()
        self.clock.advance(REFRESH_INTERVAL)
        self.assertEqual((self.lane, self.clock.getDelayedCalls()), ([], []))

    def test_failure_keeps_what_was_known(self) -> None:
        """An outage of DNS shuts nobody out; it is logged, and tried again."""
        events = logged_by(self, "twisted_patroni.addresses")
        self.book.start()
        self.book.want(frozenset({"one"}))
        self.work()
        self.names.clear()
        self.clock.advance(REFRESH_INTERVAL)
        self.work()
        self.assertEqual(self.book.networks(["one"]), ONE)
        self.assertEqual([event["host"] for event in events], ["one"])
        self.names["one"] = TWO
        self.clock.advance(REFRESH_INTERVAL)
        self.work()
        self.assertEqual(self.book.networks(["one"]), TWO)
        self.book.stop()

    def test_changes_are_told(self) -> None:
        """Who depends on addresses is told when a name turns out to have others than before."""
        told: list[tuple[Network, ...]] = []
        self.book.on_change = lambda: told.append(self.book.networks(["one"]))
        self.book.start()
        self.book.want(frozenset({"one"}))
        for networks in (ONE, ONE, TWO):
            self.names["one"] = networks
            self.work()
            self.clock.advance(REFRESH_INTERVAL)
        self.assertEqual(told, [ONE, TWO])
        self.book.stop()

    def test_mapped_address(self) -> None:
        """An IPv4 address in IPv6's spelling is the IPv4 address, as clients are seen."""
        self.book.want(frozenset({"::ffff:10.0.0.1"}))
        self.assertEqual(self.book.networks(["::ffff:10.0.0.1"]), ONE)

    def test_stop_without_start(self) -> None:
        """Stopping a book that was never started is fine."""
        self.book.stop()


class ResolveTests(SynchronousTestCase):
    """The resolver proper."""

    def test_addresses(self) -> None:
        """The system resolves an address to itself."""
        self.assertEqual(resolve("127.0.0.1"), (ip_network("127.0.0.1/32"),))
