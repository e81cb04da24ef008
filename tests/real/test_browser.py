"""A page in a real browser that follows a node's events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.real.asking import eventually
from tests.real.browsing import Browser
from tests.real.onenode import OneNode

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = """\
<!DOCTYPE html>
<meta charset="utf-8">
<title>Events</title>
<script>
const {node} = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const tell = report => fetch("/", {method: "POST", body: JSON.stringify(report)});
const source = new EventSource(node + "/events");
for (const type of ["snapshot", "leader", "member", "node", "cluster", "config", "end"])
    source.addEventListener(type, message =>
        tell({way: "sse", id: message.lastEventId, event: JSON.parse(message.data)}));
source.onerror = () => tell({way: "sse", error: source.readyState});
const socket = new WebSocket(node.replace("http", "ws") + "/events");
socket.onmessage = message => tell({way: "websocket", event: JSON.parse(message.data)});
socket.onclose = close => tell({way: "websocket", error: close.code});
</script>
"""


class BrowserTests(OneNode):
    """A page of another origin, in Chromium."""

    async def opened(self, listed: Callable[[str], list[str]]) -> Browser:
        """Start a node and let a page follow its events.

        :param listed: makes ``restapi.origins`` of the page's origin.
        """
        browser = Browser(PAGE)
        self.addCleanup(browser.stop)
        node = await self.started({"restapi": {"origins": listed(browser.origin)}})
        browser.open({"node": node.rest_url})
        self.browser = browser
        return browser

    async def told(self, way: str, what: str, is_it: Callable[[dict[str, Any]], bool]) -> Any:
        """Return the first report about one way that is what is waited for."""

        async def look() -> dict[str, Any] | None:
            reports = [each for each in self.browser.reports if each["way"] == way]
            return next(filter(is_it, reports), None)

        return await eventually(f"{way} tells of {what}", look)

    async def test_follow(self) -> None:
        """EventSource and WebSocket show a snapshot first and then each change, with numbers."""
        await self.opened(lambda origin: [origin])
        for way in ("sse", "websocket"):
            first = (await self.told(way, "something", bool))["event"]
            self.assertEqual(first["type"], "snapshot")
            self.assertEqual(first["data"]["leader"], self.node.name)
        drained = await self.api.ask(
            "POST", f"{self.node.rest_url}/drain", {"reason": "new kernel"}
        )
        self.assertEqual(drained.code, 200)
        for way in ("sse", "websocket"):
            told = await self.told(way, "the drain", lambda each: each["event"]["type"] == "node")
            self.assertEqual(told["event"]["data"]["drain"]["reason"], "new kernel")
        numbers = [
            [each["event"]["number"] for each in self.browser.reports if each["way"] == way]
            for way in ("sse", "websocket")
        ]
        for seen in numbers:
            self.assertEqual(seen, sorted(seen))
        self.assertNotIn("error", [key for each in self.browser.reports for key in each])

    async def test_foreign(self) -> None:
        """A page that is not listed sees nothing, by either way."""
        await self.opened(lambda origin: [])
        for way in ("sse", "websocket"):
            await self.told(way, "a refusal", lambda each: "error" in each)
        self.assertEqual([each for each in self.browser.reports if "event" in each], [])
