"""Tests of the TLS keys of the ``restapi`` section, as tables."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.sections import error_of, settings
from twisted_patroni.settings import TlsSettings, VerifyClient


class CertificateTests(SynchronousTestCase):
    """The files, and what is done with them."""

    def test_all_keys(self) -> None:
        """Each key has its place."""
        got = settings(
            certfile="node.pem",
            keyfile="node.key",
            keyfile_password="secret",
            cafile="ca.pem",
            crlfile="ca.crl",
            ciphers="ECDHE+AESGCM",
        )
        self.assertEqual(
            got.tls,
            TlsSettings("node.pem", "node.key", "secret", "ca.pem", "ca.crl", "ECDHE+AESGCM"),
        )
        self.assertEqual(got.warnings, ())

    def test_empty_is_absent(self) -> None:
        """What is empty, as a variable that was not filled in, is not there."""
        for empty in (None, ""):
            got = settings(
                certfile="node.pem", keyfile=empty, keyfile_password=empty, cafile=empty,
                crlfile=empty, ciphers=empty, verify_client=empty,
            )  # fmt: skip
            self.assertEqual(got.tls, TlsSettings("node.pem"), repr(empty))
            got = settings(certfile=empty, keyfile=empty, verify_client=empty)
            self.assertEqual((got.tls, got.warnings), (None, ()), repr(empty))

    def test_wrong(self) -> None:
        """A value that is no text is an error, and the password is in none."""
        rows: list[tuple[str, Any, str]] = [
            ("certfile", 7, "a path, but got 7"),
            ("certfile", False, "a path, but got False"),
            ("certfile", "a\0b", "a path, but got 'a\\x00b'"),
            ("keyfile", ["a"], "a path, but got ['a']"),
            ("keyfile_password", 1234, "text (in quotes), but got something else"),
            ("cafile", 1.5, "a path, but got 1.5"),
            ("crlfile", {}, "a path, but got {}"),
            ("ciphers", ["A"], "OpenSSL's list of ciphers, but got ['A']"),
        ]
        for key, value, expected in rows:
            error = error_of(**{"certfile": "node.pem", key: value})
            self.assertEqual(error, f"restapi.{key}: expected {expected}")

    def test_password_is_not_shown(self) -> None:
        """The key's password is in no text of the settings."""
        got = settings(certfile="node.pem", keyfile_password="secret")
        self.assertNotIn("secret", repr(got))

    def test_without_certificate(self) -> None:
        """Without a certificate the API speaks plain HTTP, and what goes for nothing is named."""
        text = "restapi.certfile: missing, so the API speaks no TLS, whatever "
        rows: list[tuple[dict[str, Any], str]] = [
            ({"cafile": "ca.pem"}, "cafile says"),
            ({"keyfile": "node.key", "crlfile": "ca.crl"}, "keyfile and crlfile say"),
            (
                {"verify_client": "required", "ciphers": "ALL", "keyfile_password": "secret"},
                "keyfile_password, ciphers and verify_client say",
            ),
            ({"certificate_watch": 5}, "certificate_watch says"),
            ({"cafile": 7}, "cafile says"),  # as upstream, which does not look at it
        ]
        for section, names in rows:
            got = settings(**section)
            self.assertIsNone(got.tls)
            self.assertIs(got.verify_client, VerifyClient.NONE)
            self.assertEqual(got.warnings, (text + names,))
        self.assertEqual(settings(verify_client="None").warnings, ())
        self.assertEqual(settings(https_extra_headers={"X": 1}).warnings, ())


class VerifyClientTests(SynchronousTestCase):
    """What is asked of clients."""

    def test_words(self) -> None:
        """The three words count in any case."""
        rows = {
            "none": VerifyClient.NONE,
            "optional": VerifyClient.OPTIONAL,
            "Required": VerifyClient.REQUIRED,
            "": VerifyClient.NONE,
        }
        for word, expected in rows.items():
            got = settings(certfile="node.pem", verify_client=word)
            self.assertIs(got.verify_client, expected, word)
            self.assertEqual(got.warnings, (), word)

    def test_unknown(self) -> None:
        """Of anything else the operator is warned, for it asks nobody for a certificate."""
        for value in ("require", True, 7, ["required"]):
            got = settings(certfile="node.pem", verify_client=value)
            self.assertIs(got.verify_client, VerifyClient.NONE, repr(value))
            self.assertEqual(
                got.warnings,
                (
                    f"restapi.verify_client: expected none, optional or required, but got"
                    f" {value!r}: no client is asked for a certificate",
                ),
            )


class WatchTests(SynchronousTestCase):
    """How often the files are looked at."""

    def test_table(self) -> None:
        """The pause is a number of seconds, maybe written as text."""
        rows: list[tuple[Any, float | None]] = [
            (None, None), (1, 1.0), (2.5, 2.5), ("30", 30.0), (86400, 86400.0),
        ]  # fmt: skip
        for value, expected in rows:
            got = settings(certfile="node.pem", certificate_watch=value)
            self.assertEqual(got.certificate_watch, expected, repr(value))

    def test_wrong(self) -> None:
        """A pause that would keep the node busy, or none at all, is an error."""
        for value in (0, 0.5, -1, 86401, "nan", "inf", "5s", "", True, [5]):
            self.assertEqual(
                error_of(certificate_watch=value),
                f"restapi.certificate_watch: expected 1 to 86400 seconds, but got {value!r}",
            )
