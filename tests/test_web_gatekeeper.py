"""Tests of twisted_patroni.web.gatekeeper: rules, protected reads, listeners and trust."""

from __future__ import annotations

from typing import Any

from tests.doubles import make_cluster, make_node
from tests.identities import ALICE, MEMBER, RELOAD, ROOT, STRANGER, WRONG, IdentityCase
from tests.memory_api import inline_lanes
from tests.test_web_access import CHECKED, FAILSAFE, MESSAGE, failsafe_engine
from twisted_patroni.access import Access
from twisted_patroni.addresses import AddressBook
from twisted_patroni.engine.interface import MemberView
from twisted_patroni.passwords import PasswordBook
from twisted_patroni.settings import Right, Serves, VerifyClient
from twisted_patroni.slowing import Slowing
from twisted_patroni.tls import ClientCertificate
from twisted_patroni.web.entrance import Door
from twisted_patroni.web.gatekeeper import Gatekeeper
from twisted_patroni.web.resource import Responder

READS = [
    (method, target)
    for method in ("GET", "HEAD")
    for target in ("/cluster", "/history", "/config", "/failsafe", "/metrics")
]
HEALTH = [
    ("GET", "/"),
    ("GET", "/primary"),
    ("HEAD", "/primary"),
    ("OPTIONS", "/primary"),
    ("GET", "/liveness"),
    ("HEAD", "/readiness"),
]


class RuleTests(IdentityCase):
    """``restapi.access``."""

    RULES = (
        {"may": "operate", "user": "alice"},
        {"may": ["operate", "configure"], "user": "root", "network": "192.0.2.0/24"},
        {"may": "all", "subject": "CN=backup,*"},
    )
    BACKUP = ClientCertificate("CN=backup,O=dba")

    def test_table(self) -> None:
        """Each client may do what the rules allow it."""
        self.use(failsafe_engine(), auth="root:toor", access=list(self.RULES))
        rows: list[tuple[str, dict[str, Any], dict[str, str], list[int]]] = [
            ("nobody", {}, {}, [401, 401]),
            ("nobody, elsewhere", {"client": STRANGER}, {}, [401, 403]),
            ("alice", {}, ALICE, [200, 403]),
            ("root", {}, ROOT, [200, 202]),
            ("root, elsewhere", {"client": STRANGER}, ROOT, [403, 403]),
            ("backup", {"certificate": self.BACKUP, "client": STRANGER}, {}, [200, 202]),
            ("other", {"certificate": ClientCertificate("CN=x")}, {}, [401, 401]),
            ("backup, wrong password", {"certificate": self.BACKUP}, WRONG, [401, 401]),
        ]
        for who, options, headers, expected in rows:
            got = [
                self.request("POST", target, headers, **options).code
                for target in ("/restart", "/reload")
            ]
            self.assertEqual(got, expected, who)

    def test_sentence(self) -> None:
        """Who is refused is told which right is missing; who it was is known all the same."""
        self.use(access=[{"may": "operate", "user": "alice"}])
        sentence = "this client may not configure: no rule of restapi.access allows it"
        self.assertReply(self.request(*RELOAD, ALICE), 403, sentence)
        self.assertEqual(self.users, ["alice"])

    def test_every_endpoint(self) -> None:
        """No endpoint is forgotten: without a rule for it, nothing is changed."""
        self.use(failsafe_engine(), access=[])
        for method, target, body, _ in CHECKED:
            expected = 401 if target in ("/citus", "/mpp") else 403
            self.assertEqual(self.request(method, target, {}, body).code, expected, target)
        self.assertEqual(self.request("POST", "/failsafe", {}, MESSAGE).code, 401)
        self.assertEqual((self.engine.calls, self.engine.begun), ([], 0))

    def test_declarations(self) -> None:
        """What each endpoint asks for; a new one has to be entered here."""
        found: dict[tuple[Access, Right | None, bool], list[str]] = {}
        for each in self.api.api.endpoints:
            demand = (each.access, each.right, each.for_members)
            name = f"{each.method} {each.path.removesuffix('/:rest*')}"
            found[demand] = sorted([*found.get(demand, []), name])
        opened, checked = Access.OPEN, Access.CHECKED
        health = [f"{method} /:check*" for method in ("GET", "HEAD", "OPTIONS")]
        self.assertEqual(
            found,
            {
                (opened, None, False): [
                    *health[:1],
                    "GET /liveness",
                    "GET /readiness",
                    *health[1:],
                ],
                (opened, Right.READ, True): ["GET /patroni"],
                (opened, Right.READ, False): [
                    "GET /cluster",
                    "GET /config",
                    "GET /drain",
                    "GET /events",
                    "GET /failsafe",
                    "GET /history",
                    "GET /metrics",
                    "GET /operations",
                    "GET /operations/:id",
                ],
                (checked, Right.CONFIGURE, False): ["PATCH /config", "POST /reload", "PUT /config"],
                (checked, Right.OPERATE, False): [
                    "DELETE /drain",
                    "DELETE /operations/:id",
                    "DELETE /restart",
                    "DELETE /switchover",
                    "POST /drain",
                    "POST /failover",
                    "POST /reinitialize",
                    "POST /restart",
                    "POST /sigterm",
                    "POST /switchover",
                ],
                (checked, None, True): ["POST /citus", "POST /mpp"],
                (Access.CHECKED_WITHOUT_MEMBERS, None, True): ["POST /failsafe"],
            },
        )


