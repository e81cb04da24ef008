"""Who the members of a cluster are and who leads it, kept up to date by what its nodes tell."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredSemaphore
from twisted.logger import Logger

from twisted_patroni.client.asking import Asker, base_url
from twisted_patroni.client.errors import ClientError, Refused
from twisted_patroni.client.following import Follower
from twisted_patroni.client.node import Node
from twisted_patroni.client.picture import Picture
from twisted_patroni.client.pool import Pool, PoolClosed
from twisted_patroni.client.values import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure
    from twisted.web.iweb import IAgent

    from twisted_patroni.client.settings import ClientSettings
    from twisted_patroni.client.values import NodeStatus

#: Seconds between two looks at all members, however many ask for them.
LOOK_PAUSE = 0.25
#: Seconds that a member may take to say what it is.
LOOK_TIME = 3.0
#: Members that are looked at at the same time.
LOOK_WIDTH = 16

_TYPES = frozenset({"leader", "member", "cluster"})
_PRIMARY = frozenset({"primary", "master", "standby_leader"})

_T = TypeVar("_T")


def _seed_urls(seeds: Sequence[str]) -> tuple[str, ...]:
    urls = tuple(dict.fromkeys(map(base_url, seeds)))
    if not urls:
        raise ValueError("seeds: at least one URL of a node is needed")
    return urls


@define(eq=False)
class Topology:
    """What is known of a cluster: its members, its leader, and which nodes could not be asked.

    :param reactor: the reactor.
    :param seeds: URLs of nodes; one is enough, the others are learned from it.
    :param settings: who asks, and how long an answer may take.
    :param agent: does the requests.
    :param random: a number from 0 to 1, a new one for each call.
    :ivar members: the members as last known, by name; none before.
    :ivar leader: who leads; ``None`` while nobody does.
    :ivar conflict: those that claim to lead at the same time, the one that counts first.
    """

    reactor: Any
    seeds: Sequence[str] = field(converter=_seed_urls)
    settings: ClientSettings
    agent: IAgent
    random: Callable[[], float]
    members: tuple[Member, ...] = field(default=(), init=False)
    leader: Member | None = field(default=None, init=False)
    conflict: tuple[Member, ...] = field(default=(), init=False)
    _picture: Picture = field(factory=Picture, init=False)
    _claims: dict[str, Member] = field(factory=dict, init=False)
    _unheard: dict[str, ClientError] = field(factory=dict, init=False)
    _unseen: dict[str, ClientError] = field(factory=dict, init=False)
    _listeners: list[Callable[[], None]] = field(factory=list, init=False)
    _waiting: set[Deferred[Any]] = field(factory=set, init=False)
    _looking: dict[str, Deferred[None]] = field(factory=dict, init=False)
    _places: DeferredSemaphore = field(factory=partial(DeferredSemaphore, LOOK_WIDTH), init=False)
    _last_look: float | None = field(default=None, init=False)
    _next_look: IDelayedCall | None = field(default=None, init=False)
    _follower: Follower | None = field(default=None, init=False)
    _following: Deferred[None] | None = field(default=None, init=False)
    _started: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)
    _log = Logger()

    def start(self) -> None:
        """Begin to find out, and to follow what happens; once is enough."""
        if self._started or self._closed:
            return
        self._started = True
        self._look()

    def close(self) -> Deferred[None]:
        """End it; who waits is told with a :class:`PoolClosed`.

        :return: fires when nothing is on its way any more.
        """
        self._closed = True
        if self._next_look is not None and self._next_look.active():
            self._next_look.cancel()
        for waiting in tuple(self._waiting):
            waiting.errback(PoolClosed("the cluster is not followed any more"))
        tasks = [*self._looking.values()]
        if self._following is not None:
            tasks.append(self._following)
        for task in tasks:
            task.cancel()
        ended: Deferred[Any] = DeferredList(tasks, consumeErrors=True)
        return ended.addCallback(lambda _: None)

    @property
    def known(self) -> bool:
        """Whether it has been learned who the members are."""
        return self._picture.known

    @property
    def failures(self) -> Mapping[str, ClientError]:
        """Why a node could not be asked when it was last tried, by its URL."""
        return {**self._unheard, **self._unseen}

    def changed(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have a function called after each change of members or leader.

        :param callback: the function.
        :return: ends it.
        """
        self._listeners.append(callback)

        def stop() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return stop

    def doubt(self, url: str) -> None:
        """Look at all known nodes: one does not answer as what it is taken for.

        However often this is called, there are four looks in a second at most.

        :param url: the node.
        """
        if self._closed or (self._next_look is not None and self._next_look.active()):
            return
        last = self._last_look
        pause = 0.0 if last is None else last + LOOK_PAUSE - self.reactor.seconds()
        if pause <= 0:
            self._look()
        else:
            self._next_look = self.reactor.callLater(pause, self._look)

    async def until(self, look: Callable[[], _T | None], timeout: float) -> _T:
        """Return what a function returns, as soon as that is true.

        :param look: the function: it is called at once, and after each change.
        :param timeout: seconds to wait.
        :raise TimeoutError: of :mod:`twisted.internet.defer`, if it took longer.
        :raise PoolClosed: if this is closed.
        """
        found = look()
        if found:
            return found
        if self._closed:
            raise PoolClosed("the cluster is not followed any more")
        waiting: Deferred[_T] = Deferred()

        def check() -> None:
            try:
                found = look()
            except Exception:
                waiting.errback()
            else:
                if found:
                    waiting.callback(found)

        def checked() -> None:
            if not waiting.called:
                check()

        stop = self.changed(checked)
        self._waiting.add(waiting)
        try:
            return await waiting.addTimeout(max(0.0, timeout), self.reactor)
        finally:
            self._waiting.discard(waiting)
            stop()

    # What the nodes tell (following.Listener)

    def connected(self, url: str, polling: bool) -> None:
        """Know which node tells."""
        self._unheard.pop(url, None)

    def disconnected(self, url: str, reason: str) -> None:
        """Know that it does no more."""
        self._unheard[url] = ClientError(f"{url} {reason}")
        self.doubt(url)

    def failed(self, url: str, reason: str) -> None:
        """Know that a node cannot be followed."""
        self._unheard[url] = ClientError(f"{url} {reason}")

    def received(self, event: Mapping[str, Any]) -> None:
        """Take an event or a snapshot."""
        before = self._picture
        self._picture = before.after(event)
        if (before.leader, before.locked) != (self._picture.leader, self._picture.locked):
            self._claims.clear()
        self._refold()

    def _follow(self, first: str | None = None) -> None:
        """Begin to follow, with a node that is known to answer."""
        if self._follower is not None:
            return
        seeds = sorted(self.seeds, key=lambda url: url != first)
        asker = Asker(self.reactor, self.agent, self.settings.login)
        self._follower = Follower(self.reactor, asker, seeds, self, self.random, _TYPES)
        self._following = Deferred.fromCoroutine(self._follower.run())
        self._following.addErrback(self._ended)

    def _ended(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("The cluster cannot be followed any more", failure)

    # What the nodes say of themselves

    def _urls(self) -> Sequence[str]:
        return self.seeds if self._follower is None else tuple(self._follower.known())

    def _look(self) -> None:
        """Ask all nodes what they are, except for those that were asked and have not answered."""
        self._last_look = self.reactor.seconds()
        for url in self._urls():
            if url not in self._looking:
                looking = self._places.run(self._ask, url)
                self._looking[url] = looking
                looking.addBoth(self._asked, url)

    def _asked(self, result: object, url: str) -> None:
        self._looking.pop(url, None)
        if not self._closed and not self._looking:
            self._follow()

    def _ask(self, url: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._ask_it(url))

    async def _ask_it(self, url: str) -> None:
        settings = evolve(self.settings, timeout=min(LOOK_TIME, self.settings.timeout))
        leader = self._picture.leader
        try:
            status = await Node(Pool(self.reactor, url, settings, self.agent)).status()
        except ClientError as error:
            self._unseen[url] = error
            self._claims.pop(url, None)
            answers = isinstance(error, Refused)
        else:
            answers = True
            self._unseen.pop(url, None)
            self._take(url, status, leader)
        if answers:
            self._follow(url)
        self._refold()

    def _take(self, url: str, status: NodeStatus, leader: str | None) -> None:
        """Take note of what a node says of itself."""
        claims = status.role in _PRIMARY and status.state == "running" and status.name
        if not claims or leader != self._picture.leader:  # it may be what was before
            self._claims.pop(url, None)
            return
        role = "standby_leader" if status.role == "standby_leader" else "leader"
        known = self._picture.members.get(status.name or "")
        document = {"api_url": url} if known is None else known.document
        told = {"name": status.name, "role": role, "state": "running", "timeline": status.timeline}
        self._claims[url] = Member.of({**document, **told})

    # What comes of it

    def _refold(self) -> None:
        if self._closed:
            return
        members = {name: Member.of(each.document) for name, each in self._picture.members.items()}
        holder = members.get(self._picture.leader or "") if self._picture.locked else None
        claims = {each.name: each for each in self._claims.values()}
        leader = self._winner(holder, claims)
        for name, member in members.items():
            if member.leads and (leader is None or name != leader.name):
                members[name] = evolve(member, role=None)
        if leader is not None:
            members[leader.name] = leader
        found = tuple(members[name] for name in sorted(members))
        if (found, leader) != (self.members, self.leader):
            self.members, self.leader = found, leader
            self._tell()

    def _winner(self, holder: Member | None, claims: Mapping[str, Member]) -> Member | None:
        """Return who leads: of those who claim to, the one with the highest timeline."""
        last = max(
            self._picture.timeline or 0,
            *(each.timeline or 0 for each in self._picture.members.values()),
            0,
        )
        newer = [each for each in claims.values() if (each.timeline or 0) > last]
        if newer:
            return max(newer, key=lambda each: (each.timeline or 0, each.name))
        if holder is None or holder.leads:
            return holder
        return evolve(holder, role="leader")

    def _tell(self) -> None:
        for callback in tuple(self._listeners):
            try:
                callback()
            except Exception:
                self._log.failure("Who was told of a change of the cluster has failed")
