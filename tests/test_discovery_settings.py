"""What ``twisted-patroni endpoint`` is told by its options, the environment and Patroni."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from tests.scratch import scratch_directory
from twisted_patroni.__main__ import build_parser
from twisted_patroni.client.asking import Login
from twisted_patroni.client.finding import Aim
from twisted_patroni.client.tls import TlsFiles
from twisted_patroni.discovery.settings import wish
from twisted_patroni.watch.settings import CommandError, Surroundings

if TYPE_CHECKING:
    from twisted_patroni.discovery.settings import Wish


class SettingsTests(SynchronousTestCase):
    """Options."""

    def setUp(self) -> None:
        """Begin with nothing."""
        self.home = scratch_directory(self)

    def wish(self, *words: str) -> Wish:
        """Find out what is to be done."""
        options = build_parser().parse_args(["endpoint", *words])
        return wish(options, Surroundings({}, self.home, False))

    def test_defaults(self) -> None:
        """Without anything it is the primary, as the node of this machine knows it."""
        found = self.wish()
        self.assertEqual(found.contact.urls, ("http://127.0.0.1:8008",))
        self.assertEqual((found.contact.tls, found.contact.login), (TlsFiles(), None))
        self.assertEqual(found.aim, Aim("primary", "postgres", None))
        self.assertEqual((found.follow, found.shape, found.timeout), (False, "plain", 10.0))

    def test_options(self) -> None:
        """All of it can be said."""
        words = "http://b:8009 --target replica --port rest --lag 1MB --follow --json --timeout 2"
        found = self.wish(*words.split())
        self.assertEqual(found.contact.urls, ("http://b:8009",))
        self.assertEqual(found.aim, Aim("replica", "rest", 1024 * 1024))
        self.assertEqual((found.follow, found.shape, found.timeout), (True, "json", 2.0))
        self.assertEqual(self.wish("--conninfo").shape, "conninfo")

    def test_configuration(self) -> None:
        """Whom to trust and who asks is in Patroni's configuration, unless options say it."""
        path = self.home / "patroni.yml"
        path.write_text(
            "restapi: {listen: '10.0.0.5:8008', cafile: /ca, authentication:"
            " {username: joe, password: s3cret}}"
        )
        found = self.wish("-c", str(path), "--cacert", "/other")
        self.assertEqual(found.contact.urls, ("http://10.0.0.5:8008",))
        self.assertEqual(found.contact.login, Login("joe", "s3cret"))
        self.assertEqual(found.contact.tls, TlsFiles(cafile="/other"))

    def test_errors(self) -> None:
        """What cannot be right is said in one line that names it."""
        lag = "--lag is for --target replica and any: a primary is never behind"
        libpq = "--conninfo is for --port postgres: a REST API takes no libpq"
        size = "--lag: 'x' is not a number of bytes like 1MB"
        for words, expected in (
            (["a:8008"], "'a:8008' is not a URL like http://HOST:PORT"),
            (["--lag", "1MB"], lag),
            (["--lag", "x", "--target", "any"], size),
            (["--conninfo", "--port", "rest"], libpq),
            (["--timeout", "0"], "--timeout: '0' is not a number of seconds above 0"),
            (["-c", "/nowhere"], "cannot read /nowhere: No such file or directory"),
        ):
            error = self.assertRaises(CommandError, self.wish, *words)
            self.assertEqual(str(error), expected)
