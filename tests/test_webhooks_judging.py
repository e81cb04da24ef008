"""Tests of twisted_patroni.webhooks.judging, and of what the documentation says of signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.sections import settings
from tests.test_docs import ROOT, blocks, table, text_of
from tests.webhook_cases import SECRET, message, webhook
from twisted_patroni import __version__
from twisted_patroni.events.model import encoded
from twisted_patroni.settings.webhooks import EVENTS, KEYS
from twisted_patroni.webhooks.judging import (
    Answer,
    Message,
    Verdict,
    headers,
    judge,
    pause,
    signature,
)

if TYPE_CHECKING:
    from twisted_patroni.settings import WebhookSettings

PAGE = ROOT / "docs" / "webhooks.md"
NOW = 1_790_000_000


class VerdictTests(SynchronousTestCase):
    """What a status means."""

    def test_table(self) -> None:
        """2xx is good, some are worth another attempt, 410 is the end, and the rest is lost."""
        for verdict, codes in {
            Verdict.DELIVERED: (200, 201, 202, 204, 299),
            Verdict.AGAIN: (408, 425, 429, 500, 502, 503, 504, 599),
            Verdict.FAILED: (300, 301, 302, 307, 308, 400, 401, 403, 404, 413, 422, 451),
            Verdict.GONE: (410,),
        }.items():
            for code in codes:
                self.assertIs(judge(code), verdict, code)


class PauseTests(SynchronousTestCase):
    """How long to wait for the next attempt."""

    def test_doubles(self) -> None:
        """The longest pause doubles from a second up to a minute; chance takes a part of it."""
        longest = [pause(attempts, None, lambda: 1.0, NOW) for attempts in range(1, 9)]
        self.assertEqual(longest, [1, 2, 4, 8, 16, 32, 60, 60])
        self.assertEqual(pause(4, None, lambda: 0.25, NOW), 2.0)
        self.assertEqual(pause(4, None, lambda: 0.0, NOW), 0.0)

    def test_retry_after(self) -> None:
        """A receiver is left alone for as long as it asks, up to five minutes."""
        for text, seconds in (
            ("7", 7),
            ("0", 0.5),
            ("301", 300),
            ("9" * 400, 300),
            (formatdate(NOW + 20, usegmt=True), 20),
            (formatdate(NOW + 2000, usegmt=True), 300),
            (formatdate(NOW - 20, usegmt=True), 0.5),
            ("Mon, 21 Sep 2026 14:13:40 -0000", 20),
            ("", 0.5),
            ("-3", 0.5),
            ("soon", 0.5),
            ("\u0663", 0.5),
        ):
            self.assertEqual(pause(1, Answer(503, text), lambda: 0.5, NOW), seconds, text)

    @given(st.text(max_size=40))
    def test_nonsense(self, text: str) -> None:
        """Nothing that a receiver says makes the pause longer than that, or fails."""
        self.assertTrue(0 <= pause(9, Answer(429, text), lambda: 1.0, NOW) <= 300)


class HeaderTests(SynchronousTestCase):
    """What goes with an attempt."""

    def test_signature(self) -> None:
        """The signature is what the specification says of id, timestamp and body."""
        key = b"0123456789abcdef"
        expected = hmac.new(key, b"s.1.1790000000.{}", hashlib.sha256).digest()
        got = signature(key, "s.1", NOW, b"{}")
        self.assertEqual(got, f"v1,{base64.b64encode(expected).decode()}")

    def test_reference(self) -> None:
        """It is that of the example which the specification's own libraries are tested with."""
        key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        got = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
        self.assertEqual(got, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")

    def test_unsigned(self) -> None:
        """Without a secret there is no signature."""
        found = headers(message(1), None, NOW)
        self.assertEqual(
            found,
            {
                "Content-Type": "application/json",
                "User-Agent": f"twisted_patroni/{__version__}",
                "webhook-id": "stream.1",
                "webhook-timestamp": "1790000000",
            },
        )
        signed = headers(message(1), b"x" * 16, NOW)
        self.assertEqual(set(signed) - set(found), {"webhook-signature"})

    def test_not_shown(self) -> None:
        """A message does not show its body in a log."""
        self.assertNotIn("number", repr(message(1)))


def accepted(entry: dict[str, Any]) -> WebhookSettings:
    """Return the settings of a webhook as the configuration has it."""
    return settings(webhooks=[entry]).webhooks[0]


class PageTests(SynchronousTestCase):
    """The page about webhooks, and the table of their keys."""

    def setUp(self) -> None:
        """Run the page's example of a receiver."""
        (source,) = blocks(PAGE, "python")
        self.example: dict[str, Any] = {}
        exec(compile(source, str(PAGE), "exec"), self.example)
        self.patch(self.example["time"], "time", lambda: NOW + 3.5)

    def test_verified(self) -> None:
        """The example takes what is sent, with either kind of secret, and nothing else."""
        for secret in (SECRET, "a text of some length"):
            key = webhook(secret=secret).secret
            sent = Message("stream.1", "leader", '{"née": 1}'.encode())
            found = headers(sent, key, NOW)
            verified = self.example["verified"]
            self.assertTrue(verified(found, sent.body, secret))
            several = {**found, "webhook-signature": f"v1,x {found['webhook-signature']} v2,y"}
            self.assertTrue(verified(several, sent.body, secret))
            self.assertFalse(verified(found, sent.body + b" ", secret))
            self.assertFalse(verified(found, sent.body, "another text of some length"))
            self.assertFalse(verified({**found, "webhook-id": "stream.2"}, sent.body, secret))
            old = headers(sent, key, NOW - 400)
            self.assertFalse(verified(old, sent.body, secret))

    def test_shown(self) -> None:
        """What the page shows to be sent is signed with the secret that it shows."""
        page = text_of(PAGE)
        (shown,) = re.findall(r"^    (POST .*?\n\n.*?)\n\n", page, re.DOTALL | re.MULTILINE)
        head, _, body = re.sub("\n    ", "\n", shown).partition("\n\n")
        found = dict(line.split(": ", 1) for line in head.splitlines()[1:])
        one_line = body.replace("\n", "")
        (secret,) = re.findall(r"secret: (\S+)", page)
        key = webhook(secret=secret).secret
        sent = Message(found["webhook-id"], "leader", one_line.encode())
        self.assertEqual(found, headers(sent, key, int(found["webhook-timestamp"])))
        event = json.loads(one_line)
        self.assertEqual(one_line, encoded(event))
        self.assertEqual(list(event), ["number", "time", "type", "data", "scope", "node"])
        self.assertTrue(found["webhook-id"].endswith(f".{event['number']}"))

    def test_types(self) -> None:
        """The page tells of each type of event who sends it."""
        rows = re.findall(r"^\| `(\w+)` \|", text_of(PAGE), re.MULTILINE)
        self.assertEqual(set(rows), set(EVENTS))

    def test_keys(self) -> None:
        """The table of keys has all of them, with their defaults and what is accepted."""
        rows = table("webhooks")
        self.assertEqual(tuple(rows), KEYS)
        for key in ("timeout", "retries", "queue"):
            self.assertEqual(float(rows[key]["Default"]), getattr(webhook(), key), key)
            low, _, high = rows[key]["Accepted"].partition(" to ")
            for value in (low, high):
                entry = {"url": "http://a", key: value}
                self.assertEqual(float(getattr(accepted(entry), key)), float(value))
        for word in EVENTS:
            self.assertIn(f"`{word}`", rows["events"]["Accepted"])
