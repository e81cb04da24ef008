"""Requests of the client: addresses, refusals, bounds, and why there is no answer."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectionLost,
    DNSLookupError,
    NoRouteError,
)
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed

from tests.event_nodes import EventNode, Network, member
from twisted_patroni.client.asking import PATIENCE, Asker
from twisted_patroni.client.body import MAX_BODY
from twisted_patroni.client.eventless import has_no_events, snapshot_of
from twisted_patroni.client.reasons import NoAnswer, reason_of, refusal
from twisted_patroni.client.urls import AddressError, base_url


class AddressTests(SynchronousTestCase):
    """URLs of nodes."""

    def test_good(self) -> None:
        """A path /patroni and a slash at the end do not count; other paths stay."""
        for url, expected in {
            "http://a:8008": "http://a:8008",
            "http://a:8008/": "http://a:8008",
            "https://a:8008/patroni": "https://a:8008",
            "https://a": "https://a",
            "http://[::1]:8008/patroni": "http://[::1]:8008",
            "http://proxy/one/patroni": "http://proxy/one",
            "HTTP://a:1": "http://a:1",
        }.items():
            self.assertEqual(base_url(url), expected)

    def test_bad(self) -> None:
        """What is no address is refused in one line, and a password is not repeated."""
        bad: list[Any] = [
            None,
            8008,
            b"http://a",
            "",
            "a",
            "a:8008",
            "ftp://a",
            "http://",
            "http://a:0",
            "http://a:x",
            "http://a:70000",
        ]
        bad += ["http://a/?x=1", "http://a/#x", "http://a b", "http://[::1", "http://\u00e9"]
        bad += ["http://a\r\nX: y", "http://a/\x1b[2J", "http://joe:s3cret@a"]
        for url in bad:
            text = str(self.assertRaises(AddressError, base_url, url))
            self.assertTrue(text.isprintable(), text)
            self.assertNotIn("s3cret", text)


class ReasonTests(SynchronousTestCase):
    """Why there is no answer, in the words of people."""

    def test_reasons(self) -> None:
        """Each of the usual reasons has its own words."""
        wrapped = ResponseFailed([Failure(ConnectionLost())])
        for error, expected in (
            (Refused(), "refuses connections"),
            (DNSLookupError(), "has a name that cannot be resolved"),
            (NoRouteError(osError="No route to host"), "cannot be reached: No route to host"),
            (wrapped, "closed the connection"),
            (VerificationError([]), "has a certificate for another name"),
            (
                SSL.Error([("", "", "certificate verify failed")]),
                "fails at TLS: certificate verify failed",
            ),
            (SSL.SysCallError(-1, "Unexpected EOF"), "fails at TLS: the connection was closed"),
            (KeyError("x"), "cannot be asked: KeyError"),
        ):
            self.assertEqual(reason_of(error), expected)

    def test_refusal(self) -> None:
        """The node's own words are passed on if they are there, not without end."""
        self.assertEqual(refusal(403), "answers 403 (Forbidden)")
        self.assertEqual(refusal(999, b"x"), "answers 999")
        for body in (b"[]", b"{", b'{"error": 1}', b"[" * 100_000, b"1"):
            self.assertEqual(refusal(403, body), "answers 403 (Forbidden)")
        self.assertTrue(refusal(403, b'{"error": "no"}').endswith(": no"))
        self.assertLess(len(refusal(403, b'{"error": "%s"}' % (b"x" * 5000))), 300)


class AskerTests(SynchronousTestCase):
    """One request."""

    def setUp(self) -> None:
        """Have a node."""
        self.node = EventNode()
        self.network = Network(a=self.node)
        self.clock = Clock()

    def document(self) -> Deferred[Any]:
        """Ask for the cluster."""
        asker = Asker(self.clock, self.network)
        asked = Deferred.fromCoroutine(asker.document("http://a:8008/cluster"))
        self.network.flush()
        return asked

    def refused(self, asked: Deferred[Any]) -> str:
        """Return why there was no answer."""
        text = str(self.failureResultOf(asked, NoAnswer).value)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return text

    def test_document(self) -> None:
        """An object is returned."""
        self.node.cluster = {"members": []}
        self.assertEqual(self.successResultOf(self.document()), {"members": []})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_document(self) -> None:
        """Anything else is no answer."""
        for answer, reason in (
            ((200, b"[]"), "answers with JSON that is no object"),
            (
                (200, b'{"a":' * 40 + b"1" + b"}" * 40),
                "answers with JSON that is nested too deeply",
            ),
            ((200, b"\xff"), "answers with what is not JSON"),
            ((401, b""), "answers 401 (Unauthorized)"),
            ((200, b" " * (MAX_BODY + 1)), f"answers with more than {MAX_BODY} bytes"),
        ):
            self.node.answer = answer
            self.assertEqual(self.refused(self.document()), reason)

    def test_time(self) -> None:
        """It waits for so long and no longer."""
        self.node.silent = True
        asked = self.document()
        self.clock.advance(PATIENCE - 0.1)
        self.assertNoResult(asked)
        self.clock.advance(0.2)
        self.assertEqual(self.refused(asked), "does not answer")

    def test_cancel(self) -> None:
        """Who cancels it learns that it is cancelled, whatever the request fails with."""
        self.node.silent = True
        asked = self.document()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class PlainTests(SynchronousTestCase):
    """Nodes without events."""

    def test_detection(self) -> None:
        """They answer that they do not know the path, or as to a health check."""
        for code, body, expected in (
            (404, b"", True),
            (501, b"", True),
            (200, b"{}", True),
            (503, b'{"state": "running", "patroni": {}}', True),
            (503, b'{"error": "too many subscribers"}', False),
            (503, b"<html>", False),
            (401, b"", False),
            (500, b'{"patroni": {}}', False),
        ):
            self.assertEqual(has_no_events(code, body), expected, (code, body))

    def test_snapshot(self) -> None:
        """Its cluster is as a snapshot would have it; strange parts are left out."""
        a, b = member("a", "leader"), member("b", "sync_standby", lag="unknown")
        del a["tags"]
        document = {
            "scope": "demo",
            "members": [a, b, 7],
            "pause": True,
            "scheduled_switchover": {"at": "2026-11-21T20:00:00+00:00"},
        }
        snapshot = snapshot_of(document, 1_790_000_000.0)
        self.assertEqual(snapshot["time"], "2026-09-21T14:13:20+00:00")
        data = snapshot["data"]
        self.assertEqual((data["leader"], data["timeline"], data["locked"]), ("a", 3, True))
        self.assertEqual((data["paused"], data["sync"]), (True, ["b"]))
        self.assertEqual(data["switchover"], document["scheduled_switchover"])
        self.assertEqual([each["tags"] for each in data["members"]], [{}, {}])
        self.assertEqual(data["members"][1]["lag_class"], "unknown")

    def test_strange(self) -> None:
        """A document without members is a cluster without members."""
        for document in ({}, {"members": 7}, {"members": "x"}, {"members": [None]}):
            self.assertEqual(snapshot_of(document, 0.0)["data"]["members"], [])
            self.assertFalse(snapshot_of(document, 0.0)["data"]["locked"])
