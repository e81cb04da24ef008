"""Ask the servers of a real cluster, over HTTP and SQL, and wait with a bound for what they say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import treq
from attrs import define, field, frozen
from twisted.internet import reactor
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ResponseFailed,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from twisted.web.iweb import IPolicyForHTTPS

_T = TypeVar("_T")

#: What may go wrong while a server is not there yet, or no more.
NO_ANSWER = (ConnectError, ConnectionClosed, ResponseFailed, DeferredTimeout)
_POLL = 0.1


@frozen
class Reply:
    """What a node answered.

    :param code: the HTTP status; 0 if there was no answer.
    :param text: the body, or why there was no answer.
    :param headers: the header fields, by lower-case name.
    :param seconds: how long it took.
    """

    code: int
    text: str
    headers: Mapping[str, str]
    seconds: float

    def json(self) -> Any:
        """Return the document in the body."""
        return json.loads(self.text)


@define(eq=False)
class Api:
    """Asks nodes over HTTP, each time on a connection of its own.

    :param login: user and password for the endpoints that change something.
    :param policy: which servers to trust over TLS, and which certificate to show them.
    """

    login: tuple[str, str] | None = None
    policy: IPolicyForHTTPS = field(factory=BrowserLikePolicyForHTTPS)
    _agent: Agent = field(init=False)

    def __attrs_post_init__(self) -> None:
        pool = HTTPConnectionPool(reactor, persistent=False)
        self._agent = Agent(reactor, self.policy, connectTimeout=2.0, pool=pool)

    async def ask(
        self, method: str, url: str, document: Any = None, *, within: float = 60.0
    ) -> Reply:
        """Send a request and return the answer, or a reply with the code 0.

        :param method: the method.
        :param url: where to.
        :param document: what to send as JSON, if anything.
        :param within: after how many seconds to give up.
        """
        body = None if document is None else json.dumps(document).encode("ascii")
        begun = reactor.seconds()
        asking = Deferred.fromCoroutine(self._ask(method, url, body))
        try:
            code, text, headers = await asking.addTimeout(within, reactor)
        except NO_ANSWER as error:
            code, text, headers = 0, repr(error), {}
        return Reply(code, text, headers, reactor.seconds() - begun)

    async def _ask(
        self, method: str, url: str, body: bytes | None
    ) -> tuple[int, str, dict[str, str]]:
        login = None if method in ("GET", "HEAD", "OPTIONS") else self.login
        response = await treq.request(method, url, data=body, auth=login, agent=self._agent)
        headers = {
            name.decode("ascii").lower(): values[0].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        return response.code, await response.text("utf-8"), headers


async def eventually(
    what: str, look: Callable[[], Awaitable[_T | None]], within: float = 30.0
) -> _T:
    """Look again and again until that gives something true, and return it.

    :param what: what is waited for, for the report.
    :param look: looks once.
    :param within: after how many seconds the test fails.
    """
    deadline = reactor.seconds() + within
    while not (seen := await look()):
        if reactor.seconds() > deadline:
            raise AssertionError(f"not within {within:.0f} s: {what}; last seen: {seen!r}")
        await deferLater(reactor, _POLL)
    return seen


async def together(*flows: Coroutine[Any, Any, _T]) -> list[_T]:
    """Run flows at the same time and return what they return.

    :param flows: the coroutines.
    """
    running = [Deferred.fromCoroutine(flow) for flow in flows]
    try:
        return await gatherResults(running, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
        raise


async def sql(conninfo: str, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement on a connection of its own and return its rows.

    :param conninfo: which server, as libpq takes it.
    :param statement: the statement.
    """
    return await deferToThread(_sql, conninfo, statement)


def _sql(conninfo: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []
