"""Connections to the PostgreSQL of a member, opened where waiting for them holds up nobody."""

from __future__ import annotations

from math import ceil
from threading import Thread
from typing import TYPE_CHECKING, Any

import psycopg
from attrs import define, field
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.python.failure import Failure

from twisted_patroni.client.errors import NoMember, Unreachable
from twisted_patroni.client.pool import PoolClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted_patroni.client.searching import Search
    from twisted_patroni.client.values import Member

#: What the session must be, by whom it is for. Roles change between the moment when a member is
#: chosen and that when it takes the connection; the server knows better than anybody who was asked.
_SESSION = {"leader": "read-write", "primary": "read-write", "replica": "standby"}
#: Parameters that say where to connect, which is what the cluster is asked for.
_PLACE = ("host", "hostaddr", "port", "service")
#: Seconds below which libpq and psycopg do not go.
_SHORTEST = 2
#: Characters of a reason.
_LONGEST = 400


class CannotConnect(Unreachable):
    """Nothing was asked: PostgreSQL has not taken the connection, for the reason it or libpq says.

    >>> error = CannotConnect("postgresql://10.0.0.11:5432", "is starting up")
    >>> str(error), isinstance(error, Unreachable)
    ('postgresql://10.0.0.11:5432 is starting up', True)
    """


def conninfo(member: Member, target: str, parameters: Mapping[str, Any]) -> str:
    """Return the connection string for a member's PostgreSQL.

    The server itself makes sure of the role: whoever asks for the primary gets a session that can
    write or none, and whoever asks for a replica one that is no primary. ``target_session_attrs``
    among the parameters goes before that.

    :param member: the member.
    :param target: ``primary``, ``replica`` or ``any``.
    :param parameters: libpq's, without those that say where; those that are ``None`` are left out.
    :raise NoMember: if the member does not tell where its PostgreSQL is.
    :raise ValueError: if a parameter is none of libpq's, or says where to connect.

    >>> conninfo(Member("a", host="10.0.0.11", port=5432), "primary", {"dbname": "app"})
    'dbname=app host=10.0.0.11 port=5432 target_session_attrs=read-write'
    """
    if member.host is None or member.port is None:
        raise NoMember(f"{member.name} tells no address of its PostgreSQL")
    for name in _PLACE:
        if parameters.get(name) is not None:
            raise ValueError(f"{name} is found out from the cluster, it cannot be given")
    session = {"target_session_attrs": _SESSION[target]} if target in _SESSION else {}
    given = {name: value for name, value in parameters.items() if value is not None}
    place = {"host": member.host, "port": member.port}
    try:
        return make_conninfo(**dict(sorted({**session, **given, **place}.items())))
    except psycopg.ProgrammingError as error:
        # libpq's text names the parameter, never its value.
        raise ValueError(" ".join(str(error).split())) from None


def _in_thread(work: Callable[[], None]) -> None:
    # No pool, for one that is stopped waits for attempts at hosts that do not answer, and a daemon,
    # for such an attempt must not keep a finished program alive.
    Thread(target=work, name="postgres-connect", daemon=True).start()


