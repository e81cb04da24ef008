"""The cluster in memory itself, and what can happen to its members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock

from twisted_patroni.client.node import Node
from twisted_patroni.client.pool import Pool
from twisted_patroni.client.replicas import Replicas
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.testing.events import changes
from twisted_patroni.client.testing.network import MemoryNetwork
from twisted_patroni.client.testing.nodes import LSN, MemoryNode, Shared, moment
from twisted_patroni.client.testing.orders import Orders
from twisted_patroni.client.testing.pages import Pages

if TYPE_CHECKING:
    from collections.abc import Sequence

#: When the clock of a cluster begins: in September 2026.
BEGIN = 1_790_000_000


class MemoryCluster(MemoryNetwork):
    """A cluster in memory: each of its members speaks the REST API, as far as clients use it.

    It is an agent (:class:`twisted.web.iweb.IAgent`) to give to
    :class:`~twisted_patroni.client.Pool` or :class:`~twisted_patroni.client.Replicas`, which is
    what :meth:`node` and :meth:`replicas` do. Answers and events come at once, in the call that
    has caused them; nothing else happens but by :attr:`clock`. What is scheduled is shown, and can
    be called off; that its time has come is for the test to say, by :meth:`switchover`.

    :param members: the members' names.
    :param leader: who leads; ``None`` for nobody.
    :param scope: the cluster's name.
    :param events: the members tell events, and have operations; without it they are as those of
        upstream's daemon.
    :param clock: for all waiting; by default one of its own, which several clusters can share.
    :param scheme: ``http``, or ``https`` in the URLs alone.
    :ivar asked: method and URL of each request, in order.
    :ivar clock: the clock.

    >>> (await memory.node("b").status()).role
    'replica'
    >>> memory.switchover("b")
    >>> (await memory.node("b").status()).role
    'primary'
    """

    def __init__(
        self,
        members: Sequence[str] = ("a", "b", "c"),
        leader: str | None = "a",
        scope: str = "demo",
        *,
        events: bool = True,
        clock: Clock | None = None,
        scheme: str = "http",
    ) -> None:
        if not members or len(set(members)) < len(members):
            raise ValueError("members: expected at least one name, and each of them once")
        if clock is None:
            clock = Clock()
            clock.advance(BEGIN)
        nodes = {
            name: MemoryNode(name, f"{scheme}://{name}:8008", number)
            for number, name in enumerate(members, 1)
        }
        self._shared = Shared(clock, scope, nodes, leader)
        self._orders = Orders(self._shared, events, self._lead, self._changed)
        super().__init__(clock, nodes, Pages(self._shared, self._orders))
        if leader is not None:
            self._named(leader)
        self._clients: list[Node | Replicas] = []
        self._changed()

    # To be asked by

    @property
    def urls(self) -> list[str]:
        """The URLs of all members' APIs.

        >>> memory.urls
        ['http://a:8008', 'http://b:8008', 'http://c:8008']
        """
        return [node.url for node in self._nodes.values()]

    @property
    def leader(self) -> str | None:
        """Who leads, ``None`` while nobody does.

        >>> memory.leader
        'a'
        """
        return self._shared.leader

    def url(self, name: str) -> str:
        """Return the URL of a member's API.

        :param name: the member's name.

        >>> memory.url("b")
        'http://b:8008'
        """
        return self._named(name).url

    def node(self, name: str, settings: ClientSettings | None = None) -> Node:
        """Return a client of one member.

        :param name: the member's name.
        :param settings: how to speak to it.

        >>> await memory.node("a").is_primary()
        True
        """
        node = Node(Pool(self.clock, self.url(name), settings or ClientSettings(), self))
        self._clients.append(node)
        return node

    def replicas(self, settings: ClientSettings | None = None) -> Replicas:
        """Return a client of the whole cluster, whose random numbers are all the same.

        :param settings: how to speak to the members.

        >>> async with memory.replicas() as cluster:
        ...     [member.name for member in cluster.members]
        ['a', 'b', 'c']
        """
        chosen = settings or ClientSettings()
        cluster = Replicas(self.clock, self.urls, chosen, agent=self, random=lambda: 0.5)
        self._clients.append(cluster)
        return cluster

    async def close(self) -> None:
        """Close all clients that :meth:`node` and :meth:`replicas` have returned.

        >>> _ = await memory.replicas().get("/health")
        >>> memory.open
        1
        >>> await memory.close()
        >>> memory.open
        0
        """
        while self._clients:
            client = self._clients.pop()
            closing = client.close()
            await closing

    # What can happen

    def switchover(self, to: str) -> None:
        """Have a member lead, at once, and on a new timeline.

        :param to: the member's name. Who has led before is a replica then, if it is alive. A
            switchover that was scheduled has happened, or failed if it was to another member.

        >>> memory.switchover("c")
        >>> (await memory.node("a").cluster()).leader.name
        'c'
        """
        self._lead(to, "no recovery target specified")

    def demote(self) -> None:
        """Have nobody lead, until the next :meth:`switchover`.

        >>> memory.demote()
        >>> await memory.node("a").is_primary()
        False
        """
        self._shared.leader = None
        self._changed()

    def kill(self, name: str, *, noticed: bool = True) -> None:
        """End a member without a word: it refuses connections, and its connections are lost.

        :param name: the member's name.
        :param noticed: the others know of it, and a leader leads no more; without it they show it
            as it was, until the next :meth:`switchover`.

        >>> memory.kill("a")
        >>> await memory.node("a").status()
        Traceback (most recent call last):
        twisted_patroni.client.errors.Unreachable: http://a:8008/patroni refuses connections
        """
        node = self._named(name)
        node.alive = False
        self.cut(name)
        if noticed:
            self._forget(node)
        self._changed()

    def revive(self, name: str) -> None:
        """Let a member be well again, whatever was the matter with it.

        One that was killed comes back as a replica, and remembers neither events nor operations.
        One that answered nobody goes on with what it was asked meanwhile.

        :param name: the member's name.

        >>> memory.kill("b")
        >>> memory.revive("b")
        >>> await memory.node("b").is_replica()
        True
        """
        node = self._named(name)
        if not node.alive:
            node.runs += 1
            node.begin()
        node.alive = node.listed = True
        node.refusal, node.claimed, node.delay = None, None, 0.0
        node.hung.clear()
        node.canned.clear()
        self._changed()
        for flight in self._flights_to(node):
            self._arrive(flight)

    def lag(self, name: str, lag: int | None) -> None:
        """Let a replica be behind the leader.

        :param name: the member's name.
        :param lag: how many bytes; ``None`` if that is not known.

        >>> memory.lag("b", 4096)
        >>> await memory.node("b").is_replica(lag="1kB")
        False
        """
        self._named(name).lag = lag
        self._changed()

    def tag(self, name: str, **tags: Any) -> None:
        """Give a member tags, and no others.

        :param name: the member's name.
        :param tags: the tags.

        >>> memory.tag("b", noloadbalance=True)
        >>> await memory.node("b").is_replica()
        False
        """
        self._named(name).tags = tags
        self._changed()

    def sync(self, *names: str) -> None:
        """Make these members synchronous standbys, and no others.

        :param names: the members' names.

        >>> memory.sync("b")
        >>> await memory.node("b").is_synchronous()
        True
        """
        chosen = [self._named(name) for name in names]
        for node in self._nodes.values():
            node.sync = node in chosen
        self._changed()

    def state(self, name: str, state: str | None) -> None:
        """Let a member's PostgreSQL be in some state.

        :param name: the member's name.
        :param state: as in ``GET /cluster``; ``None`` for the one of a healthy member.

        >>> memory.state("b", "starting")
        >>> await memory.node("b").is_healthy()
        False
        """
        self._named(name).state = state
        self._changed()

    def claim(self, name: str, timeline: int | None) -> None:
        """Let a member believe that it leads, whatever the others know.

        :param name: the member's name.
        :param timeline: its timeline; ``None`` if it believes so no more.

        >>> memory.claim("b", 9)
        >>> status = await memory.node("b").status()
        >>> status.role, status.timeline
        ('primary', 9)
        """
        self._named(name).claimed = timeline
        self._changed()

    def _forget(self, node: MemoryNode) -> None:
        node.listed = node.sync = False
        if self._shared.leader == node.name:
            self._shared.leader = None

    def _lead(self, to: str, reason: str) -> None:
        node, shared = self._named(to), self._shared
        if not node.alive:
            raise ValueError(f"{to!r} was killed, and cannot lead")
        for each in self._nodes.values():
            if not each.alive:
                self._forget(each)
        if shared.leader == to:
            return
        self._orders.led_by(to)
        shared.leader, shared.switchover, node.lag, node.sync = to, None, 0, False
        shared.promoting = True
        self._changed()
        now = moment(shared.clock.seconds())
        shared.history.append([shared.timeline, LSN, reason, now, to])
        shared.timeline += 1
        shared.promoting = False
        self._changed()

    def _changed(self) -> None:
        """Tell those who follow what is different now."""
        now = self.clock.seconds()
        for node in self._nodes.values():
            picture = self._shared.picture(node)
            for kind, data in () if node.told is None else changes(node.told, picture):
                if node.alive:
                    node.note(kind, data, now)
            node.told = picture
        for node in self._nodes.values():
            for subscriber in list(node.subscribers):
                subscriber.flush()
        self._look_again()
