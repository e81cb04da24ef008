"""Tests of twisted_patroni.webhooks.sender: the order, the attempts and the bounds."""

from __future__ import annotations

from collections import Counter
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseNeverReceived

from tests.logs import logged_by
from tests.webhook_cases import FakePoster, message, webhook
from twisted_patroni.engine.interface import LaneFull
from twisted_patroni.pem import TlsError
from twisted_patroni.webhooks.judging import Answer
from twisted_patroni.webhooks.sender import Sender, reason_of

NOW = 1_790_000_000.0


class SenderCase(SynchronousTestCase):
    """A test case with a sender, and a receiver that answers when the test says so."""

    def setUp(self) -> None:
        """Begin with nothing to send, and listen to the log."""
        self.events = logged_by(self, "twisted_patroni.webhooks.sender")
        self.clock = Clock()
        self.clock.advance(NOW)
        self.use()

    def use(self, **keys: Any) -> None:
        """Go on with another sender."""
        self.poster = FakePoster()
        self.counts: Counter[str] = Counter()
        self.sender = Sender(
            webhook(name="pager", **keys), self.poster, self.clock, lambda: 1.0, self.counts
        )

    @property
    def log(self) -> list[str]:
        """The lines in the log."""
        return [formatEvent(event) for event in self.events]

    def put(self, *numbers: int) -> None:
        """Have messages with these numbers sent."""
        for number in numbers:
            self.sender.put(message(number))

    def assert_counts(self, **expected: int) -> None:
        """Fail unless these are the counts, apart from the attempts."""
        found = {key: value for key, value in self.counts.items() if value and key != "attempts"}
        self.assertEqual(found, expected)


class OrderTests(SenderCase):
    """One after the other."""

    def test_one_in_flight(self) -> None:
        """The next is sent when the one before it has its answer."""
        self.put(1, 2, 3)
        self.assertEqual((self.poster.ids, self.sender.pending), (["1"], 3))
        self.poster.answer()
        self.assertEqual((self.poster.ids, self.sender.pending), (["1", "2"], 2))
        self.poster.answer()
        self.poster.answer()
        self.assertEqual((self.poster.ids, self.sender.pending), (["1", "2", "3"], 0))
        self.assert_counts(success=3)
        self.assertEqual(self.counts["attempts"], 3)
        self.put(4)
        self.assertEqual(self.poster.ids, ["1", "2", "3", "4"])
        self.assertEqual(self.log, [])

    def test_at_once(self) -> None:
        """A receiver that answers in no time gets them in order as well."""
        self.poster.answers = [200] * 500
        self.put(*range(500))
        self.assertEqual(self.poster.ids, [str(number) for number in range(500)])
        self.assert_counts(success=500)

    def test_blocks(self) -> None:
        """One that fails holds up the others until its attempts are used up."""
        self.use(retries=2)
        self.put(1, 2)
        for seconds in (1.0, 2.0):
            self.poster.answer(503)
            self.clock.advance(seconds - 0.01)
            self.assertEqual(self.poster.waiting, [])
            self.clock.advance(0.02)
        self.assertEqual(self.poster.ids, ["1"] * 3)
        self.poster.answer(503)
        self.assertEqual(self.poster.ids, ["1"] * 3 + ["2"])
        self.poster.answer(200)
        self.assert_counts(failure=1, success=1)
        self.assertEqual(self.counts["attempts"], 4)

    def test_bound(self) -> None:
        """The oldest that waits makes room, never the one on its way."""
        self.use(queue=2)
        self.put(1, 2, 3, 4, 5)
        self.assertEqual(self.sender.pending, 3)
        self.poster.answers = [200, 200]
        self.poster.answer()
        self.assertEqual(self.poster.ids, ["1", "4", "5"])
        self.assert_counts(success=3, dropped=2)


