"""What a client takes from Patroni's own configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from tests.scratch import scratch_directory
from twisted_patroni.client.asking import Login
from twisted_patroni.client.configuration import Configuration, ConfigurationError
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.tls import TlsFiles

if TYPE_CHECKING:
    from collections.abc import Mapping

CTL = {
    "certfile": "/c.crt",
    "keyfile": "/c.key",
    "keyfile_password": "s3cret",
    "cacert": "/ca.crt",
    "insecure": "on",
    "authentication": {"username": "joe", "password": "s3cret"},
}
RESTAPI = {
    "listen": "0.0.0.0:8009",
    "cafile": "/rest-ca.crt",
    "certfile": "/server.crt",
    "authentication": {"username": "api", "password": "t0psecret"},
}


def settings(document: Any, environ: Mapping[str, str] | None = None) -> ClientSettings:
    """Return what comes of a configuration."""
    return ClientSettings.from_patroni(document, environ=environ or {})


class FromPatroniTests(SynchronousTestCase):
    """Settings from Patroni's YAML."""

    def test_file(self) -> None:
        """A file is read, and what else is to be set is set along."""
        path = scratch_directory(self) / "patroni.yml"
        path.write_text(yaml.safe_dump({"ctl": CTL, "restapi": RESTAPI}))
        for source in (path, str(path)):
            found = ClientSettings.from_patroni(source, environ={}, timeout=3.0, connections=2)
            self.assertEqual(found.tls, TlsFiles("/ca.crt", "/c.crt", "/c.key", "s3cret", True))
            self.assertEqual(found.login, Login("joe", "s3cret"))
            self.assertEqual((found.timeout, found.connections), (3.0, 2))

    def test_fallback(self) -> None:
        """What ctl does not say, restapi does; its own certificate is no client's."""
        found = settings({"restapi": RESTAPI})
        self.assertEqual(found.tls, TlsFiles("/rest-ca.crt"))
        self.assertEqual(found.login, Login("api", "t0psecret"))
        self.assertEqual(settings({}), ClientSettings())

    def test_environment(self) -> None:
        """Patroni's variables go before the file."""
        environ = {
            "PATRONI_CTL_CACERT": "/env.crt",
            "PATRONI_CTL_INSECURE": "off",
            "PATRONI_CTL_KEYFILE_PASSWORD": "other",
            "PATRONI_CTL_USERNAME": "jim",
            "PATRONI_RESTAPI_USERNAME": "nobody",
        }
        found = settings({"ctl": CTL}, environ)
        self.assertEqual(found.tls, TlsFiles("/env.crt", "/c.crt", "/c.key", "other", False))
        self.assertEqual(found.login, Login("jim", "s3cret"))

    def test_old_spelling(self) -> None:
        """User and password may be in one text, as in old configurations."""
        found = settings({"ctl": {"auth": "joe:a:b"}, "restapi": RESTAPI}).login
        self.assertEqual(found, Login("joe", "a:b"))

    def test_as_patronictl(self) -> None:
        """Without a source it is the file that patronictl reads, if it is there."""
        directory = scratch_directory(self)
        environ = {"XDG_CONFIG_HOME": str(directory)}
        self.assertEqual(ClientSettings.from_patroni(environ=environ), ClientSettings())
        (directory / "patroni").mkdir()
        (directory / "patroni" / "patronictl.yaml").write_text("ctl: {cacert: /x}")
        self.assertEqual(ClientSettings.from_patroni(environ=environ).tls.cafile, "/x")
        (directory / "other.yml").write_text("ctl: {cacert: /y}")
        environ["PATRONICTL_CONFIG_FILE"] = str(directory / "other.yml")
        self.assertEqual(ClientSettings.from_patroni(environ=environ).tls.cafile, "/y")

    def test_lonely_key(self) -> None:
        """A key without a certificate is left alone, as patronictl leaves it."""
        self.assertIsNone(settings({"ctl": {"keyfile": "/c.key"}}).tls.keyfile)

    def test_hidden(self) -> None:
        """Nothing that may be printed has a password in it."""
        self.assertNotIn("s3cret", repr(settings({"ctl": CTL})))

    def test_errors(self) -> None:
        """What cannot be right is named by its key, and no value is shown."""
        for document, words in (
            ({"ctl": ["s3cret"]}, "ctl is not a section with keys"),
            ({"ctl": {"cacert": {"s3cret": 1}}}, "ctl.cacert is not a text"),
            ({"ctl": {"insecure": "s3cret"}}, "ctl.insecure is neither true nor false"),
            ({"ctl": {"authentication": "s3cret"}}, "ctl.authentication has no keys"),
            (
                {"ctl": {"authentication": {"username": "joe"}}},
                "ctl.authentication.password is missing",
            ),
            (
                {"restapi": {"authentication": {"username": [1], "password": "s3cret"}}},
                "restapi.authentication.username is not a text",
            ),
        ):
            error = self.assertRaises(ConfigurationError, settings, document)
            self.assertEqual(str(error), f"Patroni's configuration: {words}")

    def test_no_file(self) -> None:
        """A file that was named has to be there, and to be YAML."""
        directory = scratch_directory(self)
        for name, content, expected in (
            ("none", None, "cannot read ~/none: No such file or directory"),
            ("bad", "a: [s3cret", "~/bad, line 1: this is not YAML"),
            ("time", "a: 2026-99-99", "~/time: this is not YAML"),
            ("text", "s3cret", "~/text: this is not a configuration of Patroni"),
        ):
            path = directory / name
            if content is not None:
                path.write_text(content)
            error = self.assertRaises(ConfigurationError, settings, path)
            self.assertEqual(str(error).replace(str(directory), "~"), expected)

    def test_bounds(self) -> None:
        """Times and numbers that make no sense are named."""
        for name in ("timeout", "connect_timeout", "connections", "idle"):
            error = self.assertRaises(ValueError, ClientSettings, **{name: 0})
            self.assertIn(name, str(error))


class UrlTests(SynchronousTestCase):
    """Where this machine's node is."""

    def url(self, **restapi: str) -> str:
        """Return it."""
        return Configuration.of({"restapi": restapi}, {}).url()

    def test_addresses(self) -> None:
        """It is where others reach it, or where it listens; with a certificate it is https."""
        for section, url in (
            ({}, "http://127.0.0.1:8008"),
            ({"listen": "127.0.0.1,10.0.0.1:8008"}, "http://127.0.0.1:8008"),
            ({"listen": ":8010"}, "http://127.0.0.1:8010"),
            ({"listen": "[::]:8010"}, "http://127.0.0.1:8010"),
            ({"listen": "::1:8010"}, "http://[::1]:8010"),
            ({"listen": "*:1", "connect_address": "[fd00::1]:2"}, "http://[fd00::1]:2"),
            ({"listen": "db1:8008", "certfile": "/x"}, "https://db1:8008"),
        ):
            self.assertEqual(self.url(**section), url)

    def test_wrong(self) -> None:
        """An address without a port is named by its key."""
        error = self.assertRaises(ConfigurationError, self.url, listen="localhost")
        self.assertIn("restapi.listen is not HOST:PORT", str(error))

    def test_home(self) -> None:
        """Without variables the file is below the user's home directory."""
        home = scratch_directory(self)
        found = Configuration.found(None, {}, Path(home))
        self.assertEqual(
            (found.name, found.login()), (f"{home}/.config/patroni/patronictl.yaml", None)
        )
