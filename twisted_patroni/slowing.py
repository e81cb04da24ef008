"""Makes those wait who guess passwords: after some wrong ones, an address has to wait for more."""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from twisted_patroni.access import LOCAL

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: Wrong passwords in a row that cost nothing but their answer.
FREE_FAILURES = 5
#: Seconds to wait at most.
LONGEST_WAIT = 60.0
#: Seconds without a wrong password after which those before are forgotten.
QUIET = 600.0
#: Addresses that are remembered.
ADDRESSES = 4096
#: Right passwords that are remembered of each.
KNOWN = 4


@frozen
class _Record:
    """The wrong passwords that came from one address.

    :param failures: how many, in a row.
    :param last: when the last one came.
    :param until: when the next one may come.
    """

    failures: int
    last: float
    until: float


@define(eq=False)
class Slowing:
    """Tells how long an address has to wait before it may try a password.

    What has been right from an address before never waits: nobody can lock a client out by giving
    wrong passwords from where it is, behind the same proxy. Nor does it count as the right one that
    ends a row of wrong ones, for then a client at work would give those beside it new chances.

    :param clock: measures the waiting.
    :ivar failures: wrong passwords so far.
    :ivar slowed: attempts that came too early so far.
    """

    clock: IReactorTime
    failures: int = field(default=0, init=False)
    slowed: int = field(default=0, init=False)
    _key: bytes = field(factory=lambda: os.urandom(32), init=False, repr=False)
    # Apart, for no number of wrong passwords may make us forget right ones.
    _failing: OrderedDict[str, _Record] = field(factory=OrderedDict, init=False, repr=False)
    _known: OrderedDict[str, tuple[bytes, ...]] = field(factory=OrderedDict, init=False, repr=False)

    def wait(self, host: str, authorization: bytes) -> float:
        """Return for how many seconds an attempt comes too early; it is to be refused then.

        :param host: the client's address.
        :param authorization: what it gave.
        """
        source = source_of(host)
        record = self._failing.get(source)
        if record is None:
            return 0.0
        seconds = record.until - self.clock.seconds()
        if seconds <= 0 or self._digest(authorization) in self._known.get(source, ()):
            return 0.0
        self.slowed += 1
        return seconds

    def failed(self, host: str) -> None:
        """Take note of a wrong password.

        :param host: the client's address.
        """
        self.failures += 1
        source, now = source_of(host), self.clock.seconds()
        record = self._failing.pop(source, None)
        before = 0 if record is None or now - record.last >= QUIET else record.failures
        further = min(before + 1 - FREE_FAILURES, 6)
        wait = 0.0 if further < 0 else min(2.0**further, LONGEST_WAIT)
        self._failing[source] = _Record(before + 1, now, now + wait)
        if len(self._failing) > ADDRESSES:
            self._failing.popitem(last=False)

    def succeeded(self, host: str, authorization: bytes) -> None:
        """Take note of a right password.

        :param host: the client's address.
        :param authorization: what it gave.
        """
        source, digest = source_of(host), self._digest(authorization)
        known = self._known.pop(source, ())
        if digest not in known:
            self._failing.pop(source, None)
            known = (*known, digest)[-KNOWN:]
        self._known[source] = known
        if len(self._known) > ADDRESSES:
            self._known.popitem(last=False)

    def _digest(self, authorization: bytes) -> bytes:
        return hmac.digest(self._key, authorization, "sha256")


def source_of(host: str) -> str:
    """Return what counts as one address: with IPv6, the /64 network that a host has to itself.

    :param host: a client's address, empty for a Unix socket.
    """
    if ":" not in host:
        return host or LOCAL
    try:
        return str(ip_network((int(ip_address(host)) >> 64 << 64, 64)))
    except ValueError:
        return host
