"""Endpoints by their strings, as any Twisted program has them, on real sockets."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, cast

import yaml
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.plugin import IPlugin, getPlugins
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from tests.certificates import Authority
from tests.event_nodes import member
from tests.scratch import free_port, scratch_directory
from tests.test_client_tls import Counted
from twisted_patroni.client.asking import Login
from twisted_patroni.client.errors import ClusterUnknown, NoMember
from twisted_patroni.client.finding import Aim

if TYPE_CHECKING:
    from twisted.python.failure import Failure
    from twisted.web.server import Request

    from twisted_patroni.client.endpoint import PatroniEndpoint

reactor = cast("Any", global_reactor)


def parsed(string: str) -> PatroniEndpoint:
    """Return the endpoint of a string."""
    return cast("PatroniEndpoint", clientFromString(reactor, string))


class StringTests(SynchronousTestCase):
    """Strings."""

    def setUp(self) -> None:
        """Have nothing of a configuration around."""
        self.home = scratch_directory(self)

    def configure(self, document: object) -> str:
        """Write a configuration and return its path."""
        path = self.home / "patroni.yml"
        path.write_text(yaml.safe_dump(document))
        return str(path)

    def test_plugin(self) -> None:
        """Twisted finds the parser by its prefix."""
        plugins = list(getPlugins(IStreamClientEndpointStringParserWithReactor))
        found = [each for each in plugins if each.prefix == "patroni"]
        self.assertEqual(len(found), 1)
        verifyObject(IStreamClientEndpointStringParserWithReactor, found[0])
        verifyObject(IPlugin, found[0])
        verifyObject(IStreamClientEndpoint, parsed("patroni:a"))

    def test_light(self) -> None:
        """Programs that use other endpoints only do not load the client."""
        program = (
            "import sys\n"
            "from twisted.internet import reactor\n"
            "from twisted.internet.endpoints import clientFromString\n"
            "try:\n"
            "    clientFromString(reactor, 'nobody-knows-this:')\n"
            "except ValueError:\n"
            "    print('twisted.plugins.twisted_patroni_endpoints' in sys.modules,\n"
            "          'twisted_patroni.client' in sys.modules)"
        )
        command = [sys.executable, "-c", program]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual((ended.stdout, ended.stderr), ("True False\n", ""))

    def test_defaults(self) -> None:
        """The hosts are enough."""
        found = parsed("patroni:a,b")
        self.assertEqual(found.seeds, ("http://a:8008", "http://b:8008"))
        self.assertEqual(found.aim, Aim("primary", "postgres", None))
        self.assertEqual(found.settings.timeout, 10.0)

    def test_arguments(self) -> None:
        """All else can be said: ports for each host, addresses of version 6, what is wanted."""
        found = parsed(
            r"patroni:a\:8009,[\:\:1]\:8010, [\:\:2],a\:8009:target=replica:port=rest"
            ":restPort=8011:lag=1MB:timeout=2.5:scheme=https"
        )
        expected = ("https://a:8009", "https://[::1]:8010", "https://[::2]:8011")
        self.assertEqual(found.seeds, expected)
        self.assertEqual(found.aim, Aim("replica", "rest", 1024 * 1024))
        self.assertEqual(found.settings.timeout, 2.5)
        self.assertEqual(parsed("patroni:hosts=a").seeds, ("http://a:8008",))

    def test_cafile(self) -> None:
        """An authority to trust means TLS."""
        cafile = Authority().write(self.home)
        found = parsed(f"patroni:a:cafile={cafile}")
        self.assertEqual((found.seeds, found.settings.tls.cafile), (("https://a:8008",), cafile))

    def test_config(self) -> None:
        """Patroni's configuration says whom to trust, who asks, and where."""
        cafile = Authority().write(self.home)
        restapi = {"listen": "10.0.0.5:8009", "certfile": "/x", "cafile": cafile}
        restapi["authentication"] = {"username": "joe", "password": "s3cret"}  # type: ignore[assignment]
        path = self.configure({"restapi": restapi})
        found = parsed(f"patroni:config={path}:timeout=3")
        self.assertEqual(found.seeds, ("https://10.0.0.5:8009",))
        self.assertEqual(found.settings.login, Login("joe", "s3cret"))
        self.assertEqual((found.settings.tls.cafile, found.settings.timeout), (cafile, 3.0))
        self.assertEqual(parsed(f"patroni:a:config={path}").seeds, ("https://a:8008",))

    def test_errors(self) -> None:
        """What cannot be right is said in one line that begins with the argument."""
        no_yaml = self.home / "bad.yml"
        no_yaml.write_text("restapi: [")
        cases = (
            ("", "hosts: at least one is needed, or config"),
            (",", "hosts: at least one is needed, or config"),
            ("a:8008", "hosts: write a colon within an argument as \\:, before '8008'"),
            ("a:hosts=b", "hosts: given twice"),
            ("a@b", "hosts: 'a@b' is not HOST or HOST\\:PORT"),
            (r"http\://a", "hosts: 'http://a' is not HOST or HOST\\:PORT"),
            (r"a\:99999", "hosts: 'http://a:99999' is not a URL: Port out of range 0-65535"),
            (r"\:\:1", "hosts: '::1' is not HOST or HOST\\:PORT"),
            ("a:target=x", "target: 'x' is none of primary, replica, any"),
            ("a:port=5432", "port: '5432' is none of postgres, rest"),
            ("a:restPort=x", "restPort: 'x' is not a port"),
            ("a:restPort=65536", "restPort: '65536' is not a port"),
            ("a:scheme=ftp", "scheme: 'ftp' is none of http, https"),
            ("a:lag=1", "lag: a primary is never behind, it is for target=replica and target=any"),
            ("a:target=any:lag=x", "lag: 'x' is not a number of bytes like 1MB"),
            ("a:timeout=nan", "timeout: 'nan' is not a number of seconds above 0"),
            ("a:timeout=0", "timeout: '0' is not a number of seconds above 0"),
            ("a:cafile=/x", "cafile: cannot read /x: No such file or directory"),
            ("a:cafile=/x:scheme=http", "cafile: of no use with scheme=http"),
            ("a:config=/x", "config: cannot read /x: No such file or directory"),
            (f"a:config={no_yaml}", f"config: {no_yaml}, line 1: this is not YAML"),
            (
                "a:tarjet=x",
                "tarjet: there is no such argument, only cafile, config, hosts, lag, port,"
                " restPort, scheme, target, timeout",
            ),
        )
        for words, expected in cases:
            error = self.assertRaises(ValueError, parsed, f"patroni:{words}")
            self.assertEqual(str(error), expected)

    def test_errors_of_config(self) -> None:
        """So it is with what is in the configuration."""
        path = self.configure({"ctl": {"insecure": "perhaps"}})
        text = str(self.assertRaises(ValueError, parsed, f"patroni:a:config={path}"))
        self.assertEqual(text, f"config: {path}: ctl.insecure is neither true nor false")
        path = self.configure({"ctl": {"cacert": "/nowhere"}})
        words = f"patroni:a:config={path}"
        text = str(self.assertRaises(ValueError, parsed, words))
        self.assertEqual(text, "config: cannot read /nowhere: No such file or directory")
        path = self.configure({})
        for name in ("restPort=1", "scheme=http"):
            error = self.assertRaises(ValueError, parsed, f"patroni:config={path}:{name}")
            self.assertEqual(str(error), f"{name.partition('=')[0]}: of no use without hosts")


