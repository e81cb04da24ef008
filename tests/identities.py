"""A test case with users, and a lane for their passwords that the test works off."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import Deferred

from tests.memory_api import ApiCase, Reactor, inline_lanes
from tests.sections import HASH
from tests.test_web_access import failsafe_engine
from twisted_patroni.engine.lanes import Lane, Lanes, LaneSize

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.doubles import FakeEngine
    from twisted_patroni.web.request import ApiRequest

MEMBER = "10.0.0.2"
STRANGER = "198.51.100.1"
RELOAD = ("POST", "/reload")


def login(user: str, password: str) -> dict[str, str]:
    """Return the header of a login."""
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


ALICE = login("alice", "secret")
WRONG = login("alice", "wrong")
ROOT = login("root", "toor")


class HeldLane(Lane):
    """A lane that makes its calls when the test says so."""

    def start(self) -> None:
        """Begin."""
        self.held: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Keep a call."""
        self.held.append((lambda: function(*args, **kwargs), Deferred()))
        return self.held[-1][1]

    def work(self) -> int:
        """Make the calls that wait and return their number."""
        calls, self.held = self.held, []
        for function, result in calls:
            result.callback(function())
        return len(calls)


class IdentityCase(ApiCase):
    """A test case with users.

    :ivar users: who was seen to have asked, request by request.
    """

    def use(
        self, engine: FakeEngine | None = None, lanes: Lanes | None = None, **section: Any
    ) -> Any:
        """Go on with another API, one of alice whose password is "secret" if not told otherwise."""
        section.setdefault("users", {"alice": HASH})
        api = super().use(engine, lanes or inline_lanes(), **section)
        self.users: list[str | None] = []
        answered = api.api.site.on_answered

        def note(request: ApiRequest, code: int, seconds: float) -> None:
            self.users.append(request.user)
            if answered is not None:
                answered(request, code, seconds)

        api.api.site.on_answered = note
        return api

    def hold_passwords(self) -> HeldLane:
        """Go on with an API whose passwords are verified when the test says so."""
        lane = HeldLane("passwords", Reactor(), LaneSize(1, 1))
        lane.start()
        self.use(failsafe_engine(), evolve(inline_lanes(), passwords=lane))
        return lane
