"""Who could take the leader's role over, and what is the matter with those who could not. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted_patroni.engine.interface import Candidate, ClusterView, MemberView
    from twisted_patroni.operations.validation import FailoverRequest


def candidates(cluster: ClusterView, request: FailoverRequest) -> tuple[str, ...] | str:
    """Name the members worth asking whether they could take over.

    :param cluster: as the DCS has it.
    :param request: what is asked for.
    :return: their names, or the sentence that says why there can be none.
    """
    action, mode = request.action, cluster.mode
    by_sync_key = mode.synchronous and not mode.quorum
    if request.leader and cluster.leader != request.leader:
        return "leader name does not match"
    if request.candidate:
        listed = request.candidate.lower() in cluster.sync_members
        if action == "switchover" and by_sync_key and not listed:
            return "candidate name does not match with sync_standby"
        if all(member.name != request.candidate for member in cluster.members):
            return "candidate does not exists"
        return (request.candidate,)
    if by_sync_key:
        names = [m.name for m in cluster.members if m.name.lower() in cluster.sync_members]
        return tuple(names) or f"{action} is not possible: can not find sync_standby"
    names = [
        member.name
        for member in cluster.members
        if cluster.leader is None or (member.name != cluster.leader and member.api_url)
    ]
    return tuple(names) or (
        f"{action} is not possible: cluster does not have members except leader"
    )


def worth_asking(cluster: ClusterView) -> tuple[str, ...]:
    """Name the members whose own word decides whether they are eligible.

    :param cluster: as the DCS has it.
    """
    return tuple(
        member.name
        for member in cluster.members
        if member.name != cluster.leader and member.api_url
    )


def assessed(
    cluster: ClusterView, request: FailoverRequest, answers: Iterable[Candidate]
) -> list[dict[str, Any]]:
    """Tell of each member whether it could take over, and if not, why not.

    :param cluster: as the DCS has it.
    :param request: what is asked for; a candidate that is nobody is told of, too.
    :param answers: what the members answered.
    :return: documents with ``name``, ``eligible`` and ``reason``.
    """
    limitations = {answer.name: answer.limitation for answer in answers}
    found = []
    for member in cluster.members:
        if member.name != cluster.leader or member.name == request.candidate:
            reason = _reason(cluster, request, member, limitations)
            found.append({"name": member.name, "eligible": reason is None, "reason": reason})
    named = request.candidate
    if named is not None and all(member.name != named for member in cluster.members):
        found.append({"name": named, "eligible": False, "reason": "not a member of the cluster"})
    return found


def _reason(
    cluster: ClusterView,
    request: FailoverRequest,
    member: MemberView,
    limitations: dict[str, str | None],
) -> str | None:
    if member.name == cluster.leader:
        return "is the leader"
    mode = cluster.mode
    by_sync_key = mode.synchronous and not mode.quorum
    anybody = request.action == "switchover" or request.candidate is None
    if by_sync_key and anybody and member.name.lower() not in cluster.sync_members:
        return "not a synchronous standby (sync_standby)"
    if not member.api_url:
        return "has not published the address of its REST API"
    return limitations.get(member.name)
