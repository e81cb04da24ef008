"""Know at any time which members fit: by what the cluster tells, and by what each says itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from twisted_patroni.client.errors import ClientError, NoMember

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

    from twisted_patroni.client.finding import Aim, Checker, Place
    from twisted_patroni.client.topology import Topology

    Key = tuple[str | None, ...]

#: Seconds until members are asked again of whom the cluster tells nothing new.
INTERVAL = 2.0
#: Seconds until those are that said they did not fit: they may be about to.
SOON = 0.5


@define(eq=False)
class Following:
    """Follows a cluster, and tells at each change which members fit.

    A member is in once it has said itself that it fits. It is out when the cluster takes it for
    something else, or when it says that it does not fit; not if its API alone cannot be reached.

    :param topology: the cluster.
    :param aim: which members are looked for.
    :param checker: asks them.
    :param show: told where those are that fit, by their names.
    """

    topology: Topology
    aim: Aim
    checker: Checker
    show: Callable[[Sequence[Place]], None]
    _places: dict[Key, Place] = field(factory=dict, init=False)
    _fits: dict[Key, bool] = field(factory=dict, init=False)
    _asking: dict[Key, Deferred[Any]] = field(factory=dict, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _shown: list[str] | None = field(default=None, init=False)
    _log = Logger()

    async def run(self, timeout: float) -> None:
        """Follow it until this is cancelled.

        :param timeout: seconds until a node must have answered.
        :raise ClientError: if none has.
        """
        try:
            await self.topology.until_known(timeout)
            stop = self.topology.changed(self._look)
            try:
                self._look()
                await Deferred()
            finally:
                stop()
                self._stop()
        finally:
            await self.topology.close()

    def _stop(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for each in tuple(self._asking.values()):
            each.cancel()

    def _look(self) -> None:
        """Ask all members that could fit, except for those that are being asked."""
        # How far they are behind is for themselves to say: they know it better.
        aim = evolve(self.aim, lag=None)
        self._places = {_key(each): each for each in aim.places(self.topology.members)}
        for key in self._fits.keys() - self._places.keys():
            del self._fits[key]
        for key in self._asking.keys() - self._places.keys():
            self._asking[key].cancel()
        for key, place in self._places.items():
            if key not in self._asking:
                asking = Deferred.fromCoroutine(self.checker.fits(place.member, self.aim.lag))
                self._asking[key] = asking
                asking.addCallback(self._answered, key)
                asking.addErrback(self._failed, key)
        self._later()
        self._tell()

    def _later(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        clock = self.topology.reactor
        all_fit = all(self._fits.get(key) for key in self._places)
        self._timer = clock.callLater(INTERVAL if all_fit else SOON, self._look)

    def _answered(self, fits: bool, key: Key) -> None:
        del self._asking[key]
        self._fits[key] = fits
        self._tell()

    def _failed(self, failure: Failure, key: Key) -> None:
        self._asking.pop(key, None)
        if failure.check(CancelledError):
            return
        if not failure.check(ClientError):
            self._log.failure("A member cannot be asked whether it fits", failure)
        # One that has fitted may be well but for its API, which the cluster will find out.
        self._fits.setdefault(key, False)
        if failure.check(NoMember):
            self._fits[key] = False
        self._tell()

    def _tell(self) -> None:
        """Show those that fit, unless one has not been heard yet."""
        if any(key not in self._fits for key in self._places):
            return
        fit = [place for key, place in self._places.items() if self._fits[key]]
        fit.sort(key=lambda place: place.member.name)
        shown = [f"{place.member.name} {place}" for place in fit]
        if shown != self._shown:
            self._shown = shown
            self.show(fit)


def _key(place: Place) -> Key:
    """Return what must be asked for anew when it changes."""
    member = place.member
    return member.name, str(place), member.api_url, "leads" if member.leads else "follows"
