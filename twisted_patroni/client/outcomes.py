"""What comes of what a node is asked to do, and what would come of it, as frozen values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from twisted_patroni.client.shapes import documents, moment, text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@frozen
class Outcome:
    """How something that was asked for has ended.

    :param status: the HTTP status: 200, or 202 for what is scheduled.
    :param text: the sentence that the node says of it.

    >>> await node.switchover("a", "b")
    Outcome(status=200, text='Successfully switched over to "b"')
    """

    status: int
    text: str

    @property
    def scheduled(self) -> bool:
        """Whether it is still to come.

        >>> Outcome(202, "Restart scheduled").scheduled
        True
        """
        return self.status == 202


@frozen
class Eligibility:
    """Whether a member could take over.

    :param name: its name.
    :param eligible: it could.
    :param reason: why not, if it could not.

    >>> memory.refuse("c")
    >>> forecast = await node.foresee.switchover("a")
    >>> [(each.name, each.reason) for each in forecast.candidates]
    [('b', None), ('c', 'not reachable')]
    """

    name: str
    eligible: bool
    reason: str | None = None

    @classmethod
    def listed(cls, found: object) -> tuple[Eligibility, ...]:
        """Read the list ``candidates`` of an answer; what is none is an empty one.

        :param found: the list.

        >>> Eligibility.listed([{"name": "b", "eligible": True}])
        (Eligibility(name='b', eligible=True, reason=None),)
        """
        return tuple(
            cls(
                name=text(each.get("name")) or "",
                eligible=each.get("eligible") is True,
                reason=text(each.get("reason")),
            )
            for each in documents(found)
        )


@frozen
class Forecast:
    """What would come of a request.

    :param possible: it would be done.
    :param action: what is asked for.
    :param reason: what is in its way.
    :param node: who would do it, if it is about one node.
    :param leader: who leads now.
    :param candidate: who is to lead.
    :param candidates: for each member in question whether it could take over.
    :param scheduled_at: when it would begin, if not at once.
    :param document: all that was told.

    >>> forecast = await node.foresee.switchover("a", "b")
    >>> forecast.possible, forecast.candidate
    (True, 'b')
    """

    possible: bool
    action: str | None = None
    reason: str | None = None
    node: str | None = None
    leader: str | None = None
    candidate: str | None = None
    candidates: tuple[Eligibility, ...] = ()
    scheduled_at: datetime | None = None
    document: Mapping[str, Any] = field(factory=dict, eq=False, repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Forecast:
        """Read the answer to a dry run.

        :param document: the document.

        >>> Forecast.of({"possible": False, "reason": "leader name does not match"}).reason
        'leader name does not match'
        """
        return cls(
            possible=document.get("possible") is True,
            action=text(document.get("action")),
            reason=text(document.get("reason")),
            node=text(document.get("node")),
            leader=text(document.get("leader")),
            candidate=text(document.get("candidate")),
            candidates=Eligibility.listed(document.get("candidates")),
            scheduled_at=moment(document.get("scheduled_at")),
            document=document,
        )
