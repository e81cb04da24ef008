"""Who the members of a cluster are and who leads it, kept up to date by what its nodes tell."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_patroni.client.asking import Asker
from twisted_patroni.client.claims import Claims, Verdict
from twisted_patroni.client.errors import (
    ClientError,
    ClusterUnknown,
    Disconnected,
    Refused,
    Unreachable,
)
from twisted_patroni.client.following import Follower
from twisted_patroni.client.listeners import Changes
from twisted_patroni.client.looking import Looks
from twisted_patroni.client.node import Node
from twisted_patroni.client.picture import Picture
from twisted_patroni.client.pool import Pool
from twisted_patroni.client.racing import Race
from twisted_patroni.client.reasons import NoAnswer
from twisted_patroni.client.urls import seed_urls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from twisted.internet.interfaces import IDelayedCall
    from twisted.web.iweb import IAgent

    from twisted_patroni.client.settings import ClientSettings
    from twisted_patroni.client.values import Cluster, Member, NodeStatus

#: Seconds that the seeds have at the start to contradict the first one that tells.
SETTLE = 0.5
#: Seconds between two looks at all members while somebody waits, or they contradict each other.
SOON = 2.0
#: Seconds between them while there is no node with events that reaches the DCS.
SELDOM = 10.0
#: Seconds until one node more is asked how far the members are behind.
STAGGER = 0.2

_TYPES = frozenset({"leader", "member", "cluster"})

_T = TypeVar("_T")


@define(eq=False)
class Topology:
    """What is known of a cluster: its members, its leader, and which nodes could not be asked.

    It is told by one node what happens. Besides, it looks at all nodes, to see whether they agree:
    at the start, when somebody has a doubt, and now and then while no node has events, the one that
    tells does not reach the DCS, or somebody waits for something.

    :param reactor: the reactor.
    :param seeds: URLs of nodes; one is enough, the others are learned from it.
    :param settings: who asks, and how long an answer may take.
    :param agent: does the requests.
    :param random: a number from 0 to 1, a new one for each call.
    :ivar known: it has been learned who the members are.
    """

    reactor: Any
    seeds: Sequence[str] = field(converter=seed_urls)
    settings: ClientSettings
    agent: IAgent
    random: Callable[[], float]
    known: bool = field(default=False, init=False)
    _verdict: Verdict = field(factory=Verdict, init=False)
    _picture: Picture = field(factory=Picture, init=False)
    _claims: Claims = field(factory=Claims, init=False)
    _scope: str | None = field(default=None, init=False)
    _unheard: dict[str, ClientError] = field(factory=dict, init=False)
    _unseen: dict[str, ClientError] = field(factory=dict, init=False)
    _looks: Looks = field(init=False)
    _follower: Follower | None = field(default=None, init=False)
    _following: Deferred[None] | None = field(default=None, init=False)
    _source: tuple[str, bool] | None = field(default=None, init=False)
    _refreshed: float | None = field(default=None, init=False)
    _refreshing: Deferred[None] | None = field(default=None, init=False)
    _settling: IDelayedCall | None = field(default=None, init=False)
    _settled: bool = field(default=False, init=False)
    _changes: Changes = field(init=False)
    _closed: bool = field(default=False, init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._changes = Changes(self.reactor, "the cluster is not followed any more")
        self._looks = Looks(self.reactor, self.agent, self.settings, self)

    def start(self) -> None:
        """Begin to find out, and to follow what happens; once is enough."""
        if self._settling is None and not self._closed:
            self._settling = self.reactor.callLater(SETTLE, self._settle)
            self._looks.within(0)

    def close(self) -> Deferred[None]:
        """End it; who waits is told so with a :class:`PoolClosed`.

        :return: fires when nothing is on its way any more.
        """
        self._closed = True
        if self._settling is not None and self._settling.active():
            self._settling.cancel()
        self._changes.close()
        ending = self._looks.close()
        for each in (self._following, self._refreshing):
            if each is not None:
                each.cancel()
                ending.append(each)
        if self._follower is not None:
            ending.append(self._follower.gone())
        ended: Deferred[Any] = DeferredList(ending, consumeErrors=True)
        return ended.addCallback(lambda _: None)

    @property
    def members(self) -> tuple[Member, ...]:
        """The members as last known, by name; none before that."""
        return self._verdict.members

    @property
    def leader(self) -> Member | None:
        """Who leads, ``None`` while nobody does."""
        return self._verdict.leader

    @property
    def conflict(self) -> tuple[Member, ...]:
        """Those that claim to lead at the same time, the one that counts first; usually none."""
        return self._verdict.conflict

    @property
    def failures(self) -> Mapping[str, ClientError]:
        """Why a node could not be asked when it was last tried, by its URL."""
        return dict(self._unseen) if self.known else {**self._unheard, **self._unseen}

    def changed(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have a function called after each change of members or leader.

        :param callback: the function; what it fails with is logged.
        :return: ends it.
        """
        return self._changes.listen(callback)

    def doubt(self) -> None:
        """Look at all known nodes: one does not answer as what it is taken for.

        However often this is called, there are four looks in a second at most.
        """
        self._looks.within(0)

    async def until(self, look: Callable[[], _T | None], timeout: float) -> _T:
        """Return what a function returns, as soon as that is true.

        :param look: the function: it is called at once, and after each change.
        :param timeout: seconds to wait.
        :raise TimeoutError: of :mod:`twisted.internet.defer`, if it took longer.
        :raise PoolClosed: if this is closed.
        """
        waiting = self._changes.until(look, timeout)
        if self._changes.awaited:
            self._plan()
        return await waiting

    async def until_known(self, timeout: float) -> None:
        """Begin to find out who the members are, and wait until that is known.

        :param timeout: seconds to wait.
        :raise ClusterUnknown: if it took longer; it says of each seed why.
        """
        self.start()
        try:
            await self.until(lambda: self.known, timeout)
        except DeferredTimeout:
            silent = {url: Unreachable(url, "does not answer") for url in self.seeds}
            raise ClusterUnknown({**silent, **self.failures}) from None

    async def refresh(self, age: float = 1.0) -> None:
        """Learn how far the members are behind: no event tells of that, it may be out of date.

        What cannot be learned is unknown from then on.

        :param age: seconds that what is known may be old.
        """
        now = self.reactor.seconds()
        fresh = self._refreshed is not None and now - self._refreshed <= age
        if self._closed or fresh or not self._picture.known:
            return
        if self._refreshing is None:
            self._refreshing = Deferred.fromCoroutine(self._refresh())
            self._refreshing.addBoth(self._no_refresh)
        if self._refreshing is not None:
            told: Deferred[None] = Deferred()
            self._refreshing.addBoth(lambda _: None if told.called else told.callback(None))
            await told

    async def _refresh(self) -> None:
        documents: list[Mapping[str, Any]] = [{"name": name} for name in self._picture.members]
        # The node that tells comes first; if it is frozen, it takes a while until that is noticed.
        source = None if self._source is None else self._source[0]
        urls = sorted(self.urls(), key=lambda url: (url != source, url in self._unseen))
        cluster = await Race(
            self.reactor, STAGGER, [partial(self._view, url) for url in urls]
        ).run()
        if cluster is None:
            self._log.debug("How far the members are behind cannot be learned")
        else:
            documents += [each.document for each in cluster.members]
        self._refreshed = self.reactor.seconds()
        self._picture = self._picture.with_lags(documents)
        self._refold()

    async def _view(self, url: str) -> Cluster:
        cluster = await Node(Pool(self.reactor, url, self._looks.settings, self.agent)).cluster()
        try:
            self._join(cluster.scope)
        except NoAnswer as error:
            raise Disconnected(url, str(error)) from None
        return cluster

    def _no_refresh(self, result: object) -> None:
        self._refreshing = None
        if isinstance(result, Failure) and not self._closed:
            self._log.failure("How far the members are behind could not be taken", result)

    # What one node tells of the cluster (following.Listener)

    def connected(self, url: str, polling: bool) -> None:
        """Know which node tells."""
        self._log.debug("{url} tells of the cluster", url=url, polling=polling)
        self._source = (url, polling)
        self._unheard.pop(url, None)

    def disconnected(self, url: str, reason: str) -> None:
        """Know that it does no more."""
        self._log.debug("{url} {reason}", url=url, reason=reason)
        if self._source is not None and self._source[0] == url:
            self._source = None
        self._unheard[url] = Disconnected(url, reason)
        self.doubt()
        self._go_on()

    def failed(self, url: str, reason: str) -> None:
        """Know that a node does not tell."""
        self._unheard[url] = Disconnected(url, reason)
        if not self.known:
            self._refold()
        self._go_on()

    def received(self, event: Mapping[str, Any]) -> None:
        """Take an event or a snapshot."""
        old, new = self._picture, self._picture.after(event)
        self._join(new.scope)
        self._picture = new
        if event.get("type") == "snapshot":
            self._refreshed = self.reactor.seconds()
        if (old.known, old.leader, old.locked) != (new.known, new.leader, new.locked):
            # What the nodes have said of themselves may have been before. Whether they agree with
            # what is told now, and nobody else leads any more, is to be seen.
            if old.known:
                self._claims.clear()
                self._looks.forget()
            self._looks.within(0 if self.conflict or event.get("type") == "snapshot" else SOON)
        self._refold()
        self._go_on()

    def _go_on(self) -> None:
        """End the follower if who was told has closed this: it was running, and not cancelled."""
        if self._closed:
            raise CancelledError

    def _join(self, scope: str | None) -> None:
        """See to it that all that is told is told of the same cluster.

        :raise NoAnswer: if this is another one.
        """
        self._scope = self._scope or scope
        if scope and scope != self._scope:
            raise NoAnswer(f"is a node of the cluster {scope!r}, not of {self._scope!r}")

    def _follow(self, first: str | None = None) -> None:
        """Begin to follow, with a node that is known to answer if there is one."""
        if self._follower is not None or self._closed:
            return
        seeds = sorted(self.seeds, key=lambda url: url != first)
        asker = Asker(self.reactor, self.agent, self.settings.login)
        self._follower = Follower(
            self.reactor, asker, seeds, self, self.random, _TYPES, avoided=self._unseen
        )
        self._following = Deferred.fromCoroutine(self._follower.run())
        self._following.addErrback(self._ended)

    def _ended(self, failure: Failure) -> None:
        if not (self._closed and failure.check(CancelledError)):
            self._log.failure("What a node has told could not be taken", failure)
            self._follower = self._source = None  # the next one that answers is followed

    # What the nodes say of themselves (looking.Onlooker)

    def urls(self) -> Iterable[str]:
        """Return the nodes that are known."""
        return self.seeds if self._follower is None else self._follower.known()

    def heard(self, url: str, result: NodeStatus | ClientError) -> None:
        """Take what a node says of itself."""
        if not isinstance(result, ClientError):
            try:
                self._join(result.scope)
            except NoAnswer as error:
                result = Disconnected(url, str(error))
        if isinstance(result, ClientError):
            self._unseen[url] = result
            self._claims.drop(url)
        else:
            self._unseen.pop(url, None)
            self._claims.hear(url, result)
        if not isinstance(result, ClientError) or isinstance(result, Refused):
            self._follow(url)
            if self._follower is not None and (self._source is None or self._source[1]):
                self._follower.hurry()
        elif self._follower is not None:
            self._follower.leave(url, getattr(result, "reason", "does not answer"))
        self._refold()

    def looked(self) -> None:
        """Know that all have answered, or will not."""
        self._follow()
        urls = set(self.urls())
        self._claims.keep(urls)
        for failures in (self._unseen, self._unheard):
            for url in set(failures) - urls:
                del failures[url]
        self._settle()

    # What comes of it

    def _settle(self) -> None:
        self._settled = True
        if self._settling is not None and self._settling.active():
            self._settling.cancel()
        self._refold()

    def _refold(self) -> None:
        if self._closed:
            return
        if self._settled and (self.known or self._picture.known or self._makeshift):
            before = (self._verdict, self.known)
            self._verdict, self.known = self._claims.verdict(self._picture), True
            if {each.name for each in before[0].conflict} != {each.name for each in self.conflict}:
                self._report()
            if before != (self._verdict, self.known):
                self._changes.tell()
        self._plan()

    @property
    def _makeshift(self) -> bool:
        """Whether nobody tells of the cluster, and what the nodes say of themselves has to do."""
        told = self._source is None and all(url in self._unheard for url in self.urls())
        return told and bool(self._claims)

    def _report(self) -> None:
        if self.conflict:
            self._log.warn(
                "{members} claim to lead {scope} at the same time: {leader} is taken for the"
                " leader, its timeline is the newest",
                members=" and ".join(f"{each.name} ({each.timeline})" for each in self.conflict),
                scope=self._scope,
                leader=self.conflict[0].name,
            )

    def _plan(self) -> None:
        """Have the nodes looked at again, if there is a reason to."""
        holder = self._picture.leader if self._picture.locked else None
        leader = None if self.leader is None else self.leader.name
        if self._changes.awaited or self.conflict or (self.known and leader != holder):
            self._looks.within(SOON)
        elif self._source is None or self._source[1] or not self._picture.dcs:
            self._looks.within(SELDOM)
