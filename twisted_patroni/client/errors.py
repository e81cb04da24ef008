"""What can go wrong with a request, told apart by what its caller can do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted_patroni.client.outcomes import Eligibility

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted_patroni.client.response import Response


class ClientError(Exception):
    """Any failure of this client; its text is one line.

    >>> memory.refuse("a")
    >>> try:
    ...     await node.status()
    ... except ClientError as error:
    ...     print(error)
    http://a:8008/patroni refuses connections
    """


class _Told(ClientError):
    """A failure of which is known at what URL it was, and why.

    :param url: where.
    :param reason: why, in half a sentence that begins with what the node does.
    """

    def __init__(self, url: str, reason: str, *more: object) -> None:
        super().__init__(url, reason, *more)
        self.url, self.reason = url, reason

    def __str__(self) -> str:
        return f"{self.url} {self.reason}"


class Unreachable(_Told):
    """Nothing was asked: no connection was made. It is safe to ask again, here or elsewhere.

    :param url: the node.
    :param reason: why, in half a sentence.

    >>> memory.kill("a")
    >>> try:
    ...     await node.status()
    ... except Unreachable as error:
    ...     print(error.reason)
    refuses connections
    """


class TlsFailure(Unreachable):
    """Nothing was asked: TLS did not come about, and the reason says at what it failed.

    >>> error = TlsFailure("https://a:8008/patroni", "has a certificate for another name")
    >>> isinstance(error, Unreachable)
    True
    """


class OutcomeUnknown(_Told):
    """It was asked, and no answer has come: what was asked for may have been done.

    :param url: what was asked.
    :param reason: why there is no answer, in half a sentence.
    :param safe: it has only been read, so that nothing can have been done.

    >>> memory.hang("a", "/restart")
    >>> try:
    ...     await node.restart(timeout=5)
    ... except OutcomeUnknown as error:
    ...     print(error.reason)
    has not answered within 5 seconds
    """

    def __init__(self, url: str, reason: str, safe: bool = False) -> None:
        super().__init__(url, reason, safe)
        self.safe = safe

    def __str__(self) -> str:
        doubt = "" if self.safe else ": what was asked for may have been done"
        return f"{super().__str__()}{doubt}"


class TimedOut(OutcomeUnknown):
    """It was asked, and no answer has come in time.

    >>> memory.hang("a")
    >>> await node.status()
    Traceback (most recent call last):
    twisted_patroni.client.errors.TimedOut: http://a:8008/patroni has not answered within...
    """


class BrokenAnswer(_Told):
    """An answer came that is none of a Patroni's API.

    :param url: what was asked.
    :param reason: what is wrong with it, in half a sentence.
    :param response: as far as it could be read.

    >>> memory.answer("a", "/cluster", 200, "<html>", {"Content-Type": "text/html"})
    >>> try:
    ...     await node.cluster()
    ... except BrokenAnswer as error:
    ...     print(error.reason, error.response.text)
    answers with what is not JSON <html>
    """

    def __init__(self, url: str, reason: str, response: Response | None = None) -> None:
        super().__init__(url, reason, response)
        self.response = response


class Refused(ClientError):
    """The node has answered that it does not do what was asked.

    :param response: the answer.

    >>> try:
    ...     await node.reinitialize()
    ... except Refused as error:
    ...     print(error.response.status, error.response.sentence)
    503 I am the leader, can not reinitialize
    """

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.response = response

    def __str__(self) -> str:
        response = self.response
        return f"{response.url} answers {response.status}: {response.sentence}"


class Unauthorized(Refused):
    """Status 401: user and password are missing or wrong.

    >>> memory.answer("a", "/restart", 401, "no auth header received")
    >>> await node.restart()
    Traceback (most recent call last):
    twisted_patroni.client.errors.Unauthorized: http://a:8008/restart answers 401: Unauthorized
    """


class Forbidden(Refused):
    """Status 403: who asks may not do that.

    >>> memory.answer("a", "/config", 403, {"error": "only members may read"})
    >>> await node.config()
    Traceback (most recent call last):
    twisted_patroni.client.errors.Forbidden: http://a:8008/config answers 403: only members may read
    """


class NotFound(Refused):
    """Status 404: there is no such thing.

    >>> await node.cancel_switchover()
    Traceback (most recent call last):
    twisted_patroni.client.errors.NotFound: ... answers 404: no switchover is scheduled
    """


class Conflict(Refused):
    """Status 409: something else is going on, or was written meanwhile.

    >>> from datetime import datetime, timezone
    >>> for year in (2100, 2101):
    ...     await node.restart(at=datetime(year, 1, 1, tzinfo=timezone.utc))
    Traceback (most recent call last):
    twisted_patroni.client.errors.Conflict: ... answers 409: Another restart is already scheduled
    """


class PreconditionFailed(Refused):
    """Status 412: as things are it cannot be done.

    >>> try:
    ...     await node.switchover("b")
    ... except PreconditionFailed as error:
    ...     print(error.response.sentence, [each.name for each in error.candidates])
    leader name does not match ['b', 'c']
    """

    @property
    def candidates(self) -> tuple[Eligibility, ...]:
        """For each candidate whether it could take over; nothing if the node told nothing.

        >>> try:
        ...     await node.switchover("b")
        ... except PreconditionFailed as error:
        ...     print(error.candidates[0])
        Eligibility(name='b', eligible=True, reason=None)
        """
        try:
            found = self.response.json()
        except BrokenAnswer:
            return ()
        return Eligibility.listed(found.get("candidates")) if isinstance(found, dict) else ()


class Unavailable(Refused):
    """Status 503: not now, or not this node.

    >>> try:
    ...     await node.reinitialize()
    ... except Unavailable as error:
    ...     print(error)
    http://a:8008/reinitialize answers 503: I am the leader, can not reinitialize
    """


class NotSupported(ClientError):
    """Nothing was done: the node's daemon does not know what was to be asked.

    :param url: what was to be asked.

    >>> str(NotSupported("http://a:8008/operations"))
    "http://a:8008/operations is not known to the node's daemon"
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url

    def __str__(self) -> str:
        return f"{self.url} is not known to the node's daemon"


