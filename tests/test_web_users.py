"""Tests of users with hashed passwords, and of the waits after wrong ones, over real HTTP."""

from __future__ import annotations

from tests.identities import ALICE, MEMBER, RELOAD, ROOT, STRANGER, WRONG, IdentityCase, login
from tests.memory_api import Reactor, Reply
from tests.sections import HASH
from tests.test_web_access import CHECKED, FAILSAFE, MESSAGE, OPEN, failsafe_engine
from twisted_patroni.engine.lanes import Lanes
from twisted_patroni.settings import Settings


class UserTests(IdentityCase):
    """Users with hashed passwords, without rules."""

    def test_checked(self) -> None:
        """A user may do what the single authentication may do; all else is refused."""
        self.use(failsafe_engine(), auth="root:toor")
        rows = [
            (ALICE, None, "alice"),
            (ROOT, None, "root"),
            ({}, "no auth header received", None),
            (WRONG, "not authenticated", None),
            (login("root", "secret"), "not authenticated", None),
            (login("bob", "secret"), "not authenticated", None),
            ({"Authorization": "Basic nonsense"}, "not authenticated", None),
            ({"Authorization": ALICE["Authorization"].lower()}, "not authenticated", None),
        ]
        for number, (method, target, body, code) in enumerate([*CHECKED, FAILSAFE]):
            for headers, sentence, user in rows:
                client = f"192.0.2.{number}"
                reply = self.request(method, target, headers, body, client=client)
                self.assertEqual(self.users.pop(), user, target)
                if sentence is None:
                    self.assertEqual(reply.code, code, target)
                    continue
                self.assertReply(reply, 401, sentence)
                self.assertEqual(reply.header("WWW-Authenticate"), 'Basic realm="Patroni"')

    def test_reads_stay_open(self) -> None:
        """Reading needs no password, and a wrong one does no harm."""
        self.use(failsafe_engine())
        for method, target in OPEN:
            for headers in ({}, WRONG):
                self.assertEqual(self.request(method, target, headers).code, 200, target)

    def test_members_without_password(self) -> None:
        """Members, who know only Patroni's own password, agree in failsafe mode as before."""
        self.use(failsafe_engine())
        self.engine.look()
        self.api.open()
        self.engine.look()
        for client, code in ((MEMBER, 200), (STRANGER, 401)):
            reply = self.request("POST", "/failsafe", {}, MESSAGE, client=client)
            self.assertEqual(reply.code, code, client)

    def test_waits_for_the_password(self) -> None:
        """Nothing is done before the password is verified; then the body counts as ever."""
        lane = self.hold_passwords()
        right = self.api.begin("PATCH", "/config", ALICE, {"ttl": 20})
        wrong = self.api.begin("PATCH", "/config", WRONG, {"ttl": 30})
        self.assertEqual((right.received(), wrong.received(), self.engine.calls), (b"", b"", []))
        self.assertEqual(lane.work(), 2)
        self.assertEqual(Reply.parse(right.received()).code, 200)
        self.assertReply(Reply.parse(wrong.received()), 401, "not authenticated")
        self.assertEqual(len(self.engine.called("patch_config")), 1)

    def test_remembered(self) -> None:
        """A password that was right a moment ago is not verified again, until the users change."""
        lane = self.hold_passwords()
        self.api.begin(*RELOAD, ALICE)
        lane.work()
        self.assertEqual(self.request(*RELOAD, ALICE).code, 202)
        other = {"listen": "127.0.0.1:8008", "users": {"bob": HASH}}
        self.api.apply(Settings.of(other))
        connection = self.api.begin(*RELOAD, ALICE)
        lane.work()
        self.assertEqual(Reply.parse(connection.received()).code, 401)

    def test_body_is_read_first(self) -> None:
        """A password costs nothing before the request is complete, and no limit is passed by."""
        lane = self.hold_passwords()
        slow = self.api.begin("PATCH", "/config", {**ALICE, "Content-Length": "11"})
        large = self.api.begin("PATCH", "/config", {**ALICE, "Content-Length": "5242881"})
        self.assertEqual((lane.held, slow.received()), ([], b""))
        self.assertEqual(Reply.parse(large.received()).code, 413)
        slow.send(b'{"ttl": 20}')
        self.assertEqual(lane.work(), 1)
        self.assertEqual(Reply.parse(slow.received()).code, 200)

    def test_leaving(self) -> None:
        """A client that leaves while it is waited for is forgotten, and nothing is done."""
        lane = self.hold_passwords()
        connection = self.api.begin(*RELOAD, ALICE)
        connection.vanish()
        self.assertEqual(lane.work(), 1)
        self.assertEqual(self.engine.calls, [])

    def test_full_lane(self) -> None:
        """When too many passwords are being verified, one is told when to come back."""
        self.use(lanes=Lanes.on(Reactor()))
        waiting = [
            self.api.begin(*RELOAD, login("alice", f"{number}"), client=f"192.0.2.{number}")
            for number in range(18)
        ]
        self.assertEqual([each.received() for each in waiting], [b""] * 18)
        reply = self.request(*RELOAD, ALICE)
        self.assertEqual((reply.code, reply.header("Retry-After")), (503, "1"))
        for each in waiting:
            each.vanish()


