"""Tests of twisted_patroni.settings.webhooks, as tables: one row is one case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SynchronousTestCase

from tests.sections import error_of, settings
from twisted_patroni.events import TYPES
from twisted_patroni.settings.webhooks import EVENTS

if TYPE_CHECKING:
    from twisted_patroni.settings import WebhookSettings

URL = "http://hooks.example.com/in"


def hook(url: str = URL, **keys: Any) -> WebhookSettings:
    """Return the settings of one webhook."""
    (found,) = settings(webhooks=[{"url": url, **keys}]).webhooks
    return found


def hook_error(url: Any = URL, **keys: Any) -> str:
    """Return what is wrong with one webhook, without the name of the list."""
    error = error_of(webhooks=[{"url": url, **keys}])
    prefix = "restapi.webhooks[0]"
    assert error.startswith(prefix), error
    return error.removeprefix(prefix).lstrip(".")


class AcceptedTests(SynchronousTestCase):
    """What is accepted."""

    def test_defaults(self) -> None:
        """A URL is enough; operations are not told of."""
        found = hook()
        self.assertEqual((found.timeout, found.retries, found.queue), (5.0, 8, 1000))
        self.assertEqual(found.events, frozenset(EVENTS) - {"operation"})
        self.assertEqual((found.secret, found.cafile, found.certfile), (None, None, None))
        self.assertEqual(settings().webhooks, ())
        self.assertEqual(settings(webhooks=[]).webhooks, ())

    def test_types(self) -> None:
        """All types of events can be asked for."""
        self.assertEqual(set(EVENTS), set(TYPES))
        self.assertEqual(hook(events="leader").events, {"leader"})
        self.assertEqual(hook(events=["leader", "operation"]).events, {"leader", "operation"})

    def test_names(self) -> None:
        """Log and metrics call a webhook by host, port and path, unless it has a name."""
        for url, name, host, port, tls in (
            ("http://a", "a:80/", "a", 80, False),
            ("https://a", "a:443/", "a", 443, True),
            ("HTTPS://A.Example:8443/x/y?token=t", "a.example:8443/x/y", "a.example", 8443, True),
            ("http://192.0.2.1:1/?q", "192.0.2.1:1/", "192.0.2.1", 1, False),
            ("http://[2001:db8::1]/x", "[2001:db8::1]:80/x", "2001:db8::1", 80, False),
            ("http://my_host.svc.", "my_host.svc.:80/", "my_host.svc.", 80, False),
        ):
            found = hook(url)
            self.assertEqual(
                (found.name, found.host, found.port, found.tls), (name, host, port, tls)
            )
        self.assertEqual(hook(name="pager of team é").name, "pager of team é")

    def test_secrets(self) -> None:
        """A text stands for itself, and ``whsec_`` for the bytes that follow it in base64."""
        for text, key in (
            ("sixteen letters!", b"sixteen letters!"),
            ("ü" * 16, ("ü" * 16).encode()),
            ("whsec_AAECAwQFBgcICQoLDA0ODw==", bytes(range(16))),
        ):
            self.assertEqual(hook(secret=text).secret, key)

    def test_not_shown(self) -> None:
        """Neither secrets nor tokens in the URL are in what ends in a log or a traceback."""
        found = repr(
            hook(
                "https://a/x?token=hush",
                secret="hushhushhushhush",
                certfile="a.crt",
                keyfile_password="hush",
            )
        )
        self.assertNotIn("hush", found)

    def test_tls(self) -> None:
        """An https URL can have authorities and a certificate of its own."""
        found = hook("https://a", cafile="ca.crt", certfile="a.crt", keyfile="a.key")
        self.assertEqual(
            (found.cafile, found.certfile, found.keyfile), ("ca.crt", "a.crt", "a.key")
        )

    def test_same(self) -> None:
        """A webhook is the same wherever in the list it is."""
        one, other = {"url": "http://a"}, {"url": "http://b"}
        first, second = (
            settings(webhooks=order).webhooks for order in ([one, other], [other, one])
        )
        self.assertEqual(set(first), set(second))
        self.assertNotEqual(first[0].key, second[1].key)


class RefusedTests(SynchronousTestCase):
    """What is refused; the error names the key, and shows neither URL nor secret."""

    def test_urls(self) -> None:
        """URLs that nothing can be sent to, or that hold a password."""
        expected = "url: expected an http or https URL"
        ascii_only = f"{expected} in ASCII"
        scheme = "url: expected a URL that begins with http:// or https://"
        for url, begin in (
            (None, f"{expected}, but it is missing"),
            ("", f"{expected}, but it is missing"),
            (7, f"{expected}, but got something else"),
            ("http://a/hush hush", ascii_only),
            ("http://hüsh/", ascii_only),
            ("http://a/\r\nx: hush", ascii_only),
            ("hush", scheme),
            ("ftp://hush/", scheme),
            ("//hush/", scheme),
            ("http://", f"{expected} with a host name or an address"),
            ("http:///hush", f"{expected} with a host name or an address"),
            ("http://a,hush/", f"{expected} with a host name or an address"),
            ("http://a:0/hush", f"{expected} with a host name or an address"),
            ("http://[::1%25hush]/", expected),
            ("http://[hush]/", expected),
            ("http://[v1.hush]/", expected),
            ("http://[v1.hush:1]/", expected),
            ("http://a:99999/hush", f"{expected}, but host or port is none"),
            ("http://a:hush/", expected),
            ("http://me:hush@a/", "url: no user and password can be in the URL"),
            ("http://hush@a/", "url: no user and password can be in the URL"),
            ("http://a/#hush", "url: expected a URL without a fragment"),
        ):
            error = hook_error(url)
            self.assertTrue(error.startswith(begin), (url, error))
            self.assertNotIn("hush", error)

    def test_values(self) -> None:
        """Values that are out of bounds or of another kind."""
        events = "events: expected leader, cluster, member, node, config, history, operation or a"
        name = "name: expected 1 to 100 printable characters"
        rows: list[tuple[dict[str, Any], str]] = [
            ({"timeout": 0.4}, "timeout: expected 0.5 to 60 seconds, but got 0.4"),
            ({"timeout": 61}, "timeout: expected 0.5 to 60 seconds"),
            ({"retries": -1}, "retries: expected 0 to 20"),
            ({"retries": 21}, "retries: expected 0 to 20"),
            ({"queue": 0}, "queue: expected 1 to 100000"),
            ({"queue": 100_001}, "queue: expected 1 to 100000"),
            ({"events": []}, events),
            ({"events": None}, events),
            ({"events": "everything"}, events),
            ({"events": ["leader", 7]}, events),
            ({"events": [["leader"]]}, events),
            ({"name": ""}, name),
            ({"name": "x" * 101}, name),
            ({"name": "a\nb"}, name),
            ({"colour": "red"}, ": unknown key 'colour'; the keys are url, name, events,"),
        ]
        for keys, begin in rows:
            self.assertTrue(hook_error(**keys).startswith(begin), (keys, hook_error(**keys)))

    def test_secrets(self) -> None:
        """Secrets that are short or damaged, and the lack of one where one was meant."""
        rows: list[Any] = [
            *("", None, 7, "hush", "fifteen hushes!"),
            *("whsec_hush", "whsec_aHVzaA==", "whsec_!!!!aHVzaGh1c2hodXNoaHVzaA=="),
        ]
        for secret in rows:
            error = hook_error(secret=secret)
            self.assertTrue(error.startswith("secret: expected whsec_ and the base64"), secret)
            self.assertTrue(error.endswith("but got something else"), secret)
            self.assertNotIn("hush", error)

    def test_tls(self) -> None:
        """Files of TLS without TLS, and a key without its certificate."""
        for key in ("cafile", "certfile", "keyfile"):
            self.assertEqual(
                hook_error(**{key: "x"}), f"{key}: has no effect, for the url is not https"
            )
        for key in ("keyfile", "keyfile_password"):
            error = hook_error("https://a", **{key: "x"})
            self.assertEqual(error, "certfile: expected a path, but it is missing")

    def test_list(self) -> None:
        """The list is one of mappings, not too long, and nothing in it is there twice."""
        self.assertEqual(
            error_of(webhooks=URL),
            "restapi.webhooks: expected a list of mappings, not a str",
        )
        self.assertEqual(
            error_of(webhooks=[URL]), "restapi.webhooks[0]: expected a mapping, but got a str"
        )
        many = [{"url": f"http://h{number}"} for number in range(21)]
        self.assertEqual(error_of(webhooks=many), "restapi.webhooks: expected no more than 20")
        twice = [{"url": f"{URL}?a"}, {"url": f"{URL}?b"}]
        self.assertEqual(
            error_of(webhooks=twice),
            "restapi.webhooks[1].name: 'hooks.example.com:80/in' is there twice; give each webhook"
            " a name of its own",
        )
        named = [{**each, "name": str(number)} for number, each in enumerate(twice)]
        self.assertEqual(error_of(webhooks=named), "")