class ProtectedReadTests(IdentityCase):
    """``restapi.protect_reads``."""

    def test_reads(self) -> None:
        """Reading asks for an identity; health checks ask nobody anything."""
        for access in (None, [{"may": "read", "user": "alice"}]):
            self.use(failsafe_engine(), protect_reads=True, access=access)
            for method, target in [*READS, ("GET", "/patroni"), ("HEAD", "/patroni")]:
                codes = [self.request(method, target, headers).code for headers in ({}, ALICE)]
                self.assertEqual(codes, [401, 200], f"{method} {target}")
            for method, target in HEALTH:
                for headers in ({}, WRONG):
                    self.assertEqual(self.request(method, target, headers).code, 200, target)
            self.assertEqual(self.request("OPTIONS", "/cluster").code, 503)  # a health check, too

    def test_members(self) -> None:
        """A member sees the status, also while the DCS is away, and nothing else."""
        self.use(protect_reads=True)
        self.api.open()
        self.engine.look()
        for cluster in (make_cluster(), None):
            self.engine.view = make_node(cluster=cluster)
            self.assertEqual(self.request("GET", "/patroni", client=MEMBER).code, 200)
            self.assertEqual(self.request("GET", "/patroni", client=STRANGER).code, 401)
            self.assertEqual(self.request("GET", "/cluster", client=MEMBER).code, 401)

    def test_certificate(self) -> None:
        """Where the listener asks for certificates, reading needs one."""
        self.use(auth="root:toor", protect_reads=True)
        door = Door(verify_client=VerifyClient.OPTIONAL)
        paper = ClientCertificate("CN=x")
        self.assertReply(
            self.request("GET", "/cluster", ROOT, door=door), 403, "client certificate required"
        )
        reply = self.request("GET", "/cluster", ROOT, door=door, certificate=paper)
        self.assertEqual(reply.code, 200)
        self.assertEqual(self.request("GET", "/primary", door=door).code, 200)


