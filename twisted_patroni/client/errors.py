"""What can go wrong with a request, told apart by what its caller can do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted_patroni.client.values import Eligibility

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted_patroni.client.response import Response


class ClientError(Exception):
    """Any failure of this client; its text is one line."""


class Unreachable(ClientError):
    """Nothing was asked: no connection was made. It is safe to ask again, here or elsewhere.

    :param url: the node.
    :param reason: why, in half a sentence.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url, self.reason = url, reason

    def __str__(self) -> str:
        return f"{self.url} {self.reason}"


class TlsFailure(Unreachable):
    """Nothing was asked: TLS did not come about, and the reason says at what it failed."""


class OutcomeUnknown(ClientError):
    """It was asked, and no answer has come: what was asked for may have been done.

    :param url: what was asked.
    :param reason: why there is no answer, in half a sentence.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url, self.reason = url, reason

    def __str__(self) -> str:
        return f"{self.url} {self.reason}: what was asked for may have been done"


class TimedOut(OutcomeUnknown):
    """It was asked, and no answer has come in time."""


class BrokenAnswer(ClientError):
    """An answer came that is none of a Patroni's API.

    :param url: what was asked.
    :param reason: what is wrong with it, in half a sentence.
    :param response: as far as it could be read.
    """

    def __init__(self, url: str, reason: str, response: Response | None = None) -> None:
        super().__init__(url, reason, response)
        self.url, self.reason, self.response = url, reason, response

    def __str__(self) -> str:
        return f"{self.url} {self.reason}"


class Refused(ClientError):
    """The node has answered that it does not do what was asked.

    :param response: the answer.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.response = response

    def __str__(self) -> str:
        response = self.response
        return f"{response.url} answers {response.status}: {response.sentence}"


class Unauthorized(Refused):
    """Status 401: user and password are missing or wrong."""


class Forbidden(Refused):
    """Status 403: who asks may not do that."""


class NotFound(Refused):
    """Status 404: there is no such thing."""


class Conflict(Refused):
    """Status 409: something else is going on, or was written meanwhile."""


class PreconditionFailed(Refused):
    """Status 412: as things are it cannot be done."""

    @property
    def candidates(self) -> tuple[Eligibility, ...]:
        """For each candidate whether it could take over; nothing if the node told nothing."""
        try:
            found = self.response.json()
        except BrokenAnswer:
            return ()
        return Eligibility.listed(found.get("candidates")) if isinstance(found, dict) else ()


class Unavailable(Refused):
    """Status 503: not now, or not this node."""


class NotSupported(ClientError):
    """Nothing was done: the node's daemon does not know what was to be asked.

    :param url: what was to be asked.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url

    def __str__(self) -> str:
        return f"{self.url} is not known to the node's daemon"


class Disconnected(ClientError):
    """A node that told what happens does so no more; other nodes may.

    :param url: what was followed.
    :param reason: why, in half a sentence.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url, self.reason = url, reason

    def __str__(self) -> str:
        return f"{self.url} {self.reason}"


class ClusterUnknown(ClientError):
    """None of the nodes that are known could be asked.

    :param reasons: the failure of each, by its URL.
    """

    def __init__(self, reasons: Mapping[str, ClientError]) -> None:
        super().__init__(reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        told = "; ".join(str(each) for each in self.reasons.values())
        return f"no node can be asked: {told or 'none is known'}"


class NoLeader(ClientError):
    """The cluster has no leader, or none was found in time."""


class NoMember(ClientError):
    """No member of the cluster is what was asked for."""


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
