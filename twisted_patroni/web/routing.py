"""One declaration per endpoint, and the twisted.web Resource tree that the declarations build.

An endpoint is declared where it is handled::

    class History:
        @endpoint("GET", "/history/:rest*", summary="Past changes of the leader.")
        async def history(self, call: Call) -> Answer: ...

A component of a path is a literal, or a parameter: ``:name`` is one component, ``:name?`` one or
none, ``:name+`` one or more, ``:name*`` any number. The last two end a path. As everywhere in
twisted.web a literal child shuts out a parameter in the same place; where several ``+`` and ``*``
endpoints fit, the one declared deepest answers.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen
from twisted.web.resource import Resource

from twisted_patroni.access import Access

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from twisted.internet.defer import Deferred

    from twisted_patroni.settings import Right
    from twisted_patroni.web.answers import Answer
    from twisted_patroni.web.request import Takeover
    from twisted_patroni.web.resource import Call
    from twisted_patroni.web.site import ApiRequest

    #: What a handler returns: hot ones spare the coroutine.
    Reply = (
        Deferred["Answer"]
        | Deferred["Answer | Takeover"]
        | Coroutine[Deferred[Any], Any, "Answer | Takeover"]
    )
    Handler = Callable[["Call"], Reply]
    Render = Callable[["ApiRequest", "Endpoint | None"], int]

_DECLARATIONS = "__endpoints__"


class RoutingError(ValueError):
    """Two declarations contradict each other, or one cannot be understood."""


@frozen
class Parameter:
    """A query parameter or a header that an endpoint looks at.

    :param name: its name; a name that ends in ``*`` stands for all that begin so.
    :param summary: what it does, in one sentence.
    """

    name: str
    summary: str


@frozen
class Body:
    """The JSON object that an endpoint takes.

    :param optional: a request without one is fine.
    :param limit: its greatest length in bytes, ``None`` for the site's usual one.
    """

    optional: bool = False
    limit: int | None = None


@frozen
class Endpoint:
    """The declaration of one endpoint.

    :param method: the HTTP method.
    :param path: the path with its parameters.
    :param summary: what it is for, in one sentence.
    :param access: which check its clients must pass.
    :param right: what its clients must be allowed to do, where there are rules or reads are
        protected; ``None`` for health checks and for what members tell each other.
    :param for_members: members ask it of each other, to keep PostgreSQL up.
    :param query: the query parameters it looks at.
    :param headers: the request headers it looks at, besides those of access.
    :param body: the JSON object it takes, or ``None`` if a body is not read.
    :param handler: what answers; bound when the tree is built.
    """

    method: str
    path: str
    summary: str
    access: Access = Access.OPEN
    right: Right | None = None
    for_members: bool = False
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    body: Body | None = None
    handler: Handler | None = field(default=None, eq=False, repr=False)


def endpoint(
    method: str,
    *paths: str,
    summary: str,
    access: Access = Access.OPEN,
    right: Right | None = None,
    for_members: bool = False,
    query: tuple[Parameter, ...] = (),
    headers: tuple[Parameter, ...] = (),
    body: Body | None = None,
) -> Callable[[Callable[..., Reply]], Callable[..., Reply]]:
    """Declare the decorated method as an endpoint; see :class:`Endpoint` for the parameters.

    :param method: the HTTP method, or several separated by blanks.
    :param paths: the paths it answers.
    """

    def declare(
        function: Callable[..., Reply],
    ) -> Callable[..., Reply]:
        declared = [
            Endpoint(each, path, summary, access, right, for_members, query, headers, body)
            for each in method.split()
            for path in paths
        ]
        setattr(function, _DECLARATIONS, [*getattr(function, _DECLARATIONS, ()), *declared])
        return function

    return declare


def endpoints_of(handlers: Iterable[object]) -> list[Endpoint]:
    """Collect the endpoints that objects declare on their methods.

    :param handlers: the objects.
    :return: the declarations, each bound to its handler.
    """
    found: list[Endpoint] = []
    for handler in handlers:
        for _, method in inspect.getmembers(handler, inspect.ismethod):
            declared: list[Endpoint] = getattr(method, _DECLARATIONS, [])
            found += [evolve(each, handler=method) for each in declared]
    return found


@frozen
class Route:
    """An endpoint in the tree.

    :param endpoint: the endpoint.
    :param parameter: the name of its ``+`` or ``*`` parameter, if it has one.
    :param depth: how many components of the path come before that parameter, or in all.
    """

    endpoint: Endpoint
    parameter: str | None
    depth: int


class Place(Resource):
    """A place in the tree: the endpoints whose path ends here, and the ways on from here."""

    def __init__(self, render: Render, depth: int = 0) -> None:
        super().__init__()
        self._render = render
        self._depth = depth
        self._ends: dict[str, Route] = {}
        self._any_number: dict[str, Route] = {}
        self._one_or_more: dict[str, Route] = {}
        self._single: tuple[str, Place] | None = None
        self._beyond: Place | None = None
        #: The endpoint for each method, complete once :meth:`settle` has run.
        self.routes: dict[str, Route] = {}

    def add(self, components: list[str], declared: Endpoint) -> None:
        """Enter an endpoint.

        :param components: its path below this place.
        :param declared: the endpoint.
        :raise RoutingError: if that is not possible.
        """
        if not components:
            self._enter(self._ends, declared, None)
            return
        first, rest = components[0], components[1:]
        if not first.startswith(":"):
            self._child(first).add(rest, declared)
            return
        name, kind = (first[1:-1], first[-1]) if first[-1] in "?+*" else (first[1:], "")
        if not name.isidentifier() or (rest and kind in ("+", "*")):
            raise RoutingError(f"{declared.path}: {first} is not possible here")
        if kind == "*":
            self._enter(self._any_number, declared, name)
        elif kind == "+":
            self._enter(self._one_or_more, declared, name)
        else:
            if kind == "?":
                self.add(rest, declared)
            self._parameter(name, declared).add(rest, declared)

    def _enter(self, table: dict[str, Route], declared: Endpoint, parameter: str | None) -> None:
        if declared.method in table:
            raise RoutingError(f"{declared.method} {declared.path} is declared twice")
        table[declared.method] = Route(declared, parameter, self._depth)

    def _child(self, name: str) -> Place:
        child = self.children.get(name.encode())
        if child is None:
            child = Place(self._render, self._depth + 1)
            self.putChild(name.encode(), child)
        assert isinstance(child, Place)
        return child

    def _parameter(self, name: str, declared: Endpoint) -> Place:
        if self._single is None:
            self._single = name, Place(self._render, self._depth + 1)
        if self._single[0] != name:
            raise RoutingError(f"{declared.path}: :{name} is called :{self._single[0]} elsewhere")
        return self._single[1]

    def settle(self, inherited: dict[str, Route]) -> None:
        """Work out, once all endpoints are entered, what answers each method here and below.

        :param inherited: the endpoints above that take any path below them.
        """
        below = {**inherited, **self._any_number, **self._one_or_more}
        self.routes = _with_head({**inherited, **self._any_number, **self._ends})
        self._beyond = Place(self._render, self._depth + 1)
        self._beyond.isLeaf = True
        self._beyond.routes = _with_head(below)
        single = [self._single[1]] if self._single else []
        for child in (*self.children.values(), *single):
            assert isinstance(child, Place)
            child.settle(below)

    def getChildWithDefault(self, path: bytes, request: ApiRequest) -> Place:
        """Return the place one component further on.

        :param path: the component.
        :param request: the request, which collects the path's parameters.
        """
        child = self.children.get(path)
        if child is not None:
            assert isinstance(child, Place)
            return child
        if not path and self._depth == 0 and not request.postpath:
            return self  # "/" has one component, an empty one
        if self._single is not None and path:
            name, place = self._single
            request.path_parameters[name] = path.decode("latin-1")
            return place
        assert self._beyond is not None
        return self._beyond

    def endpoint_for(self, request: ApiRequest) -> Endpoint | None:
        """Return the endpoint for a request's method, and complete the path's parameters.

        :param request: the request, which the tree led here.
        """
        if request.endpoint is not None:
            return request.endpoint
        route = self.routes.get(request.method.decode("latin-1"))
        if route is None:
            return None
        request.endpoint = route.endpoint
        if route.parameter is not None:
            components = [*(request.prepath or ()), *(request.postpath or ())]
            request.path_parameters[route.parameter] = b"/".join(components[route.depth :]).decode(
                "latin-1"
            )
        return route.endpoint

    def render(self, request: ApiRequest) -> int:
        """Have the request answered by the endpoint for its method.

        :param request: the request.
        """
        return self._render(request, self.endpoint_for(request))


def _with_head(routes: dict[str, Route]) -> dict[str, Route]:
    """Let what answers GET answer HEAD, too, unless HEAD is declared as deep in the tree.

    RFC 9110 section 9.3.2: HEAD is GET without the body.
    """
    get, head = routes.get("GET"), routes.get("HEAD")
    if get is not None and (head is None or head.depth < get.depth):
        return {**routes, "HEAD": get}
    return routes


def build_tree(endpoints: Iterable[Endpoint], render: Render) -> Place:
    """Return the Resource tree of endpoints.

    :param endpoints: the declarations, bound to their handlers.
    :param render: answers a request with the endpoint it was routed to, ``None`` if there is none
        for its method; returns ``NOT_DONE_YET``.
    :raise RoutingError: if two declarations contradict each other.
    """
    root = Place(render)
    for declared in endpoints:
        root.add(path_components(declared.path), declared)
    root.settle({})
    return root


def path_components(path: str) -> list[str]:
    """Split a path into its components; leading slashes count for nothing.

    :param path: the path.
    """
    stripped = path.lstrip("/")
    return stripped.split("/") if stripped else []