@define(eq=False)
class Connector:
    """Opens connections, a few at a time, each in a thread of its own.

    :param reactor: the reactor.
    :param threads: attempts at the same time; the others wait their turn.
    :param run: has a function called that may block.
    :param open: opens a connection, and blocks meanwhile.
    :ivar running: attempts that have not ended, those included that nobody waits for any more.
    """

    reactor: Any
    threads: int = 4
    run: Callable[[Callable[[], None]], object] = _in_thread
    open: Callable[[str], psycopg.Connection[Any]] = psycopg.connect
    running: int = field(default=0, init=False)
    _places: DeferredSemaphore = field(init=False)
    _asking: set[Deferred[Any]] = field(factory=set, init=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._places = DeferredSemaphore(self.threads)

    async def connect(self, conninfo: str, timeout: float) -> psycopg.Connection[Any]:
        """Open a connection.

        One that is made when nobody waits for it any more is closed at once.

        :param conninfo: the connection string; the time limit in it is replaced by this one.
        :param timeout: seconds, the wait for a thread included.
        :raise CannotConnect: if it does not come about in time.
        """
        if self._closed:
            raise PoolClosed("no connections are opened any more")
        asking = Deferred.fromCoroutine(self._connect(conninfo, timeout))
        self._asking.add(asking)
        try:
            return await asking
        except CancelledError:
            if self._closed:
                raise PoolClosed("no connections are opened any more") from None
            raise
        finally:
            self._asking.discard(asking)

    async def _connect(self, conninfo: str, timeout: float) -> psycopg.Connection[Any]:
        clock, url = self.reactor, _url(conninfo)
        began = clock.seconds()
        try:
            await self._places.acquire().addTimeout(timeout, clock)
        except DeferredTimeout:
            reason = f"could not be asked within {timeout:g} seconds, so many wait for others"
            raise CannotConnect(url, reason) from None
        left = max(0.001, timeout - (clock.seconds() - began))
        limited = make_conninfo(conninfo, connect_timeout=max(_SHORTEST, ceil(left)))
        try:
            return await self._begin(limited).addTimeout(left, clock)
        except DeferredTimeout:
            reason = f"has not taken a connection within {timeout:g} seconds"
            raise CannotConnect(url, reason) from None
        except psycopg.Error as error:
            raise CannotConnect(url, _reason(error)) from error

    def _begin(self, conninfo: str) -> Deferred[psycopg.Connection[Any]]:
        """Open a connection in a thread; the place is free when that has ended, not before."""
        result: Deferred[psycopg.Connection[Any]] = Deferred()

        def work() -> None:
            outcome: psycopg.Connection[Any] | Failure
            try:
                outcome = self.open(conninfo)
            except BaseException:
                outcome = Failure()
            self.reactor.callFromThread(self._ended, result, outcome)

        self.running += 1
        try:
            self.run(work)
        except RuntimeError as error:  # there is no room for another thread
            self._ended(result, Failure(psycopg.OperationalError(f"cannot be asked: {error}")))
        return result

    def _ended(
        self,
        result: Deferred[psycopg.Connection[Any]],
        outcome: psycopg.Connection[Any] | Failure,
    ) -> None:
        self.running -= 1
        self._places.release()
        if not result.called:
            result.callback(outcome)
        elif not isinstance(outcome, Failure):
            outcome.close()

    def close(self) -> None:
        """Open no more connections; who waits for one fails with :class:`PoolClosed`."""
        self._closed = True
        for each in tuple(self._asking):
            each.cancel()


async def conninfo_of(search: Search, parameters: Mapping[str, Any]) -> str:
    """Return the connection string of a member that will do.

    :param search: finds it.
    :param parameters: libpq's.
    """
    candidate = await search.next()
    if candidate is None:
        raise search.in_vain()
    return conninfo(candidate.member, search.target, parameters)


async def connection_to(
    search: Search, connector: Connector, parameters: Mapping[str, Any], patience: float
) -> psycopg.Connection[Any]:
    """Open a connection to a member that will do, and takes it.

    :param search: finds it.
    :param connector: opens connections.
    :param parameters: libpq's.
    :param patience: seconds for one member, unless ``connect_timeout`` says otherwise.
    """
    given = parameters.get("connect_timeout")
    try:
        seconds = patience if given is None else float(given)
    except (TypeError, ValueError):
        raise ValueError(f"connect_timeout: {given!r} is no number of seconds") from None
    while (candidate := await search.next()) is not None:
        text = conninfo(candidate.member, search.target, parameters)
        limit = min(search.left, seconds) if seconds > 0 else search.left
        try:
            return await connector.connect(text, limit)
        except CannotConnect as error:
            search.failed(candidate, error)
        search.tried.add(candidate.pool.url)
    raise search.in_vain()


def _url(conninfo: str) -> str:
    place = conninfo_to_dict(conninfo)
    host = str(place.get("host") or "")
    shown = f"[{host}]" if ":" in host else host
    return f"postgresql://{shown}:{place.get('port', '')}"


def _reason(error: psycopg.Error) -> str:
    """Return what libpq says without its advice, which is indented, as half a sentence."""
    lines = [line for line in str(error).splitlines() if not line.startswith("\t")]
    return f"takes no connection: {' '.join(' '.join(lines).split())}"[:_LONGEST]
