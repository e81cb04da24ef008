"""Notices changed files of TLS, and has them loaded: ``restapi.certificate_watch``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_patroni import tls
from twisted_patroni.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from twisted_patroni.settings import Settings
    from twisted_patroni.tls import TlsMaterial

_log = Logger()


def load(settings: Settings) -> TlsMaterial | None:
    """Read the files of TLS; blocks.

    :param settings: the settings that name them.
    :return: what was read, or ``None`` for plain HTTP.
    :raise SettingsError: if they do not fit together.
    """
    if settings.tls is None:
        return None
    modes = {each.verify_client for each in settings.doors if each.tls}
    return tls.load(settings.tls, {settings.verify_client, *modes})


@define(eq=False)
class Renewal:
    """Looks at the files from time to time.

    :param clock: for the time between two looks.
    :param in_lane: runs a blocking function elsewhere.
    :param renewed: told of what was read when it has changed; returns when it is in use.
    """

    clock: IReactorTime
    in_lane: Callable[..., Deferred[Any]]
    renewed: Callable[[Settings, TlsMaterial], Deferred[Any]]
    _looping: LoopingCall | None = field(default=None, init=False)
    _complaint: str = field(default="", init=False)

    def watch(self, settings: Settings, material: TlsMaterial | None) -> None:
        """Watch the files of these settings from now on, and no others.

        :param settings: the settings.
        :param material: what is in use.
        """
        self.stop()
        if settings.certificate_watch is None or material is None:
            return
        self._complaint = ""
        self._looping = LoopingCall(self._look, settings, material)
        self._looping.clock = self.clock
        self._looping.start(settings.certificate_watch, now=False).addErrback(
            lambda failure: _log.failure("Watching the certificate has ended", failure)
        )

    def stop(self) -> None:
        """Watch no more."""
        looping, self._looping = self._looping, None
        if looping is not None and looping.running:
            looping.stop()

    def _look(self, settings: Settings, material: TlsMaterial) -> Deferred[None]:
        return Deferred.fromCoroutine(self._compare(self._looping, settings, material))

    async def _compare(
        self, looping: LoopingCall | None, settings: Settings, material: TlsMaterial
    ) -> None:
        try:
            if await self.in_lane(tls.digest, settings.tls) == material.digest:
                self._complaint = ""
                return
            found = await self.in_lane(load, settings)
            # A reload may have been faster.
            if looping is self._looping and found is not None:
                await self.renewed(settings, found)
        except CancelledError:
            raise
        except SettingsError as error:
            # Renewals replace one file after the other: what does not fit yet may do so next time.
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.error("The certificate is not reloaded: {error}", error=error)
        except Exception:
            _log.failure("Looking for a renewed certificate failed")
