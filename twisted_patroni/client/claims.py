"""Who leads, by what is told of the cluster and by what its nodes say of themselves. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, evolve, field, frozen

from twisted_patroni.client.values import Member

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twisted_patroni.client.picture import Picture
    from twisted_patroni.client.values import NodeStatus

_LEADING = {"primary": "leader", "master": "leader", "standby_leader": "standby_leader"}
_RUNNING = ("running", "streaming")


@frozen
class Verdict:
    """What a cluster is taken for.

    :param members: the members, by name; one at most leads. The role of one that was told to lead
        and does not count is unknown.
    :param leader: which of them leads.
    :param conflict: those that claim to lead at the same time, the one that counts first.
    """

    members: tuple[Member, ...] = ()
    leader: Member | None = None
    conflict: tuple[Member, ...] = ()


@define(eq=False)
class Claims:
    """What each node has said of itself when it was last asked, as far as that is still of use.

    The leader is whoever holds the leader key, by what is told of the cluster. That may be out of
    date, or be told by a node that is cut off from the others: a node that leads with a timeline
    that is newer than all that was told of counts for more. An old leader that has not noticed
    yet that it leads no more has an old timeline.
    """

    _said: dict[str, NodeStatus] = field(factory=dict, init=False)

    def hear(self, url: str, status: NodeStatus) -> None:
        """Take what a node says of itself.

        :param url: the node.
        :param status: what it says.
        """
        self._said[url] = status

    def drop(self, url: str) -> None:
        """Forget what a node has said: it says nothing any more.

        :param url: the node.
        """
        self._said.pop(url, None)

    def keep(self, urls: Iterable[str]) -> None:
        """Forget what others than these have said.

        :param urls: the nodes.
        """
        for url in set(self._said).difference(urls):
            del self._said[url]

    def clear(self) -> None:
        """Forget what was said: it was before what was told now."""
        self._said.clear()

    def __bool__(self) -> bool:
        """Whether anybody has said anything."""
        return bool(self._said)

    def verdict(self, picture: Picture) -> Verdict:
        """Return what the cluster is taken for.

        :param picture: what is told of it; where nothing is, the members are who has said
            something.
        """
        members = dict(picture.members)
        if not picture.known:
            members = {member.name: member for member in self._described()}
        claims = {member.name: member for member in self._claims(members)}
        last = _last_timeline(picture)
        for member in members.values():
            if member.leads and member.name != picture.leader and _timeline(member) > last:
                claims.setdefault(member.name, member)
        leader = _leader(picture, members, claims, last)
        for name, member in members.items():
            if member.leads:
                members[name] = evolve(member, role=None)
        if leader is not None:
            members[leader.name] = leader
        conflict: list[Member] = []
        if len(claims) > 1:
            told = {**claims, leader.name: leader} if leader is not None else claims
            conflict = sorted(told.values(), key=_timeline, reverse=True)
            conflict.sort(key=lambda each: leader is None or each.name != leader.name)
        return Verdict(tuple(members[name] for name in sorted(members)), leader, tuple(conflict))

    def _described(self) -> Iterator[Member]:
        for url, status in self._said.items():
            role = "replica" if status.role == "replica" else None
            told = {"role": role, "state": status.state, "timeline": status.timeline}
            if status.name:
                document = {"name": status.name, "api_url": url, "tags": status.tags, **told}
                yield Member.of(document)

    def _claims(self, members: dict[str, Member]) -> Iterator[Member]:
        for url, status in self._said.items():
            role = _LEADING.get(status.role or "")
            # One that runs without the leader key knows it, and refuses what only a leader does.
            unlocked = status.document.get("cluster_unlocked") is True
            if status.name and role and status.state in _RUNNING and not unlocked:
                member = members.get(status.name)
                document = {"api_url": url} if member is None else member.document
                told = {"role": role, "state": status.state, "timeline": status.timeline}
                yield Member.of({**document, "name": status.name, "lag": None, **told})


def _timeline(member: Member) -> int:
    return member.timeline or 0


def _last_timeline(picture: Picture) -> int:
    """Return the newest timeline that the cluster is told to have had."""
    if picture.timeline is not None or not picture.known:
        return picture.timeline or -1
    # A new leader may not have begun its timeline yet.
    timelines = (
        each.timeline or 0
        for name, each in picture.members.items()
        if name == picture.leader or each.role not in _LEADING.values()
    )
    return max(timelines, default=-1)


def _leader(
    picture: Picture, members: dict[str, Member], claims: dict[str, Member], last: int
) -> Member | None:
    newer = [each for each in claims.values() if _timeline(each) > last]
    if newer:
        return max(
            newer, key=lambda each: (_timeline(each), each.name == picture.leader, each.name)
        )
    holder = members.get(picture.leader or "") if picture.locked else None
    if holder is None or holder.leads:
        return holder
    # It has taken the key just now, and has not said yet that it leads.
    standby = any(each.role == "standby_leader" for each in members.values())
    return evolve(holder, role="standby_leader" if standby else "leader")
