"""Who leads is settled by what is told and what the nodes say, whatever that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.event_nodes import event, member, view
from tests.topologycase import status
from twisted_patroni.client.claims import Claims
from twisted_patroni.client.picture import Picture
from twisted_patroni.client.values import NodeStatus

if TYPE_CHECKING:
    from twisted_patroni.client.claims import Verdict

_timelines = st.none() | st.integers(-1, 5) | st.just("x")
_names = st.sampled_from(["a", "b", "c", "d", ""])
_members = st.fixed_dictionaries(
    {
        "name": _names,
        "role": st.sampled_from(["leader", "standby_leader", "replica", "sync_standby", None, 7]),
        "timeline": _timelines,
    }
)
_statuses = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["primary", "master", "standby_leader", "replica", None]),
        "state": st.sampled_from(["running", "streaming", "stopping", None]),
        "timeline": _timelines,
        "cluster_unlocked": st.booleans(),
        "patroni": st.fixed_dictionaries({"name": _names, "scope": st.just("demo")}),
    }
)
_views = st.fixed_dictionaries(
    {
        "leader": st.none() | _names,
        "timeline": _timelines,
        "locked": st.booleans(),
        "members": st.lists(_members, max_size=4),
    }
)


def picture(*members: dict[str, Any], **changes: Any) -> Picture:
    """Return the picture that a snapshot makes."""
    return Picture().after(event("snapshot", view(*members, **changes)))


def verdict(told: Picture, *documents: dict[str, Any]) -> Verdict:
    """Return what a cluster is taken for, of which this is told, and whose nodes say this."""
    claims = Claims()
    for number, document in enumerate(documents):
        claims.hear(f"http://{number}:8008", NodeStatus.of(document))
    return claims.verdict(told)


class VerdictTests(SynchronousTestCase):
    """What a cluster is taken for."""

    def assertLeader(self, found: Verdict, leader: str | None, *conflict: str) -> None:
        """Fail unless that one leads, and those contradict each other."""
        name = None if found.leader is None else found.leader.name
        self.assertEqual((name, [each.name for each in found.conflict]), (leader, [*conflict]))

    def test_key(self) -> None:
        """Who holds the leader key leads."""
        self.assertLeader(verdict(picture()), "a")
        self.assertLeader(verdict(picture(locked=False)), None)
        self.assertLeader(verdict(picture(leader="x")), None)

    def test_old_leader(self) -> None:
        """One that leads with an old timeline does not count against the holder of the key."""
        told = picture(leader="b", timeline=None)
        self.assertLeader(verdict(told, status("a", "primary", 3), status("b")), "b")
        self.assertLeader(verdict(picture(locked=False), status("a", "primary", 3)), None)

    def test_promoted(self) -> None:
        """One that leads with a new timeline does, before anybody has told of it."""
        found = verdict(picture(), status("a"), status("b", "primary", 4))
        self.assertLeader(found, "b")
        assert found.leader is not None
        self.assertEqual((found.leader.timeline, found.leader.host), (4, "127.0.0.1"))

    def test_equal_timelines(self) -> None:
        """Of two with the same new timeline it is the holder of the key."""
        for holder, other in ("ab", "ba"):
            told = picture(leader=holder)
            says = (status("a", "primary", 4), status("b", "primary", 4))
            self.assertLeader(verdict(told, *says), holder, holder, other)

    def test_two_in_one_document(self) -> None:
        """Two leaders in what is told are a contradiction if the second one is newer."""
        told = picture(member("a", "leader"), member("b", "leader", timeline=5))
        self.assertLeader(verdict(told), "b")
        self.assertLeader(verdict(told, status("a", "primary", 3)), "b", "b", "a")

    def test_nothing_is_told(self) -> None:
        """Where nothing is told of the cluster, its members are who says something."""
        found = verdict(Picture(), status("a", "primary"), status("b"))
        self.assertLeader(found, "a")
        self.assertEqual([each.role for each in found.members], ["leader", "replica"])
        self.assertLeader(verdict(Picture(), status("a", "primary", cluster_unlocked=True)), None)

    @settings(derandomize=True, database=None, deadline=None)
    @given(_views, st.lists(_statuses, max_size=4), st.booleans())
    def test_whatever_is_told(
        self, told: dict[str, Any], says: list[dict[str, Any]], known: bool
    ) -> None:
        """One member at most leads, and it comes first of those that contradict each other."""
        found = verdict(picture(**told) if known else Picture(), *says)
        leading = [each for each in found.members if each.leads]
        self.assertEqual(leading, [] if found.leader is None else [found.leader])
        names = [each.name for each in found.members]
        self.assertEqual(names, sorted(set(names)))
        self.assertNotEqual(len(found.conflict), 1)
        if found.conflict and found.leader is not None:
            self.assertEqual(found.conflict[0], found.leader)