class AttemptTests(SenderCase):
    """Attempt after attempt."""

    def test_same_id(self) -> None:
        """The id stays, timestamp and signature are of the attempt."""
        self.use(secret="sixteen letters!")
        self.put(1)
        self.poster.answer(500)
        self.clock.advance(1.0)
        self.poster.answer()
        (first, body), (second, again) = self.poster.sent
        self.assertEqual((first["webhook-id"], body), (second["webhook-id"], again))
        self.assertEqual(first["webhook-timestamp"], "1790000000")
        self.assertEqual(second["webhook-timestamp"], "1790000001")
        self.assertNotEqual(first["webhook-signature"], second["webhook-signature"])

    def test_no_answer(self) -> None:
        """A failed connection is tried again as an answer of 500 is."""
        self.put(1)
        for error in (ConnectError(), DeferredTimeout(), LaneFull("webhooks", 1)):
            self.poster.answer(error)
            self.clock.advance(60)
        self.poster.answer()
        self.assert_counts(success=1)
        self.assertEqual(self.counts["attempts"], 4)

    def test_retry_after(self) -> None:
        """A receiver that wants to be left alone is left alone."""
        self.put(1)
        self.poster.answer(Answer(429, "200"))
        self.clock.advance(199.9)
        self.assertEqual(len(self.poster.sent), 1)
        self.clock.advance(0.2)
        self.assertEqual(len(self.poster.sent), 2)

    def test_refused(self) -> None:
        """What a receiver refuses is not sent again, nor is what it sends elsewhere."""
        for code in (400, 404, 301, 307):
            self.put(code)
            self.poster.answer(code)
        self.assert_counts(failure=4)
        self.assertEqual(self.counts["attempts"], 4)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_retries(self) -> None:
        """Without retries there is one attempt."""
        self.use(retries=0)
        self.put(1)
        self.poster.answer(503)
        self.assert_counts(failure=1)

    def test_gone(self) -> None:
        """A receiver that answers 410 gets nothing more until the next reload."""
        self.put(1, 2, 3)
        self.poster.answer(410)
        self.put(4)
        self.assertEqual(self.poster.ids, ["1"])
        self.assert_counts(dropped=4)
        (line,) = self.log
        self.assertEqual(
            line, "The webhook pager answers 410: it gets no events until the next reload"
        )
        self.sender.resume()
        self.put(5)
        self.poster.answer()
        self.assert_counts(dropped=4, success=1)

    def test_broken(self) -> None:
        """A fault of ours drops what waits, is logged, and does not end the webhook."""

        def fault() -> float:
            raise RuntimeError

        self.sender.random = fault
        self.put(1, 2)
        self.poster.answer(500)
        self.assert_counts(dropped=2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.put(3)
        self.poster.answer()
        self.assert_counts(dropped=2, success=1)


class LogTests(SenderCase):
    """What the log says."""

    def test_changes_only(self) -> None:
        """It tells when a webhook begins to fail, of another reason, and when it works again."""
        self.use(retries=0)
        self.put(*range(6))
        refused = ConnectError(111, "Connection refused")
        for answer in (200, 503, 503, refused, refused, 200):
            self.poster.answer(answer)
        self.assertEqual(
            self.log,
            [
                "The webhook pager does not work: it answers 503",
                "The webhook pager does not work: it cannot be reached: An error occurred while"
                " connecting: 111: Connection refused",
                "The webhook pager works again",
            ],
        )

    def test_hiccup(self) -> None:
        """What the second attempt mends is not worth a line, what it does not is."""
        self.put(1, 2, 3)
        for answer in (503, 200, 503, 503, 200, 503):
            self.poster.answer(answer)
            self.clock.advance(2.0)
        self.assertEqual(
            self.log,
            [
                "The webhook pager does not work: it answers 503",
                "The webhook pager works again",
            ],
        )

    def test_reasons(self) -> None:
        """The reason for having no answer is a short sentence, without the URL."""
        lost = ResponseNeverReceived([Failure(ConnectionLost())])
        ssl = SSL.Error([("SSL routines", "", "certificate verify failed")])
        for error, reason in (
            (DeferredTimeout(), "no answer in time"),
            (CancelledError(), "no answer in time"),
            (lost, "it closed the connection"),
            (ResponseNeverReceived([Failure(ssl)]), "TLS fails: certificate verify failed"),
            (SSL.Error(), "TLS fails: the connection was closed"),
            (SSL.Error(-1, "Unexpected EOF"), "TLS fails: the connection was closed"),
            (OSError(1, "No route"), "it cannot be reached: No route"),
            (OSError(), "it cannot be reached: OSError"),
            (TlsError("restapi.webhooks[0].cafile: no"), "restapi.webhooks[0].cafile: no"),
            (DNSLookupError("x"), "it cannot be reached: DNSLookupError"),
            (ValueError("hush"), "it cannot be asked: ValueError"),
        ):
            self.assertEqual(reason_of(error), reason, repr(error))


class EndTests(SenderCase):
    """The end of a sender."""

    def test_close_in_flight(self) -> None:
        """What is on its way or waits is counted, and nothing happens afterwards."""
        self.put(1, 2, 3)
        self.assertEqual(self.sender.close(), 3)
        self.assertTrue(self.poster.waiting[0].called)
        self.assertTrue(self.poster.closed)
        self.assert_counts(dropped=3)
        self.put(4)
        self.assertEqual(self.poster.ids, ["1"])
        self.assert_counts(dropped=4)
        self.assertEqual((self.sender.close(), self.log), (0, []))

    def test_close_waiting(self) -> None:
        """A new attempt that is due later is not made."""
        self.put(1)
        self.poster.answer(503)
        self.assertEqual(self.sender.close(), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assert_counts(dropped=1)

    def test_close_fails_oddly(self) -> None:
        """A request that ends with another error than that it was cancelled is the end as well."""
        self.put(1, 2)
        self.poster.waiting[0]._canceller = lambda it: it.errback(
            ResponseNeverReceived([Failure(ConnectionLost())])
        )
        self.assertEqual(self.sender.close(), 2)
        self.assertEqual((self.poster.ids, self.log), (["1"], []))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assert_counts(dropped=2)

    def test_hurry(self) -> None:
        """Who waits for another attempt makes it at once; it is the last one for each."""
        idle: list[int] = []
        self.sender.on_idle = lambda: idle.append(self.sender.pending)
        self.put(1, 2, 3)
        self.poster.answer(503)
        self.sender.hurry()
        self.assertEqual(self.poster.ids, ["1", "1"])
        self.poster.answers = [503, 200]
        self.poster.answer(503)
        self.assertEqual(self.poster.ids, ["1", "1", "2", "3"])
        self.assert_counts(failure=2, success=1)
        self.assertEqual(idle, [0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_hand_over(self) -> None:
        """Another sender can go on with what is not delivered, the one on its way included."""
        self.put(1, 2)
        messages = self.sender.hand_over()
        self.assertEqual([each.id for each in messages], ["stream.1", "stream.2"])
        self.assertTrue(self.poster.closed)
        self.assert_counts()
