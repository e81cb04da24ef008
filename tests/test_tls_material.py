"""What is read from files: facts, warnings, changes, and one line for each thing that is wrong."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.certificates import Authority, Certificate, self_signed
from tests.handshakes import TlsCase
from twisted_patroni.settings import SettingsError, TlsSettings, VerifyClient
from twisted_patroni.tls import TlsError, digest, load

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class ErrorTests(TlsCase):
    """Files that are wrong."""

    def check(self, expected: str, **settings: Any) -> None:
        """Load files and compare the error with its line, where ``@`` is the files' directory."""
        with self.assertRaises(TlsError) as raised:
            self.material(verify=VerifyClient.REQUIRED, **settings)
        line = str(raised.exception)
        self.assertEqual(line.replace(str(self.directory), "@"), expected)
        self.assertIsInstance(raised.exception, SettingsError)

    def test_unreadable(self) -> None:
        """Each key is named when its file cannot be read."""
        missing = str(self.directory / "none")
        for key in ("certfile", "keyfile", "cafile", "crlfile"):
            expected = f"restapi.{key}: cannot read @/none: No such file or directory"
            self.check(expected, **{key: missing})
        self.check("restapi.keyfile: cannot read @: Is a directory", keyfile=str(self.directory))
        self.check("restapi.cafile: cannot read \0: embedded null byte", cafile="\0")

    def test_empty(self) -> None:
        """Files that hold something else say so."""
        other = self.write("other", b"else\n")
        for key, what in (
            ("certfile", "certificate"),
            ("keyfile", "private key"),
            ("cafile", "certificate"),
            ("crlfile", "revocation list"),
        ):
            self.check(f"restapi.{key}: @/other holds no {what} in PEM", **{key: other})

    def test_damaged(self) -> None:
        """Files that are damaged are told from those that hold something else."""
        certificate = self.authority.server("localhost")
        for key, content, what in (
            ("certfile", certificate.pem, "certificate"),
            ("keyfile", certificate.key_pem(), "private key"),
            ("cafile", self.authority.pem, "certificate"),
            ("crlfile", self.authority.revoke(), "revocation list"),
        ):
            damaged = self.write("damaged", content.replace(b"\nM", b"\nN", 1))
            with self.assertRaises(TlsError) as raised:
                self.material(certificate, VerifyClient.NONE, **{key: damaged})
            line = str(raised.exception)
            self.assertIn(f"restapi.{key}: {damaged} holds no usable {what}: ", line)
            self.assertNotIn("\n", line)

    def test_password(self) -> None:
        """A wrong password and a missing one are told apart, in both forms of keys."""
        certificate = self.authority.server("localhost")
        for form in ("pkcs8", "traditional"):
            keyfile = self.write("locked", certificate.key_pem("good", form))
            self.check(
                "restapi.keyfile: the password is wrong", keyfile=keyfile, keyfile_password="bad"
            )
            self.check(
                "restapi.keyfile: @/locked is encrypted, and there is no restapi.keyfile_password",
                keyfile=keyfile,
            )

    def test_no_key(self) -> None:
        """Without ``keyfile`` the key must be in ``certfile``."""
        self.check("restapi.certfile: @/server.crt holds no private key in PEM", keyfile=None)

    def test_mismatch(self) -> None:
        """A key of another certificate is refused, of the same kind or not."""
        for kind in ("ecdsa", "rsa"):
            other = self.authority.server("localhost", key=kind)
            keyfile = self.write("other.key", other.key_pem())
            self.check(
                "restapi.keyfile: @/other.key does not belong to the certificate in @/server.crt",
                keyfile=keyfile,
            )

    def test_kinds(self) -> None:
        """Keys that TLS has no use for, in either file, are refused."""
        key = x25519.X25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        self.check(
            "restapi.keyfile: @/x25519.key holds a key of a kind that TLS cannot use",
            keyfile=self.write("x25519.key", key),
        )
        der = self.authority.server("localhost").certificate.public_bytes(Encoding.DER)
        unknown = der.replace(b"\x2a\x86\x48\xce\x3d\x02\x01", b"\x2a\x86\x48\xce\x3d\x02\x7f")
        self.check(
            "restapi.keyfile: @/server.key does not belong to the certificate in @/unknown.crt",
            certfile=self.write("unknown.crt", ssl.DER_cert_to_PEM_cert(unknown).encode()),
        )

    def test_ciphers(self) -> None:
        """A list without a single cipher for TLS 1.2 is refused."""
        for ciphers in ("NOSUCH", "TLS_AES_128_GCM_SHA256"):
            self.check(f"restapi.ciphers: OpenSSL knows none of {ciphers!r}", ciphers=ciphers)

    def test_refused(self) -> None:
        """What OpenSSL refuses is told in its words."""
        self.check(
            "restapi.certfile: OpenSSL refuses @/server.crt: ee key too small",
            ciphers="DEFAULT@SECLEVEL=4",
        )


