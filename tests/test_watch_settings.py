"""What the command is told by its options, the environment and Patroni's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from tests.scratch import scratch_directory
from twisted_patroni.__main__ import build_parser
from twisted_patroni.client.asking import Login
from twisted_patroni.client.tls import TlsFiles
from twisted_patroni.watch.settings import CommandError, Surroundings, wanted

if TYPE_CHECKING:
    from twisted_patroni.watch.settings import Wanted

CTL = {
    "certfile": "/c.crt",
    "keyfile": "/c.key",
    "keyfile_password": "s3cret",
    "cacert": "/ca.crt",
    "insecure": True,
    "authentication": {"username": "joe", "password": "s3cret"},
}
RESTAPI = {
    "listen": "0.0.0.0:8009",
    "cafile": "/rest-ca.crt",
    "authentication": {"username": "api", "password": "t0psecret"},
}


class SettingsCase(SynchronousTestCase):
    """A home directory, an environment, and somebody at the keyboard."""

    def setUp(self) -> None:
        """Begin with nothing."""
        self.home = scratch_directory(self)
        self.environ: dict[str, str] = {}
        self.typed: str | None = None
        self.is_terminal = False

    def ask(self, prompt: str) -> str:
        """Type a password, if there is one to be typed."""
        self.prompt = prompt
        if self.typed is None:
            raise EOFError
        return self.typed

    def wanted(self, *words: str) -> Wanted:
        """Find out what is to be done."""
        options = build_parser().parse_args(["watch", *words])
        ask = None if self.typed is None else self.ask
        return wanted(options, Surroundings(self.environ, self.home, self.is_terminal, ask))

    def error(self, *words: str) -> str:
        """Return what is said of options that cannot be right."""
        text = str(self.assertRaises(CommandError, self.wanted, *words))
        self.assertNotIn("\n", text)
        self.assertNotIn("s3cret", text)
        return text.replace(str(self.home), "~")

    def configure(self, document: Any, name: str = "patroni.yml") -> str:
        """Write a configuration and return its path."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
        return str(path)


class OptionTests(SettingsCase):
    """Options."""

    def test_defaults(self) -> None:
        """Without anything it is the node of this machine, in lines, for half a minute at first."""
        found = self.wanted()
        self.assertEqual(found.urls, ("http://127.0.0.1:8008",))
        self.assertEqual((found.tls, found.login, found.types), (TlsFiles(), None, frozenset()))
        self.assertEqual((found.shape, found.timeout, found.after), ("lines", 30.0, None))

    def test_shapes(self) -> None:
        """On a terminal it is a screen, for ever, unless something else is asked for."""
        self.is_terminal = True
        shapes = {words: self.wanted(*words).shape for words in ((), ("--lines",), ("--json",))}
        self.assertEqual(shapes, {(): "screen", ("--lines",): "lines", ("--json",): "json"})
        self.assertIsNone(self.wanted().timeout)
        self.assertEqual(self.wanted("--timeout", "2.5").timeout, 2.5)
        self.assertIn("--after is for", self.error("--after", "7"))

    def test_urls(self) -> None:
        """Several URLs are tried in their order, each once."""
        found = self.wanted("http://a:8008/", "http://b:8008", "http://a:8008/patroni")
        self.assertEqual(found.urls, ("http://a:8008", "http://b:8008"))

    def test_events(self) -> None:
        """Types and a position are taken as they are known."""
        found = self.wanted("--types", "leader, config", "--after", "12.6fa3c001")
        self.assertEqual((found.types, found.after), ({"leader", "config"}, "12.6fa3c001"))

    def test_errors(self) -> None:
        """What cannot be right is said in one line that names it."""
        for words, expected in (
            (["a:8008"], "'a:8008' is not a URL like http://HOST:PORT"),
            (["http://joe:s3cret@a"], "a URL with a user or a password in it is not accepted"),
            (
                ["--types", "leader,x"],
                "--types: 'x' is none of leader, member, node, cluster, config, operation, history",
            ),
            (
                ["--types", ""],
                "--types: '' is none of leader, member, node, cluster, config, operation, history",
            ),
            (["--after", "x"], "--after: 'x' is not NUMBER or NUMBER.STREAM"),
            (["--timeout", "nan"], "--timeout: 'nan' is not a number of seconds above 0"),
            (["--timeout", "0"], "--timeout: '0' is not a number of seconds above 0"),
            (["--timeout", "soon"], "--timeout: 'soon' is not a number of seconds above 0"),
            (
                ["--user", "joe:s3cret"],
                "--user takes the name alone, which has no colon; the"
                " password is asked for, or is in PATRONI_RESTAPI_PASSWORD",
            ),
            (
                ["--user", "joe"],
                "--user: there is no password for joe: set PATRONI_RESTAPI_PASSWORD",
            ),
        ):
            self.assertEqual(self.error(*words), expected)