class Pages(Resource):
    """A node that answers from a table.

    :ivar pages: status and document by path.
    :ivar when_asked: fires when it is asked for the first time, if somebody waits for that.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.pages: dict[str, tuple[int, Any]] = {}
        self.when_asked: Deferred[None] | None = None

    def render_GET(self, request: Request) -> bytes:
        """Answer."""
        if self.when_asked is not None:
            when_asked, self.when_asked = self.when_asked, None
            when_asked.callback(None)
        status, document = self.pages.get(request.path.decode(), (503, {"patroni": {}}))
        request.setResponseCode(status)
        return json.dumps(document).encode()


class Greeter(Protocol):
    """A PostgreSQL, as far as it accepts connections: it says its name."""

    def connectionMade(self) -> None:
        """Say it."""
        assert self.transport is not None
        self.transport.write(cast("Any", self.factory).greeting)


class Reader(Protocol):
    """The client's side."""

    def __init__(self) -> None:
        self.received: Deferred[bytes] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Take the first bytes."""
        if not self.received.called:
            self.received.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell that it has ended."""
        self.lost.callback(None)


class SocketTests(TestCase):
    """Real connections on loopback."""

    timeout = 30

    def setUp(self) -> None:
        """Serve a node and two servers."""
        self.node = Pages()
        self.node.pages["/primary"] = self.node.pages["/replica"] = (200, {})
        self.servers: list[Counted] = []
        self.rest = self.serve(Counted(Site(self.node)))
        self.a, self.b = (self.greeter(name) for name in (b"a", b"b"))

    def serve(self, factory: Counted, context: Any = None) -> int:
        """Listen and return the port."""
        self.servers.append(factory)
        if context is None:
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def serve_tls(self, authority: Authority) -> int:
        """Serve the node by TLS and return the port."""
        mine: Any = authority.server("127.0.0.1")
        context = CertificateOptions(privateKey=mine.key, certificate=mine.certificate)
        return self.serve(Counted(Site(self.node)), context)

    def greeter(self, name: bytes) -> int:
        """Listen as a PostgreSQL and return the port."""
        factory = Factory.forProtocol(Greeter)
        factory.greeting = name  # type: ignore[attr-defined]
        return self.serve(Counted(factory))

    def members(self, *ports: int, scheme: str = "http", rest: int = 0) -> None:
        """Let the node say who is there: the first leads."""
        url = f"{scheme}://127.0.0.1:{rest or self.rest}/patroni"
        listed = [
            member(name, role, port=port, api_url=url)
            for name, role, port in zip(
                "abc", ("leader", "replica", "replica"), ports, strict=False
            )
        ]
        self.node.pages["/cluster"] = (200, {"members": listed})

    async def greeting(self, string: str, say: bytes = b"") -> bytes:
        """Connect, and return what the server says."""
        endpoint = clientFromString(reactor, string)
        reader = cast("Reader", await endpoint.connect(Factory.forProtocol(Reader)))
        assert reader.transport is not None
        if say:
            reader.transport.write(say)
        data = await reader.received
        reader.transport.loseConnection()
        await reader.lost
        await self.quiet()
        return data

    async def quiet(self) -> None:
        """Wait until all connections have ended."""
        for server in self.servers:
            await server.quiet()

    async def test_primary(self) -> None:
        """A string leads to the primary, and then to the next one; dead hosts do not matter."""
        string = f"patroni:127.0.0.1\\:{free_port()},127.0.0.1\\:{self.rest}"
        self.members(self.a, self.b)
        self.assertEqual(await self.greeting(string), b"a")
        self.members(self.b, self.a)
        self.assertEqual(await self.greeting(string), b"b")

    async def test_replica(self) -> None:
        """A replica that refuses is followed by the next."""
        string = f"patroni:127.0.0.1:restPort={self.rest}:target=replica"
        self.members(self.a, free_port(), self.b)
        self.assertEqual(await self.greeting(string), b"b")

    async def test_refused(self) -> None:
        """A primary that refuses is named, with its address."""
        port = free_port()
        self.members(port, self.b)
        error: Any = await self.assertFailure(
            Deferred.fromCoroutine(self.greeting(f"patroni:localhost:restPort={self.rest}")),
            NoMember,
        )
        self.assertEqual(
            str(error),
            f"no primary can be connected to: a (127.0.0.1:{port}) refuses connections",
        )
        await self.quiet()

    async def test_nobody(self) -> None:
        """Hosts that refuse are named."""
        port = free_port()
        asked = Deferred.fromCoroutine(self.greeting(f"patroni:127.0.0.1:restPort={port}"))
        error: Any = await self.assertFailure(asked, ClusterUnknown)
        self.assertEqual(
            str(error),
            f"no node can be asked: http://127.0.0.1:{port}/cluster refuses connections",
        )

    async def test_tls(self) -> None:
        """To a REST API that speaks TLS the stream is encrypted, and verified for the member."""
        authority, directory = Authority(), scratch_directory(self)
        rest = self.serve_tls(authority)
        self.members(self.a, scheme="https", rest=rest)
        arguments = f"restPort={rest}:port=rest:cafile={authority.write(directory)}"
        question = b"GET /primary HTTP/1.0\r\n\r\n"
        said = await self.greeting(f"patroni:127.0.0.1:{arguments}", question)
        self.assertTrue(said.startswith(b"HTTP/1.0 200 OK"), said)

    async def test_no_downgrade(self) -> None:
        """Who asks by TLS does not ask members that announce their API without it."""
        authority, directory = Authority(), scratch_directory(self)
        rest = self.serve_tls(authority)
        self.members(self.a)
        arguments = f"restPort={rest}:cafile={authority.write(directory)}"
        asked = Deferred.fromCoroutine(self.greeting(f"patroni:127.0.0.1:{arguments}"))
        error: Any = await self.assertFailure(asked, NoMember)
        self.assertIn("announces its API without TLS", str(error))
        await self.quiet()