class FactTests(TlsCase):
    """What is told of the server's certificate."""

    def test_facts(self) -> None:
        """Subject, time and names are those of the certificate, its serial number Patroni's."""
        for serial in (0x1, 0xABC, 0x0123456789ABCDEF0123):
            certificate = self.authority.server(
                "a.example.com",
                "10.0.0.7",
                serial=serial,
                not_before=NOW,
                not_after=NOW + DAY,
            )
            found = self.material(certificate).certificate
            certfile = str(self.directory / "server.crt")
            decoded = ssl._ssl._test_decode_cert(certfile)  # type: ignore[attr-defined]
            self.assertEqual(found.serial, decoded["serialNumber"])
            self.assertEqual(found.subject, "CN=a.example.com")
            self.assertEqual((found.not_before, found.not_after), (NOW, NOW + DAY))
            self.assertEqual(found.hosts, ("a.example.com", "10.0.0.7"))

    def test_modes(self) -> None:
        """There is a context for each mode that was asked for, and for no other."""
        settings = self.material().settings
        for wanted in ((), (VerifyClient.NONE,), tuple(VerifyClient)):
            self.assertEqual(set(load(settings, wanted).contexts), set(wanted))

    def test_secret(self) -> None:
        """Neither key nor password can be read from the representation."""
        certificate = self.authority.server("localhost")
        keyfile = self.write("locked", certificate.key_pem("good secret"))
        material = self.material(certificate, keyfile=keyfile, keyfile_password="good secret")
        self.assertNotIn("secret", repr(material))
        self.assertNotIn("PRIVATE", repr(material))


class DigestTests(TlsCase):
    """Changes that are noticed."""

    def settings(self) -> TlsSettings:
        """Write all files anew."""
        crlfile = self.write("crl.pem", self.authority.revoke())
        return self.material(crlfile=crlfile).settings

    def test_same(self) -> None:
        """As long as nothing has changed, the digest stays, touched files or not."""
        settings = self.settings()
        before = load(settings, VerifyClient).digest
        for path in self.directory.iterdir():
            os.utime(path)
        self.assertEqual(digest(settings), before)
        self.assertEqual(load(settings, ()).digest, before)

    def test_files(self) -> None:
        """Each file counts, a new key and a new authority under the old serial number, too."""
        settings = self.settings()
        serial = load(settings, ()).certificate.serial
        again = self.authority.server("localhost", serial=int(serial, 16))
        for key, content in (
            ("keyfile", again.key_pem()),
            ("certfile", again.pem),
            ("cafile", Authority().pem),
            ("crlfile", self.authority.revoke(again)),
        ):
            before = digest(settings)
            Path(getattr(settings, key)).write_bytes(content)
            self.assertNotEqual(digest(settings), before, key)
        self.assertEqual(load(settings, ()).certificate.serial, serial)

    def test_settings(self) -> None:
        """Each setting counts."""
        settings = self.settings()
        changed = [
            evolve(settings, ciphers="ECDHE+AESGCM"),
            evolve(settings, keyfile_password="secret"),
            evolve(settings, cafile=None),
            evolve(settings, crlfile=None),
            evolve(settings, keyfile=None),
        ]
        self.assertEqual(len({digest(each) for each in (settings, *changed)}), 6)

    def test_gone(self) -> None:
        """A file that has gone is an error, not a change."""
        settings = self.settings()
        Path(settings.certfile).unlink()
        with self.assertRaisesRegex(TlsError, r"restapi\.certfile: cannot read"):
            digest(settings)