class SlowingTests(IdentityCase):
    """Addresses from which wrong passwords have come."""

    def guess(self, times: int, client: str = STRANGER) -> list[int]:
        """Give wrong passwords and return the statuses."""
        return [self.request(*RELOAD, WRONG, client=client).code for _ in range(times)]

    def test_guessing(self) -> None:
        """After five wrong passwords an address has to wait, be the next one right or wrong."""
        for section in ({}, {"auth": "root:toor"}, {"auth": "root:toor", "users": {}}):
            self.use(**section)
            good = ROOT if section else ALICE
            self.assertEqual(self.guess(7), [401] * 5 + [429] * 2)
            reply = self.request(*RELOAD, good, client=STRANGER)
            self.assertReply(reply, 429, "too many wrong passwords from this address")
            self.assertEqual(reply.header("Retry-After"), "1")
            self.assertEqual(self.request(*RELOAD, good).code, 202)
            self.api.clock.advance(1)
            self.assertEqual(self.request(*RELOAD, good, client=STRANGER).code, 202)

    def test_what_needs_no_password(self) -> None:
        """Who has to wait for an attempt still reads, and is refused as before without one."""
        self.guess(5)
        self.assertEqual(self.request("GET", "/cluster", WRONG, client=STRANGER).code, 200)
        self.assertEqual(self.request(*RELOAD, client=STRANGER).code, 401)

    def test_not_on_the_list(self) -> None:
        """The password of one whom the allowlist keeps out is not looked at."""
        self.use(allowlist=["192.0.2.0/24"])
        self.assertEqual(self.guess(8), [403] * 8)

    def test_working_client(self) -> None:
        """Nobody can lock out a client that has shown its password before."""
        self.assertEqual(self.request(*RELOAD, ALICE, client=STRANGER).code, 202)
        self.assertEqual(self.guess(8)[-1], 429)
        self.assertEqual(self.request(*RELOAD, ALICE, client=STRANGER).code, 202)

    def test_parallel_guesses(self) -> None:
        """Requests that were let wait for their bodies together are slowed one by one."""
        self.use()
        connections = [
            self.api.begin("PATCH", "/config", {**login("alice", f"{n}"), "Content-Length": "11"})
            for n in range(8)
        ]
        replies = [Reply.parse(each.ask(b'{"ttl": 20}')).code for each in connections]
        self.assertEqual(replies, [401] * 5 + [429] * 3)

    def test_leaving_is_failing(self) -> None:
        """Leaving before the answer is no way to try without end."""
        lane = self.hold_passwords()
        for number in range(5):
            self.api.begin(*RELOAD, login("alice", f"{number}")).vanish()
        lane.work()
        self.assertEqual(self.request(*RELOAD, ALICE).code, 429)

    def test_members(self) -> None:
        """What keeps PostgreSQL up is never slowed, nor does it make a member wait elsewhere."""
        self.use(failsafe_engine(), auth="root:toor")
        self.api.open()
        self.engine.look()
        for _ in range(8):
            reply = self.request("POST", "/failsafe", WRONG, MESSAGE, client=MEMBER)
            self.assertEqual(reply.code, 401)
        self.assertEqual(self.guess(6, MEMBER), [401] * 5 + [429])
        reply = self.request("POST", "/failsafe", ROOT, MESSAGE, client=MEMBER)
        self.assertEqual(reply.code, 200)