class Disconnected(_Told):
    """A node that told what happens does so no more; other nodes may.

    :param url: what was followed.
    :param reason: why, in half a sentence.

    >>> try:
    ...     async for event in node.follow():
    ...         memory.dismiss("a")
    ... except Disconnected as error:
    ...     print(error.reason)
    ended it: the node shuts down
    """


class ClusterUnknown(ClientError):
    """None of the nodes that are known could be asked.

    :param reasons: the failure of each, by its URL.

    >>> for name in "abc":
    ...     memory.refuse(name)
    >>> try:
    ...     await replicas.start()
    ... except ClusterUnknown as error:
    ...     print(error.reasons["http://a:8008"].reason)
    refuses connections
    """

    def __init__(self, reasons: Mapping[str, ClientError]) -> None:
        super().__init__(reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        told = "; ".join(str(each) for each in self.reasons.values())
        return f"no node can be asked: {told or 'none is known'}"


class NoLeader(ClientError):
    """The cluster has no leader, or none was found in time.

    >>> memory.demote()
    >>> try:
    ...     await replicas.leader(timeout=2)
    ... except NoLeader as error:
    ...     print("nobody leads")
    nobody leads
    """


class NoMember(ClientError):
    """No member of the cluster is what was asked for.

    >>> await replicas.start()
    >>> try:
    ...     replicas.node("nobody")
    ... except NoMember as error:
    ...     print("there is none")
    there is none
    """


_BY_STATUS: Mapping[int, type[Refused]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    503: Unavailable,
}


def refused(response: Response) -> Refused:
    """Return the error that an answer stands for.

    :param response: the answer, of a status that was not hoped for.
    """
    return _BY_STATUS.get(response.status, Refused)(response)
