"""Addresses behind host names, resolved ahead of the requests that need them.

A request is never kept waiting for DNS: what is not resolved yet, or no longer, is not admitted.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from attrs import define, field
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_patroni.settings.reading import network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from twisted_patroni.engine.interface import ClusterView, MemberView
    from twisted_patroni.settings import Network

_log = Logger()

#: Seconds between two resolutions of the same names.
REFRESH_INTERVAL = 10.0


def resolve(host: str) -> tuple[Network, ...]:
    """Resolve a host name; blocks.

    :param host: the name.
    :raise OSError: if it cannot be resolved.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return tuple(dict.fromkeys(network(str(entry[4][0]).partition("%")[0]) for entry in found))


def member_hosts(cluster: ClusterView) -> frozenset[str]:
    """Return the hosts of the members' REST APIs, those of MPP workers included.

    :param cluster: as the DCS has it.
    """
    members = (*cluster.members, *cluster.worker_members)
    return frozenset(host for host in map(member_host, members) if host)


def member_host(member: MemberView) -> str | None:
    """Return the host of a member's REST API, ``None`` if it is not known.

    :param member: the member.
    """
    try:
        return urlsplit(member.api_url or "").hostname
    except ValueError:
        _log.debug("{name} has an unusable api_url", name=member.name)
        return None


@define(eq=False)
class AddressBook:
    """Keeps host names resolved.

    :param clock: for refreshing.
    :param in_lane: runs a blocking function elsewhere.
    :param resolve: resolves one name, blocking.
    :ivar on_change: called when a name turns out to stand for other addresses than before.
    """

    clock: IReactorTime
    in_lane: Callable[[Callable[[], tuple[Network, ...]]], Deferred[tuple[Network, ...]]]
    resolve: Callable[[str], tuple[Network, ...]] = resolve
    on_change: Callable[[], None] = field(default=lambda: None, init=False)
    _known: dict[str, tuple[Network, ...]] = field(factory=dict, init=False)
    _wanted: frozenset[str] = field(default=frozenset(), init=False)
    _under_way: set[str] = field(factory=set, init=False)
    _refresh: LoopingCall | None = field(default=None, init=False)

    def start(self) -> None:
        """Begin to refresh what is wanted."""
        self._refresh = LoopingCall(self._resolve, force=True)
        self._refresh.clock = self.clock
        self._refresh.start(REFRESH_INTERVAL, now=False).addErrback(
            lambda failure: _log.failure("Refreshing addresses ended", failure)
        )

    def stop(self) -> None:
        """Refresh no more."""
        if self._refresh is not None:
            refresh, self._refresh = self._refresh, None
            refresh.stop()

    def want(self, hosts: frozenset[str]) -> None:
        """Keep these hosts resolved, and no others.

        :param hosts: names or addresses.
        """
        if hosts == self._wanted:
            return
        self._wanted = hosts
        self._known = {host: known for host, known in self._known.items() if host in hosts}
        self._resolve(force=False)

    def networks(self, hosts: Iterable[str]) -> tuple[Network, ...]:
        """Return what is known of hosts.

        :param hosts: some of those wanted.
        """
        return tuple(found for host in hosts for found in self._known.get(host, ()))

    def _resolve(self, force: bool) -> None:
        for host in self._wanted - self._under_way:
            try:
                self._known[host] = (network(host),)
            except ValueError:
                if force or host not in self._known:
                    self._ask(host)

    def _ask(self, host: str) -> None:
        def found(networks: tuple[Network, ...]) -> None:
            if host in self._wanted and networks != self._known.get(host):
                self._known[host] = networks
                self.on_change()

        def failed(failure: Failure) -> None:
            # What was known stays: a DNS outage must not shut members out.
            _log.error("Failed to resolve {host}: {error}", host=host, error=failure.value)

        self._under_way.add(host)
        self.in_lane(lambda: self.resolve(host)).addCallbacks(found, failed).addBoth(
            lambda _: self._under_way.discard(host)
        )
