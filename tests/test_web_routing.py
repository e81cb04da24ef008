"""Tests of twisted_patroni.web.routing: which endpoint answers, and with which parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.memory_api import Reply
from tests.wire_client import Client
from twisted_patroni.access import Access
from twisted_patroni.web.answers import Answer, json_answer
from twisted_patroni.web.resource import Responder
from twisted_patroni.web.routing import (
    Body,
    Endpoint,
    Parameter,
    Place,
    RoutingError,
    build_tree,
    endpoint,
    endpoints_of,
    path_components,
)
from twisted_patroni.web.site import ApiSite

if TYPE_CHECKING:
    from twisted_patroni.web.resource import Call


async def show(call: Call) -> Answer:
    """Answer with the declaration that was found, and the parameters."""
    return json_answer([f"{call.endpoint.method} {call.endpoint.path}", dict(call.parameters)])


def site_of(*declarations: str) -> ApiSite:
    """Return a site with endpoints such as ``GET /a/:b``."""
    endpoints = []
    for declared in declarations:
        method, path = declared.split(" ")
        endpoints.append(Endpoint(method, path, "Show.", handler=show))
    responder = Responder(lambda access, request: None)
    return ApiSite(build_tree(endpoints, responder.render), Clock(), admit=responder.admit)


def ask(site: ApiSite, method: str, target: str) -> Any:
    """Return what a request finds: a declaration and the parameters, or the status."""
    clock = site.reactor
    assert isinstance(clock, Clock)
    reply = Reply.parse(Client(site, clock).ask(f"{method} {target} HTTP/1.0\r\n\r\n".encode()))
    return reply.json() if reply.code == 200 and reply.body else reply.code


class TreeTests(SynchronousTestCase):
    """Finding endpoints."""

    def test_parameters(self) -> None:
        """Literals, and each kind of parameter."""
        site = site_of(
            "GET /plain",
            "GET /one/:name",
            "GET /maybe/:name?",
            "GET /some/:names+",
            "GET /any/:names*",
            "GET /deep/:a/x/:b",
            "GET /",
        )
        rows: list[tuple[str, Any]] = [
            ("/", ["GET /", {}]),
            ("/plain", ["GET /plain", {}]),
            ("/plain/", 501),
            ("/plain/x", 501),
            ("/one", 501),
            ("/one/", 501),
            ("/one/b", ["GET /one/:name", {"name": "b"}]),
            ("/one/b/c", 501),
            ("/maybe", ["GET /maybe/:name?", {}]),
            ("/maybe/b", ["GET /maybe/:name?", {"name": "b"}]),
            ("/maybe/b/c", 501),
            ("/some", 501),
            ("/some/b", ["GET /some/:names+", {"names": "b"}]),
            ("/some/b/c/", ["GET /some/:names+", {"names": "b/c/"}]),
            ("/any", ["GET /any/:names*", {"names": ""}]),
            ("/any/", ["GET /any/:names*", {"names": ""}]),
            ("/any/b/c", ["GET /any/:names*", {"names": "b/c"}]),
            ("/deep/1/x/2", ["GET /deep/:a/x/:b", {"a": "1", "b": "2"}]),
            ("/deep/1/y/2", 501),
            ("/other", 501),
            ("/one/%62", ["GET /one/:name", {"name": "%62"}]),
        ]
        for target, expected in rows:
            self.assertEqual(ask(site, "GET", target), expected, target)

    def test_deepest_answers(self) -> None:
        """Of several that fit, the one declared deepest answers, for each method on its own."""
        site = site_of(
            "GET /:all*", "OPTIONS /:all*", "GET /a/:rest*", "POST /a/:rest*", "GET /a/b"
        )
        rows = (
            ("GET", "/", "GET /:all*"),
            ("GET", "/x/y", "GET /:all*"),
            ("GET", "/a", "GET /a/:rest*"),
            ("GET", "/a/x", "GET /a/:rest*"),
            ("GET", "/a/b", "GET /a/b"),
            ("GET", "/a/b/c", "GET /a/:rest*"),
            ("POST", "/a/b", "POST /a/:rest*"),
            ("OPTIONS", "/a/b", "OPTIONS /:all*"),
            ("OPTIONS", "/x", "OPTIONS /:all*"),
        )
        for method, target, declared in rows:
            found = ask(site, method, target)
            self.assertEqual(found[0] if isinstance(found, list) else found, declared, target)
        for method, target in (("POST", "/"), ("POST", "/x"), ("DELETE", "/a"), ("GET_a", "/a")):
            self.assertEqual(ask(site, method, target), 501, f"{method} {target}")

    def test_literal_shuts_out_parameter(self) -> None:
        """A literal child shuts out a parameter in the same place."""
        site = site_of("GET /a/b", "GET /a/:name/c")
        self.assertEqual(ask(site, "GET", "/a/x/c"), ["GET /a/:name/c", {"name": "x"}])
        self.assertEqual(ask(site, "GET", "/a/b/c"), 501)

    def test_head(self) -> None:
        """What answers GET answers HEAD, unless HEAD is declared as deep."""
        site = site_of("GET /:all*", "HEAD /:all*", "GET /a", "GET /b", "HEAD /b")
        self.assertEqual(ask(site, "HEAD", "/a"), 200)
        for target, declared in (("/a", "GET /a"), ("/b", "HEAD /b"), ("/c", "HEAD /:all*")):
            tree = site.resource
            assert isinstance(tree, Place)
            place = tree.children.get(target[1:].encode(), tree)
            assert isinstance(place, Place)
            route = place.routes["HEAD"].endpoint
            self.assertEqual(f"{route.method} {route.path}", declared)

    def test_absent_get(self) -> None:
        """HEAD needs a GET."""
        self.assertEqual(ask(site_of("POST /a"), "HEAD", "/a"), 501)

    def test_errors(self) -> None:
        """Declarations that contradict each other, or make no sense, are refused."""
        rows = (
            ("GET /a", "GET /a"),
            ("GET /a/:x*", "GET /a/:y*"),
            ("GET /a/:x+", "GET /a/:y+"),
            ("GET /a/:x/b", "GET /a/:y/c"),
            ("GET /a/:x*/b",),
            ("GET /a/:x+/b",),
            ("GET /a/:",),
            ("GET /a/:1",),
            ("GET /a/:x-y",),
        )
        for declarations in rows:
            error = self.assertRaises(RoutingError, site_of, *declarations)
            self.assertIn(declarations[-1].split(" ")[1], str(error), declarations)

    def test_components(self) -> None:
        """Leading slashes count for nothing, others separate."""
        rows = {"": [], "/": [], "//": [], "/a": ["a"], "//a/b": ["a", "b"], "/a/": ["a", ""]}
        for path, expected in rows.items():
            self.assertEqual(path_components(path), expected, path)


class Handlers:
    """Handlers with declarations."""

    @endpoint(
        "GET POST",
        "/a",
        "/b",
        summary="Several.",
        access=Access.CHECKED,
        query=(Parameter("q", "A query parameter."),),
        headers=(Parameter("X-H", "A header."),),
        body=Body(optional=True),
    )
    async def several(self, call: Call) -> Answer:
        """Answer."""
        return json_answer(None)

    @endpoint("GET", "/c", summary="One of two.")
    @endpoint("PUT", "/c", summary="The other.", access=Access.CHECKED)
    async def both(self, call: Call) -> Answer:
        """Answer."""
        return json_answer(None)

    def plain(self) -> None:
        """Declare nothing."""


class DeclarationTests(SynchronousTestCase):
    """Declaring endpoints where they are handled."""

    def test_collected(self) -> None:
        """Each method and path of a declaration is one endpoint, bound to its handler."""
        handlers = Handlers()
        found = {f"{each.method} {each.path}": each for each in endpoints_of([handlers])}
        self.assertEqual(
            sorted(found), ["GET /a", "GET /b", "GET /c", "POST /a", "POST /b", "PUT /c"]
        )
        several = found["POST /b"]
        self.assertEqual(several.handler, handlers.several)
        self.assertEqual((several.access, several.body), (Access.CHECKED, Body(optional=True)))
        self.assertEqual([each.name for each in several.query + several.headers], ["q", "X-H"])
        self.assertEqual(found["GET /c"].access, Access.OPEN)
        self.assertEqual(found["PUT /c"].summary, "The other.")

    def test_of_several_objects(self) -> None:
        """Two handlers with the same endpoint contradict each other."""
        endpoints = endpoints_of([Handlers(), Handlers()])
        responder = Responder(lambda access, request: None)
        self.assertRaises(RoutingError, build_tree, endpoints, responder.render)
