"""Who is connected, and who is let in when many are: limits in all and per address, kept places."""

from __future__ import annotations

import resource
from collections import Counter
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted_patroni.settings import Limits
    from twisted_patroni.web.channel import ApiChannel


def affordable_connections(wanted: int, descriptors: int) -> int:
    """Return how many connections leave descriptors for PostgreSQL, the DCS and files.

    :param wanted: the configured number.
    :param descriptors: how many the process may have open, negative for no limit.
    """
    if descriptors < 0:
        return wanted
    return min(wanted, max(descriptors // 2, descriptors - 256))


def is_loopback(host: str) -> bool:
    """Tell whether a client's address is this machine's own.

    :param host: the address, empty for a Unix socket.
    """
    return not host or host.startswith("127.") or host == "::1"


@define(eq=False)
class Connections:
    """All connections, in the order of their accept.

    Loopback and the cluster's members are trusted: some places are theirs alone, and no number of
    strangers makes them wait or closes their connections.

    :param limits: how many there may be.
    :param trusts: tells whether an address is trusted.
    :ivar limit: how many there may be, as many as the process may have open.
    :ivar accepted: how many were served so far.
    :ivar refused: how many were closed so far, by reason: ``total`` and ``address`` for too many,
        ``proxy`` for one that comes from no known proxy, ``closing`` at the end.
    """

    limits: Limits
    trusts: Callable[[str], bool] = is_loopback
    limit: int = field(default=0, init=False)
    accepted: int = field(default=0, init=False)
    refused: Counter[str] = field(factory=Counter, init=False)
    _channels: dict[ApiChannel, None] = field(factory=dict, init=False)
    _strangers: int = field(default=0, init=False)
    _by_address: dict[str, int] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.apply(self.limits)

    def apply(self, limits: Limits) -> None:
        """Let other limits count for connections to come.

        :param limits: the limits.
        """
        self.limits = limits
        self.limit = affordable_connections(
            limits.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        )

    def __len__(self) -> int:
        return len(self._channels)

    def __contains__(self, channel: ApiChannel) -> bool:
        return channel in self._channels

    def __iter__(self) -> Iterator[ApiChannel]:
        return iter(self._channels)

    def admits(self, host: str | None) -> bool:
        """Decide on a new connection; closes an old one that waits for its client to make room.

        :param host: the client's address, empty for a Unix socket, ``None`` if only a proxy knows
            it.
        """
        trusted = host is not None and self.trusts(host)
        if not trusted:
            if host and self._by_address.get(host, 0) >= self.limits.connections_per_address:
                self.refused["address"] += 1
                return False
            reserved = min(self.limits.connections_reserved, self.limit // 2)
            if self._strangers >= self.limit - reserved:
                self.refused["total"] += 1
                return self._make_room(among_trusted=False)
        if len(self._channels) >= self.limit:
            self.refused["total"] += 1
            return self._make_room(among_trusted=trusted)
        return True

    def _make_room(self, among_trusted: bool) -> bool:
        """Close the connection that has waited longest for its client, a stranger's first."""
        waiting = (channel for channel in self._channels if channel.dispensable)
        oldest = None
        if self._strangers:
            oldest = next((channel for channel in waiting if not channel.trusted), None)
        if oldest is None and among_trusted:
            oldest = next((channel for channel in self._channels if channel.dispensable), None)
        if oldest is None:
            return False
        oldest.abort()
        return True

    def joined(self, channel: ApiChannel) -> None:
        """Take note of a new connection.

        :param channel: it knows whom it serves.
        """
        self.accepted += 1
        self._channels[channel] = None
        if not channel.trusted:
            self._strangers += 1
            if channel.came_from:
                self._by_address[channel.came_from] = self._by_address.get(channel.came_from, 0) + 1

    def left(self, channel: ApiChannel) -> None:
        """Take note of the end of a connection.

        :param channel: the connection, which may be known to have ended.
        """
        if channel not in self._channels:
            return
        del self._channels[channel]
        if not channel.trusted:
            self._strangers -= 1
            if channel.came_from:
                left = self._by_address[channel.came_from] - 1
                if left:
                    self._by_address[channel.came_from] = left
                else:
                    del self._by_address[channel.came_from]