class WarningTests(TlsCase):
    """What the operator should know."""

    def warnings(self, certificate: Certificate | None = None, **settings: Any) -> list[str]:
        """Return the warnings, at noon of a certain day."""
        return list(self.material(certificate, VerifyClient.OPTIONAL, **settings).warnings(NOW))

    def check(self, found: list[str], *expected: str) -> None:
        """Compare lines with their beginnings and their ends, where ``...`` stands between."""
        self.assertEqual(len(found), len(expected), found)
        for line, pattern in zip(found, expected, strict=True):
            start, _, end = pattern.partition("...")
            self.assertTrue(line.startswith(start) and line.endswith(end), line)

    def lasting(self, start: datetime, end: datetime) -> Certificate:
        """Return a server's certificate."""
        return self.authority.server("localhost", not_before=start, not_after=end)

    def test_fine(self) -> None:
        """Nothing is said of what is fine."""
        self.check(self.warnings(self.lasting(NOW - DAY, NOW + 15 * DAY)))

    def test_time(self) -> None:
        """A certificate that has expired, will soon, or is not valid yet serves with a warning."""
        whose = "restapi.certfile: the certificate of CN=localhost"
        for start, end, expected in (
            (-2, 0, "has EXPIRED at 2026-05-04 12:00:00+00:00: who verifies it refuses it"),
            (1, 50, "is NOT YET VALID before 2026-05-05 12:00:00+00:00: ... refuses it"),
            (-1, 14, "expires soon, at 2026-05-18 12:00:00+00:00"),
        ):
            found = self.warnings(self.lasting(NOW + start * DAY, NOW + end * DAY))
            self.check(found, f"{whose} {expected}")

    def test_authority_expired(self) -> None:
        """An authority that has expired is one that no client's certificate can come from."""
        old = self_signed("old CA", not_after=NOW - DAY)
        found = self.warnings(
            self.lasting(NOW - DAY, NOW + 15 * DAY), cafile=self.write("old.pem", old.pem)
        )
        self.check(found, "restapi.cafile: the certificate of CN=old CA has EXPIRED at ...")

    def test_lists(self) -> None:
        """An outdated list, one of the future, and one that is missing lock clients out."""
        good = self.lasting(NOW - DAY, NOW + 15 * DAY)
        whose = "restapi.crlfile: the list of OU=test CA,"
        for start, end, expected in ((-2, 0, "OUTDATED"), (1, 2, "NOT YET VALID"), (0, 1, "")):
            content = self.authority.revoke(
                last_update=NOW + start * DAY, next_update=NOW + end * DAY
            )
            found = self.warnings(good, crlfile=self.write("crl.pem", content))
            lines = [f"{whose}... certificates are refused"] if expected else []
            self.check(found, *lines)
            self.assertIn(expected, "".join(found))
        other = Authority("other CA").revoke(last_update=NOW - DAY, next_update=NOW + DAY)
        found = self.warnings(good, crlfile=self.write("crl.pem", other))
        self.check(found, "restapi.crlfile holds no list of OU=test CA,...are refused")

    def test_no_authorities(self) -> None:
        """Whoever asks for certificates without an authority is told that none will do."""
        good = self.lasting(NOW - DAY, NOW + 15 * DAY)
        self.check(self.warnings(good, cafile=None), "restapi.cafile is not set: ...")
        self.assertEqual(self.material(good, cafile=None).warnings(NOW), ())

    def test_key_exposed(self) -> None:
        """A key that others may read is worth a line; root's may be a group's, as in PostgreSQL."""
        good = self.lasting(NOW - DAY, NOW + 15 * DAY)
        root = os.geteuid() == 0
        keyfile = self.directory / "exposed.key"
        keyfile.write_bytes(good.key_pem())
        line = f"the file of the private key, {keyfile}, can be read by other accounts"
        for mode, exposed in ((0o600, False), (0o640, not root), (0o604, True), (0o660, True)):
            keyfile.chmod(mode)
            expected = [line] if exposed else []
            self.assertEqual(self.warnings(good, keyfile=str(keyfile)), expected, oct(mode))
