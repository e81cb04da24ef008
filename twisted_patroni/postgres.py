"""A supervised connection to PostgreSQL that answers, well or badly, within a deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import psycopg
from psycopg.conninfo import make_conninfo
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IResolutionReceiver
from twisted.logger import Logger
from zope.interface import implementer

from twisted_patroni._pqlink import (
    ConnectionFailed,
    LinkLost,
    PostgresError,
    QueryFailed,
    QueryTimeout,
    Rows,
    Session,
)
from twisted_patroni._pqsocket import LinkReactor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution

__all__ = [
    "ConnectionFailed",
    "LinkLost",
    "LinkReactor",
    "PostgresError",
    "PostgresLink",
    "QueryFailed",
    "QueryTimeout",
    "Rows",
    "with_addresses",
]

_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 1.0


class PostgresLink:
    """A connection to one PostgreSQL server, made when it is needed and made anew when it is lost.

    An idle connection stays watched, so a server that goes away is noticed without asking it.
    Statements run one at a time, in the order they were asked, each in a transaction of its own
    as the simple query protocol has it.

    :param reactor: what it runs on.
    :param conninfo: asked before each connect for libpq's parameters by their keywords; those
        that are ``None`` are left out. libpq reads the password file itself, which may block for
        as long as the file system does.
    :param deadline: seconds from a question to its answer, connecting and queueing included.
    :param connect_timeout: seconds for one attempt to connect. libpq's own parameter of that
        name has no effect here.
    :param on_lost: called with the reason when an established connection is lost.
    :param prepare: have the server keep the plan of the last statement, which makes a short one
        that is asked again much cheaper. A text then holds a single statement.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: LinkReactor,
        conninfo: Callable[[], Mapping[str, Any]],
        *,
        deadline: float = 3.0,
        connect_timeout: float = 2.0,
        on_lost: Callable[[PostgresError], None] | None = None,
        prepare: bool = False,
    ) -> None:
        self._reactor = reactor
        self._conninfo = conninfo
        self._deadline = deadline
        self._connect_timeout = connect_timeout
        self._tell_lost = on_lost
        self._prepare = prepare
        self._closed = False
        self._turn = DeferredLock()
        self._questions: set[Deferred[Rows]] = set()
        self._session: Session | None = None
        self._failure: PostgresError | None = None
        self._backoff = _FIRST_BACKOFF
        self._not_before = 0.0

    @property
    def connected(self) -> bool:
        """Whether there is an established connection that is not known to be lost."""
        return self._session is not None and self._session.established

    def query(self, sql: str) -> Deferred[Rows]:
        """Run a statement, after connecting if need be.

        Cancelling the Deferred frees the caller at once and cancels the statement on the server.
        With a libpq older than 17 the connection is dropped instead, and the statement goes on
        until it ends by itself: set ``statement_timeout``.

        :param sql: the statement.
        :return: fires within the deadline, with the rows or with a :class:`PostgresError`.
        """
        question = Deferred.fromCoroutine(self._answer(sql))
        self._questions.add(question)
        question.addBoth(self._answered, question)
        return question.addTimeout(self._deadline, self._reactor, self._too_late)

    def close(self) -> None:
        """Drop the connection for good; all who wait, and all who ask later, get an error."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            session.close(_closed())
        for question in tuple(self._questions):
            question.cancel()

    def _answered(self, outcome: Any, question: Deferred[Rows]) -> Any:
        self._questions.discard(question)
        return outcome

    @staticmethod
    def _too_late(outcome: object, seconds: float) -> NoReturn:
        raise QueryTimeout(f"no answer within {seconds:g} s")

    async def _answer(self, sql: str) -> Rows:
        try:
            async with self._turn:
                session = await self._usable_session()
                return await (session.run_prepared(sql) if self._prepare else session.run(sql))
        except CancelledError:
            if self._closed:
                raise _closed() from None
            raise

    async def _usable_session(self) -> Session:
        if self._session is not None:
            session = self._session
            try:
                await session.settled()
            except LinkLost as error:
                self._log.debug("connecting anew: {error}", error=error)
            else:
                return session
        return await self._connect()

    async def _connect(self) -> Session:
        """Make one attempt, unless the last one failed only just now."""
        if self._closed:
            raise _closed()
        if self._failure is not None and self._reactor.seconds() < self._not_before:
            raise ConnectionFailed(self._failure.message)
        attempt = Deferred.fromCoroutine(self._attempt())
        try:
            session = await attempt.addTimeout(
                self._connect_timeout, self._reactor, self._connecting_too_long
            )
        except ConnectionFailed as error:
            self._failure = error
            self._not_before = self._reactor.seconds() + self._backoff
            self._backoff = min(2 * self._backoff, _LONGEST_BACKOFF)
            raise
        self._failure = None
        self._backoff = _FIRST_BACKOFF
        return session

    @staticmethod
    def _connecting_too_long(outcome: object, seconds: float) -> NoReturn:
        raise ConnectionFailed(f"no connection within {seconds:g} s")

    async def _attempt(self) -> Session:
        parameters = await with_addresses(self._reactor.nameResolver, self._conninfo())
        try:
            conninfo = make_conninfo("", **parameters)
        except psycopg.Error as error:
            raise ConnectionFailed(f"bad connection parameters: {error}") from error
        session = self._session = Session(self._reactor, self._lost)
        try:
            await session.connect(conninfo)
        except BaseException:
            self._session = None
            raise
        self._log.info("connected to PostgreSQL")
        return session

    def _lost(self, error: PostgresError) -> None:
        self._session = None
        self._log.info("lost the connection to PostgreSQL: {error}", error=error)
        if self._tell_lost is not None:
            with self._log.failuresHandled("while telling of a lost connection"):
                self._tell_lost(error)


def _closed() -> LinkLost:
    return LinkLost("the link is closed")


async def with_addresses(
    resolver: IHostnameResolver, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Complete libpq's parameters so that libpq need not resolve a name, nor block for Kerberos.

    Each address of a name becomes a host of its own with the name kept beside it, for TLS and the
    password file go by the name. Also sets what the decoding of answers relies on.

    :param resolver: the reactor's.
    :param parameters: by libpq's keywords.
    :return: the parameters for libpq, none of them ``None``.
    """
    given = {key: value for key, value in parameters.items() if value is not None}
    known = {"gssencmode": "disable", "client_encoding": "UTF8", **given}
    # psycopg reads dates in ISO style only, and the server's configuration may prefer another.
    known["options"] = f"{known.get('options', '')} -c datestyle=ISO".strip()
    if known.get("hostaddr") or not known.get("host"):
        return known
    hosts = str(known["host"]).split(",")
    ports = str(known.get("port", "")).split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        return known  # libpq says what is wrong with it
    candidates = [
        (host, address, port)
        for host, port in zip(hosts, ports, strict=True)
        for address in await _addresses(resolver, host)
    ]
    if not candidates:
        raise ConnectionFailed(f"host name {known['host']} cannot be resolved")
    for key, values in zip(
        ("host", "hostaddr", "port"), zip(*candidates, strict=True), strict=True
    ):
        if any(values):
            known[key] = ",".join(values)
    return known


async def _addresses(resolver: IHostnameResolver, host: str) -> list[str]:
    """Return a host's addresses; an empty one if libpq needs none."""
    if not host or host[0] in "/@":
        return [""]
    if isIPAddress(host) or isIPv6Address(host):
        return [host]
    resolved: Deferred[list[str]] = Deferred()
    resolver.resolveHostName(_Addresses(resolved), host)
    return await resolved


@implementer(IResolutionReceiver)
class _Addresses:
    """Collects what a name resolves to."""

    def __init__(self, resolved: Deferred[list[str]]) -> None:
        self._resolved = resolved
        self._found: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Take notice; resolvers cannot be cancelled, a late answer is ignored."""

    def addressResolved(self, address: IAddress) -> None:
        """Keep one address."""
        self._found.append(address.host)  # type: ignore[attr-defined]

    def resolutionComplete(self) -> None:
        """Hand over what was found."""
        self._resolved.callback(self._found)
