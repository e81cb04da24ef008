"""Tests of twisted_patroni.settings.origins: whose pages may follow a node's events."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.sections import error_of, settings


class OriginTests(SynchronousTestCase):
    """The key ``origins``."""

    def test_good(self) -> None:
        """Origins are compared as browsers write them: in lower case, without a usual port."""
        self.assertEqual(settings().origins, frozenset())
        self.assertEqual(settings(origins=[]).origins, frozenset())
        for given, known in (
            ("https://dash.example:8443", "https://dash.example:8443"),
            ("HTTPS://Dash.Example:443", "https://dash.example"),
            ("http://10.0.0.1:80", "http://10.0.0.1"),
            ("http://localhost:443", "http://localhost:443"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("https://a_b.example", "https://a_b.example"),
        ):
            self.assertEqual(settings(origins=[given]).origins, {known})

    def test_bad(self) -> None:
        """Anything else is an error that names the key and the value."""
        for given in (
            "*",
            "null",
            "",
            "dash.example",
            "https://",
            "https://dash.example/",
            "https://dash.example/path",
            "https://*.example",
            "https://ann@dash.example",
            "ftp://dash.example",
            "https://dash.example:0",
            "https://dash.example:65536",
            "https://dash.example:",
            "https://dash.example https://other.example",
            "https://dash.example\n",
            5,
            None,
            ["https://dash.example"],
        ):
            error = error_of(origins=[given])
            self.assertIn("restapi.origins: expected origins like", error)
            self.assertIn(repr(given), error)

    def test_no_list(self) -> None:
        """One that is not in a list is an error, too."""
        for given in ("https://dash.example", {"a": 1}, 5, True):
            self.assertIn("restapi.origins: expected a list", error_of(origins=given))
