"""A running daemon takes up what changed, and no client is worse off for it."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen
from twisted.internet.threads import deferToThread

from tests.certificates import Authority
from tests.real.asking import Api, eventually, together
from tests.real.faults import step
from tests.real.harness import free_ports, rewrite_node_file
from tests.real.onenode import OneNode
from tests.real.operating import patronictl
from tests.real.visiting import (
    CUT,
    FORBIDDEN,
    HARMLESS,
    LET_IN,
    NO_PASSWORD,
    Renewer,
    Visit,
    Visitor,
    trusting,
)
from tests.real.watching import REFUSED, Sampler, looked, sampling
from twisted_patroni.demo.layout import AUTHORITY, HOST

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator

    from twisted_patroni.demo import Node

CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
)
#: For each turn what is asked of clients, and how one without a certificate fares with a request
#: that would change something.
MODES = (("required", CUT), ("optional", FORBIDDEN), ("none", LET_IN))
#: The metrics that show the certificate.
SHOWN = (
    "twisted_patroni_certificate_info",
    "twisted_patroni_certificate_not_after_timestamp_seconds",
)

Look = Callable[[], Awaitable[bool]]


@frozen
class Change:
    """Something that an operator changes.

    :param name: what.
    :param section: what to replace in the ``restapi`` section.
    :param counts: tells whether new connections see it.
    :param ctl: what to replace in the ``ctl`` section.
    """

    name: str
    section: dict[str, Any]
    counts: Look
    ctl: dict[str, Any] = field(factory=dict)


class SecureNode(OneNode):
    """One node over TLS, and clients of it."""

    tls = True

    async def started(self, overrides: Any = None) -> Node:
        """Return a node that is a running primary.

        :param overrides: what to change in the configuration.
        """
        node = await super().started(overrides)
        self.keys = node.place.keys
        self.renewer = Renewer(self.keys)
        self.visitor = Visitor(node.place.rest_port, trusting(self.keys), self.api.login)
        return node

    async def in_use(self, former: str) -> Visit:
        """Wait until the server shows another certificate.

        :param former: the serial number of the one before.
        """

        async def look() -> Visit | None:
            visit = await self.visitor.visit()
            return None if visit.serial == former else visit

        return await eventually("another certificate is in use", look)


class LiveReloadTests(SecureNode):
    """Whatever changes and however the daemon is told, it counts from the next connection on."""

    async def test_reload(self) -> None:
        """Twenty-one reloads, a certificate exchanged in each, and not one client turned away."""
        node = await self.started()
        strangers = Visitor(node.place.rest_port)
        knocks, visits = Sampler(strangers.knock, 0.001), Sampler(self.visitor.ask, 0.01)
        kept = await deferToThread(self.visitor.connect)
        self.addCleanup(kept.close)
        ways = {"SIGHUP": self.by_signal, "POST": self.by_request, "patronictl": self.by_command}
        with sampling(knocks, visits):
            for number, (name, way) in enumerate(ways.items()):
                for change in self.changes(number):
                    with step(f"{change.name}, told by {name}", node.place.log_file):
                        await self.make(change, way, kept)
                        await together(looked(knocks, 50), looked(visits, 2))
        self.assertEqual({sample.seen for sample in knocks.samples}, {""})
        failed = [one.seen for one in visits.samples if one.seen.seen != 200]
        self.assertEqual(failed, [])
        self.assertGreaterEqual(len({one.seen.serial for one in visits.samples}), 21)

    async def make(
        self, change: Change, way: Callable[[], Awaitable[None]], kept: http.client.HTTPConnection
    ) -> None:
        """Change something and renew the certificate, and see that both count.

        :param change: what to change.
        :param way: tells the daemon.
        :param kept: a connection of before.
        """
        before = await self.visitor.visit()
        self.renewer.renew(self.node.name)
        rewrite_node_file(self.node, {"restapi": change.section, "ctl": change.ctl})
        await way()
        await self.in_use(before.serial)
        await eventually("the change counts", change.counts)
        goes_on = await deferToThread(self.visitor.request, kept)
        self.assertEqual(goes_on.seen, 200)

    async def by_signal(self) -> None:
        """Tell the daemon by SIGHUP."""
        self.reload()

    async def by_request(self) -> None:
        """Tell the daemon by ``POST /reload``."""
        reply = await self.api.ask("POST", f"{self.node.rest_url}/reload")
        self.assertEqual((reply.code, reply.text), (202, "reload scheduled"))

    async def by_command(self) -> None:
        """Tell the daemon by ``patronictl reload``."""
        assert self.api.login is not None
        # The file may have the password of after the reload already.
        variables = ("PATRONI_CTL_USERNAME", "PATRONI_CTL_PASSWORD")
        done = await patronictl(
            self.node.config_file,
            *("reload", "demo", "--force"),
            environment=dict(zip(variables, self.api.login, strict=True)),
        )
        self.assertEqual(done.code, 0, done.output)
        self.assertIn("Reload request received for member pg1", done.output)

    def changes(self, number: int) -> Iterator[Change]:
        """Return what to change in a turn, one after the other.

        :param number: of the turn, from 0.
        """
        yield Change("certificate", {}, self.always)
        yield self.authority(number)
        yield self.ciphers(number)
        yield self.mode(number)
        yield self.password(number)
        yield self.allowlist(number)
        yield self.headers(number)

    async def always(self) -> bool:
        """Tell that there is nothing more to see."""
        return True

    def authority(self, number: int) -> Change:
        """Trust one more authority for clients, and no longer the one of the turn before."""
        newcomer, home = Authority(f"newcomer {number}"), self.node.place.home
        context = trusting(self.keys, None)
        context.load_cert_chain(*newcomer.client("visitor").write(home, f"visitor{number}"))
        bundle = home / f"clients{number}.pem"
        bundle.write_bytes(self.keys.certificate(AUTHORITY).read_bytes() + newcomer.pem)
        visitor = evolve(self.visitor, context=context)

        async def counts() -> bool:
            # Nobody is asked for a certificate in the mode "none": then any client gets in.
            return (await visitor.visit(*HARMLESS)).seen == LET_IN

        return Change("authority", {"cafile": str(bundle)}, counts)

    def ciphers(self, number: int) -> Change:
        """Speak TLS 1.2 with one cipher only."""
        old = evolve(self.visitor, context=trusting(self.keys, version=ssl.TLSVersion.TLSv1_2))

        async def counts() -> bool:
            return (await old.visit()).cipher == CIPHERS[number]

        return Change("ciphers", {"ciphers": CIPHERS[number]}, counts)

    def mode(self, number: int) -> Change:
        """Ask something else of clients."""
        mode, seen = MODES[number]
        stranger = evolve(self.visitor, context=trusting(self.keys, None))

        async def counts() -> bool:
            return (await stranger.visit(*HARMLESS)).seen == seen

        return Change("verify_client", {"verify_client": mode}, counts)

    def password(self, number: int) -> Change:
        """Want another password."""
        assert self.api.login is not None
        login = (self.api.login[0], f"changed {number}")
        former, visitor = self.visitor, evolve(self.visitor, login=login)

        async def counts() -> bool:
            seen = [(await each.visit(*HARMLESS)).seen for each in (former, visitor)]
            if seen != [NO_PASSWORD, LET_IN]:
                return False
            self.visitor, self.api = visitor, Api(login, self.api.policy)
            return True

        section = {"authentication": dict(zip(("username", "password"), login, strict=True))}
        return Change("authentication", section, counts, section)

    def allowlist(self, number: int) -> Change:
        """Let another address in."""
        before, now = (
            evolve(self.visitor, source=f"127.0.0.{20 + each}") for each in (number - 1, number)
        )

        async def counts() -> bool:
            seen = [(await each.visit(*HARMLESS)).seen for each in (before, now)]
            return seen == [FORBIDDEN, LET_IN]

        return Change("allowlist", {"allowlist": [HOST, now.source]}, counts)

    def headers(self, number: int) -> Change:
        """Send other headers."""

        async def counts() -> bool:
            headers = (await self.visitor.visit("GET", "/patroni")).headers
            return (headers.get("x-turn"), headers.get("x-secure")) == (plain, secure)

        plain, secure = f"{number}", f"over TLS {number}"
        section = {
            "http_extra_headers": {"X-Turn": plain},
            "https_extra_headers": {"X-Secure": secure},
        }
        return Change("headers", section, counts)


class RenewalTests(SecureNode):
    """Certificates that do not fit, that nobody tells of, and listeners that move."""

    async def test_renewal(self) -> None:
        """What does not fit is told and not used; what is renewed is noticed and shown."""
        node = await self.started()
        log = node.place.log_file
        first = await self.visitor.visit()
        with step("a certificate that does not fit its key", log), self.renewer.damaged(node.name):
            self.reload()
            await self.logged("restapi.keyfile: ")
            complaint = "does not belong to the certificate in"
            (line,) = (line for line in self.log().splitlines() if complaint in line)
            self.assertIn("ERROR: The restapi section is not reloaded: ", line)
            self.assertEqual((await self.visitor.visit()).serial, first.serial)
        with step("the next one that fits", log):
            self.renewer.renew(node.name)
            self.reload()
            second = await self.in_use(first.serial)
            await self.assert_shown(second.serial)
        with step("a certificate that is watched", log):
            self.reload(certificate_watch=1, http_extra_headers={"X-Turn": "watched"})

            async def watched() -> bool:
                return "x-turn" in (await self.visitor.visit("GET", "/patroni")).headers

            await eventually("the reload counts", watched)
            self.renewer.renew(node.name)
            third = await self.in_use(second.serial)
            await self.assert_shown(third.serial)
        with step("a watched one that does not fit its key", log):
            with self.renewer.damaged(node.name):
                await self.logged("The certificate is not reloaded: restapi.keyfile: ")
                self.assertEqual((await self.visitor.visit()).serial, third.serial)
            self.renewer.renew(node.name)
            await self.in_use(third.serial)
        self.assertNotIn("Traceback", self.log())

    async def assert_shown(self, serial: str) -> None:
        """Assert that ``/metrics`` and the log show a certificate, and no other is shown.

        :param serial: its serial number.
        """
        text = (await self.visitor.visit("GET", "/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith("twisted_patroni_cert")]
        self.assertEqual({line.partition("{")[0] for line in lines}, set(SHOWN))
        for line in lines:
            self.assertIn(f'serial="{serial}"', line)
        self.assertIn(f"The certificate with serial number {serial} is in use", self.log())

    async def test_moving(self) -> None:
        """While the listener moves to another port and back, one of both always answers."""
        node = await self.started()
        old, new = self.visitor, evolve(self.visitor, port=free_ports(1))

        def either(first: Visitor, second: Visitor) -> int | str:
            # The former is asked first: had it been closed before the other was opened, some look
            # would find neither.
            seen = first.ask().seen
            return second.ask().seen if seen != 200 else seen

        for gone, there in ((old, new), (new, old)):
            sampler = Sampler(partial(either, gone, there), 0.0)
            with step(f"from port {gone.port} to {there.port}", node.place.log_file):
                kept = await deferToThread(gone.connect)
                self.addCleanup(kept.close)
                with sampling(sampler):
                    await looked(sampler, 10)
                    self.reload(listen=f"{HOST}:{there.port}")
                    await self.until_seen(there, 200)
                    await self.until_seen(gone, REFUSED)
                    await looked(sampler, 10)
                self.assertEqual({sample.seen for sample in sampler.samples}, {200})
                self.assertEqual((await deferToThread(gone.request, kept)).seen, 200)

    async def until_seen(self, visitor: Visitor, seen: int | str) -> None:
        """Wait until a visitor sees something.

        :param visitor: the visitor.
        :param seen: the status, or what is seen without one.
        """

        async def look() -> bool:
            return (await visitor.visit()).seen == seen

        await eventually(f"{visitor.port} gives {seen}", look)