class LoginTests(SettingsCase):
    """Passwords."""

    def test_typed(self) -> None:
        """The password is asked for on the terminal."""
        self.typed = "typed"
        self.assertEqual(self.wanted("--user", "joe").login, Login("joe", "typed"))
        self.assertEqual(self.prompt, "Password of joe: ")

    def test_environment(self) -> None:
        """That of the environment goes before the configured one and the keyboard."""
        self.typed = "typed"
        path = self.configure({"ctl": CTL})
        self.environ["PATRONI_RESTAPI_PASSWORD"] = "of the environment"
        found = self.wanted("-c", path, "--user", "joe").login
        self.assertEqual(found, Login("joe", "of the environment"))

    def test_configured(self) -> None:
        """A user who is configured need not type."""
        self.typed = "typed"
        path = self.configure({"ctl": CTL})
        self.assertEqual(self.wanted("-c", path, "--user", "joe").login, Login("joe", "s3cret"))
        self.assertEqual(self.wanted("-c", path, "--user", "jim").login, Login("jim", "typed"))

    def test_variables(self) -> None:
        """User and password of the environment alone are enough."""
        self.environ |= {"PATRONI_RESTAPI_USERNAME": "api", "PATRONI_RESTAPI_PASSWORD": "x"}
        self.assertEqual(self.wanted().login, Login("api", "x"))

    def test_hidden(self) -> None:
        """Nothing that may be printed has a password in it."""
        path = self.configure({"ctl": CTL})
        self.assertNotIn("s3cret", repr(self.wanted("-c", path)))


class FileTests(SettingsCase):
    """Patroni's configuration."""

    def test_ctl(self) -> None:
        """The section ctl counts, before restapi."""
        found = self.wanted("-c", self.configure({"ctl": CTL, "restapi": RESTAPI}))
        self.assertEqual(found.tls, TlsFiles("/ca.crt", "/c.crt", "/c.key", "s3cret", True))
        self.assertEqual(found.login, Login("joe", "s3cret"))

    def test_restapi(self) -> None:
        """Without it authorities, password and address are those of restapi."""
        found = self.wanted("-c", self.configure({"restapi": RESTAPI}))
        self.assertEqual(found.tls, TlsFiles("/rest-ca.crt"))
        self.assertEqual(found.login, Login("api", "t0psecret"))
        self.assertEqual(found.urls, ("http://127.0.0.1:8009",))

    def test_address(self) -> None:
        """The address is where others reach this node; with a certificate it is https."""
        for section, url in (
            ({"listen": "127.0.0.1,10.0.0.1:8008"}, "http://127.0.0.1:8008"),
            ({"listen": "*:8010"}, "http://127.0.0.1:8010"),
            ({"listen": "[::]:8010"}, "http://127.0.0.1:8010"),
            ({"connect_address": "db1:8008", "certfile": "/x", **RESTAPI}, "https://db1:8008"),
        ):
            found = self.wanted("-c", self.configure({"restapi": section}))
            self.assertEqual(found.urls, (url,))

    def test_options_first(self) -> None:
        """Options go before the file; a certificate of the options comes with its own key."""
        words = ["-c", self.configure({"ctl": {**CTL, "insecure": False}}), "--cacert", "/x"]
        found = self.wanted(*words, "--cert", "/y", "--insecure").tls
        self.assertEqual((found.cafile, found.certfile, found.keyfile), ("/x", "/y", None))
        self.assertTrue(found.insecure)

    def test_variables_first(self) -> None:
        """Patroni's variables go before the file."""
        self.environ |= {"PATRONI_CTL_CACERT": "/env.crt", "PATRONI_CTL_INSECURE": "off"}
        found = self.wanted("-c", self.configure({"ctl": CTL})).tls
        self.assertEqual((found.cafile, found.insecure), ("/env.crt", False))

    def test_places(self) -> None:
        """The file is where patronictl looks for it."""
        document = {"ctl": {"cacert": "/home"}}
        self.configure(document, ".config/patroni/patronictl.yaml")
        self.assertEqual(self.wanted().tls.cafile, "/home")
        self.configure({"ctl": {"cacert": "/xdg"}}, "xdg/patroni/patronictl.yaml")
        self.environ["XDG_CONFIG_HOME"] = str(self.home / "xdg")
        self.assertEqual(self.wanted().tls.cafile, "/xdg")
        self.environ["PATRONICTL_CONFIG_FILE"] = self.configure({"ctl": {"cacert": "/env"}})
        self.assertEqual(self.wanted().tls.cafile, "/env")

    def test_empty(self) -> None:
        """An empty file, or an empty section, is as none."""
        for text in ("", "ctl:\nrestapi:\n"):
            self.assertEqual(self.wanted("-c", self.configure(text)).login, None)

    def test_errors(self) -> None:
        """A file that cannot be right is named, with the key, and shows nothing of its content."""
        for document, expected in (
            ("a: [s3cret", "~/patroni.yml, line 1: this is not YAML"),
            ("s3cret", "~/patroni.yml: this is not a configuration of Patroni"),
            ({"ctl": ["s3cret"]}, "~/patroni.yml: ctl is not a section with keys"),
            ({"ctl": {"cacert": {"s3cret": 1}}}, "~/patroni.yml: ctl.cacert is not a text"),
            ({"ctl": {"insecure": "x"}}, "~/patroni.yml: ctl.insecure is neither true nor false"),
            (
                {"ctl": {"authentication": "s3cret"}},
                "~/patroni.yml: ctl.authentication has no keys",
            ),
        ):
            self.assertEqual(self.error("-c", self.configure(document)), expected)
        self.assertEqual(
            self.error("-c", f"{self.home}/x"), "cannot read ~/x: No such file or directory"
        )
        self.assertEqual(self.error("-c", str(self.home)), "cannot read ~: Is a directory")
        (self.home / "bad.yml").write_bytes(b"\xff\xfe\xfd")
        self.assertIn("this is not YAML", self.error("-c", f"{self.home}/bad.yml"))