class DoorTests(IdentityCase):
    """Listeners with rules of their own."""

    def codes(self, door: Door, **options: Any) -> dict[str, set[int]]:
        """Return the statuses of health checks, reads, and what changes something."""
        groups = {"health": HEALTH, "read": [*READS, ("GET", "/patroni")]}
        found = {
            name: {self.request(*each, door=door, **options).code for each in group}
            for name, group in groups.items()
        }
        found["change"] = {
            self.request(method, target, {}, body, door=door, **options).code
            for method, target, body, _ in [*CHECKED, FAILSAFE]
        }
        return found

    def test_serves(self) -> None:
        """A listener answers what it serves, and says so otherwise."""
        self.use(failsafe_engine(), users={})
        everything = {code for *_, code in [*CHECKED, FAILSAFE]}
        for serves, expected in (
            (Serves.HEALTH, {"health": {200}, "read": {403}, "change": {403}}),
            (Serves.READ, {"health": {200}, "read": {200}, "change": {403}}),
            (Serves.ALL, {"health": {200}, "read": {200}, "change": everything}),
        ):
            self.assertEqual(self.codes(Door(serves=serves)), expected, serves)
        for serves, sentence in (
            (Serves.HEALTH, "this listener answers health checks only"),
            (Serves.READ, "this listener answers only what changes nothing"),
        ):
            self.assertReply(self.request(*RELOAD, door=Door(serves=serves)), 403, sentence)

    def test_certificate(self) -> None:
        """What changes something needs a certificate wherever one is asked for, TLS or not."""
        self.use(failsafe_engine(), users={})
        everything = {code for *_, code in [*CHECKED, FAILSAFE]}
        for verify in (VerifyClient.OPTIONAL, VerifyClient.REQUIRED):
            door = Door(verify_client=verify)
            self.assertEqual(
                self.codes(door), {"health": {200}, "read": {200}, "change": {403}}, verify
            )
            paper = ClientCertificate("CN=x")
            self.assertEqual(self.codes(door, certificate=paper)["change"], everything)
            self.assertReply(self.request(*RELOAD, door=door), 403, "client certificate required")


class TrustTests(IdentityCase):
    """Whose address is trusted."""

    def test_members(self) -> None:
        """This machine and the members are, as last known; others are not."""
        gatekeeper = self.api.api._gatekeeper
        rows = {"127.0.0.1": True, "::1": True, "": True, MEMBER: False, STRANGER: False}
        self.assertEqual({host: gatekeeper.is_trusted(host) for host in rows}, rows)
        self.assertEqual(gatekeeper.member_networks(), {})
        self.api.open()
        self.engine.look()
        self.assertTrue(gatekeeper.is_trusted(MEMBER))
        self.assertFalse(gatekeeper.is_trusted(STRANGER))
        shown = {name: [*map(str, it)] for name, it in gatekeeper.member_networks().items()}
        self.assertEqual(
            shown,
            {"alpha": ["10.0.0.1/32"], "beta": ["10.0.0.2/32"], "gamma": ["10.0.0.3/32"]},
        )

    def test_changes(self) -> None:
        """Who is a member no longer is trusted no longer; names count once they are resolved."""
        self.api.open()
        self.engine.look()
        gatekeeper = self.api.api._gatekeeper
        members = (
            MemberView("beta", "http://localhost:8008/patroni"),
            MemberView("gamma", "http://[::ffff:10.0.0.9]:8008/patroni"),
            MemberView("delta", None),
        )
        self.engine.dcs = make_cluster(members=members)
        self.engine.look()
        self.assertFalse(gatekeeper.is_trusted(MEMBER))
        self.assertTrue(gatekeeper.is_trusted("10.0.0.9"))
        self.assertEqual(set(gatekeeper.member_networks()), {"beta", "gamma"})

    def test_before_settings(self) -> None:
        """Before there are settings members are known, and nobody may change anything."""
        clock = self.api.clock
        gatekeeper = Gatekeeper(
            AddressBook(clock, inline_lanes().names.call),
            lambda: None,
            PasswordBook(clock, inline_lanes().passwords.call),
            Slowing(clock),
        )
        gatekeeper.know(make_cluster())
        self.assertTrue(gatekeeper.is_trusted(MEMBER))
        self.api.api.site.admit = Responder(gatekeeper.judge).admit
        for headers in ({}, ALICE):
            self.assertReply(self.request(*RELOAD, headers, client=MEMBER), 403, "Access is denied")
        self.assertEqual(self.request("GET", "/primary").code, 200)

    def test_host_on_the_list(self) -> None:
        """A member whose name is on the allowlist as well is a member all the same."""
        self.use(allowlist=["localhost"])
        self.api.open()
        self.engine.dcs = make_cluster(members=(MemberView("b", "http://localhost:8008/patroni"),))
        self.engine.look()
        self.assertIn("b", self.api.api._gatekeeper.member_networks())
