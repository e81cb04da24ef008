"""Certificate files that change: noticed, loaded when they fit together, and only then used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Authority
from tests.logs import logged_by
from tests.scratch import scratch_directory
from twisted_patroni.renewal import Renewal, load
from twisted_patroni.settings import Settings, SettingsError

if TYPE_CHECKING:
    from twisted_patroni.tls import TlsMaterial


class RenewalTests(SynchronousTestCase):
    """The files are looked at every ten seconds."""

    def setUp(self) -> None:
        """Write a certificate and watch it."""
        self.directory = scratch_directory(self)
        self.authority = Authority()
        self.write()
        self.settings = Settings.of(
            {
                "listen": "127.0.0.1:8008",
                "certfile": str(self.directory / "node.crt"),
                "keyfile": str(self.directory / "node.key"),
                "certificate_watch": 10,
            }
        )
        self.clock = Clock()
        self.used: list[TlsMaterial] = []
        self.using: Deferred[None] = succeed(None)
        self.renewal = Renewal(self.clock, maybeDeferred, self.use)
        self.addCleanup(self.renewal.stop)
        self.log = logged_by(self, "twisted_patroni.renewal")

    def write(self) -> None:
        """Write a new certificate and its key."""
        self.authority.server("localhost").write(self.directory, "node")

    def use(self, settings: Settings, material: TlsMaterial) -> Deferred[None]:
        """Take what was found, and watch it from then on, as the API does."""
        self.used.append(material)
        if not self.using.called:
            return self.using
        self.renewal.watch(settings, material)
        return self.using

    def watch(self) -> None:
        """Begin to watch what is there now."""
        self.renewal.watch(self.settings, load(self.settings))

    def test_unchanged(self) -> None:
        """Files that stay as they are are not loaded again."""
        self.watch()
        self.clock.pump([10] * 3)
        self.assertEqual((self.used, self.log), ([], []))

    def test_renewed(self) -> None:
        """New files are used within the interval, once."""
        self.watch()
        self.write()
        self.clock.advance(9)
        self.assertEqual(self.used, [])
        self.clock.pump([1, 10, 10])
        [material] = self.used
        self.assertEqual(material.digest, load(self.settings).digest)  # type: ignore[union-attr]

    def test_half_renewed(self) -> None:
        """While certificate and key do not fit, nothing is used, and the log says so once."""
        self.watch()
        former = (self.directory / "node.key").read_bytes()
        self.write()
        present = (self.directory / "node.key").read_bytes()
        (self.directory / "node.key").write_bytes(former)
        self.clock.pump([10] * 3)
        self.assertEqual(self.used, [])
        [event] = self.log
        self.assertIn("does not belong to", str(event["error"]))
        (self.directory / "node.key").write_bytes(present)
        self.clock.advance(10)
        self.assertEqual(len(self.used), 1)

    def test_missing(self) -> None:
        """A file that is gone for a moment harms nobody."""
        self.watch()
        (self.directory / "node.crt").unlink()
        self.clock.pump([10] * 2)
        self.assertEqual(len(self.log), 1)
        self.write()
        self.clock.advance(10)
        self.assertEqual(len(self.used), 1)

    def test_off(self) -> None:
        """Without the setting, or without TLS, nothing ticks."""
        for section in (
            {"certfile": self.settings.tls.certfile, "keyfile": self.settings.tls.keyfile},  # type: ignore[union-attr]
            {"certificate_watch": 10},
        ):
            settings = Settings.of({"listen": "127.0.0.1:8008", **section})
            self.renewal.watch(settings, load(settings))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refused(self) -> None:
        """If what was found cannot be used, that is tried again."""
        self.watch()
        self.write()
        self.using = fail(SettingsError("restapi.endpoints: no"))
        self.renewal.renewed = lambda settings, material: self.using
        self.clock.advance(10)
        self.using = succeed(None)
        self.renewal.renewed = self.use
        self.clock.advance(10)
        self.assertEqual(len(self.used), 1)

    def test_defect(self) -> None:
        """A defect ends one look, not the watching."""
        self.watch()
        self.renewal.in_lane = lambda function, *args: fail(ZeroDivisionError())
        self.clock.advance(10)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.renewal.in_lane = maybeDeferred
        self.write()
        self.clock.advance(10)
        self.assertEqual(len(self.used), 1)
