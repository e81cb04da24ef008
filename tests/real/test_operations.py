"""Operations of a real cluster: followed, repeated, cancelled, explained, found again."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from socket import create_connection
from typing import TYPE_CHECKING, Any

import treq

from tests.real.asking import Reply, eventually
from tests.real.harness import RealClusterTests, node_file, rewrite_node_file
from twisted_patroni.demo.layout import HOST

if TYPE_CHECKING:
    from twisted_patroni.demo import Node

ASYNC = {"Prefer": "respond-async"}


def later(seconds: float) -> str:
    """Return a time from now as the API takes it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


class OperationTests(RealClusterTests):
    """What becomes of requests that change something."""

    async def send(
        self, node: Node, method: str, path: str, body: Any = None, **headers: str
    ) -> Reply:
        """Send a request with headers; underscores in their names are hyphens."""
        named: dict[bytes | str, bytes | str] = {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        response = await treq.request(
            method,
            node.rest_url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers=named,
            auth=self.api.login,
            persistent=False,
        )
        raw = response.headers.getAllRawHeaders()
        found = {name.decode().lower(): values[0].decode() for name, values in raw}
        return Reply(response.code, await response.text("utf-8"), found, 0.0)

    async def order(self, node: Node, method: str, path: str, body: Any = None) -> str:
        """Ask for an operation without waiting for its end, and return where it is."""
        reply = await self.send(node, method, path, body, Prefer="respond-async")
        self.assertEqual(reply.code, 202, reply.text)
        self.assertEqual(reply.headers["preference-applied"], "respond-async")
        return reply.headers["location"]

    async def ended(self, node: Node, path: str) -> dict[str, Any]:
        """Wait for an operation's end and return it."""

        async def look() -> dict[str, Any] | None:
            document: dict[str, Any] = await self.get(node, f"{path}?wait=20")
            return document if document["ended"] else None

        return await eventually(f"{path} has ended", look, within=60.0)

    async def operations(self, node: Node) -> list[dict[str, Any]]:
        """Return the operations that a node knows, newest first."""
        found: list[dict[str, Any]] = (await self.get(node, "/operations"))["operations"]
        return found

    async def lines(self, node: Node) -> int:
        """Return how many changes of the leader there have been."""
        return len(await self.get(node, "/history"))

    async def test_switchover(self) -> None:
        """A switchover that nobody waits for is followed to its end, here and on other nodes."""
        leader, (replica, other) = await self.roles()
        body = {"leader": leader.name, "candidate": replica.name}
        path = await self.order(other, "POST", "/switchover", body)
        document = await self.ended(other, path)
        self.assertEqual(document["state"], "succeeded")
        text = f'Successfully switched over to "{replica.name}"'
        self.assertEqual(document["result"], {"status": 200, "text": text})
        steps = [step["text"] for step in document["steps"]]
        self.assertEqual(steps[:2], [f"candidates asked: {replica.name}", "failover key written"])
        self.assertEqual(steps[-1], f"{replica.name} has taken the leader key")
        await self.until(replica, "/primary", 200)

        async def told() -> bool:
            adopted = [each for each in await self.operations(leader) if each["by"].get("dcs")]
            return bool(adopted) and adopted[0]["state"] == "succeeded"

        await eventually("the old leader knows of it, too", told)

    async def test_repeated(self) -> None:
        """A request that is sent again and again leads to one switchover."""
        leader, (replica, _) = await self.roles()
        before = await self.lines(leader)
        body = {"leader": leader.name, "candidate": replica.name}
        replies = [
            await self.send(leader, "POST", "/switchover", body, Idempotency_Key="once", **ASYNC)
            for _ in range(3)
        ]
        last = await self.send(leader, "POST", "/switchover", body, Idempotency_Key="once")
        self.assertEqual(last.code, 200, last.text)
        self.assertEqual(len({reply.headers["location"] for reply in replies}), 1)
        again = await self.send(leader, "POST", "/switchover", body, Idempotency_Key="once")
        self.assertEqual((again.code, again.text), (last.code, last.text))
        other = await self.send(leader, "POST", "/restart", Idempotency_Key="once")
        self.assertEqual(other.code, 422)

        async def one_more() -> bool:
            return await self.lines(replica) == before + 1

        await eventually("the history has one line more", one_more)

    async def leave(self, node: Node, path: str, body: dict[str, Any], step: str) -> dict[str, Any]:
        """Ask for an operation, leave when it has come to a step, and return how it ends."""
        content = json.dumps(body).encode()
        login = b64encode(":".join(self.api.login or ()).encode()).decode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: node\r\nAuthorization: Basic {login}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        known = {each["id"] for each in await self.operations(node)}

        async def reached() -> dict[str, Any] | None:
            for each in await self.operations(node):
                if each["id"] not in known and step in str(each["steps"]):
                    return each
            return None

        with create_connection((HOST, node.place.rest_port), timeout=30.0) as connection:
            connection.sendall(head.encode() + content)
            found = await eventually(f"{path} has come to: {step}", reached)
        return await self.ended(node, f"/operations/{found['id']}")

    async def test_clients_leave(self) -> None:
        """What was begun for a client that leaves is followed to its end."""
        leader, (replica, other) = await self.roles()
        document = await self.leave(replica, "/restart", {}, "restarting")
        self.assertEqual(document["state"], "succeeded", document)
        body = {"leader": leader.name, "candidate": other.name}
        document = await self.leave(leader, "/switchover", body, "failover key written")
        self.assertEqual(document["state"], "succeeded", document)
        await self.until(other, "/primary", 200)

    async def test_scheduled(self) -> None:
        """A scheduled switchover can be cancelled on any node, and all of them know."""
        leader, (replica, other) = await self.roles()
        body = {"leader": leader.name, "candidate": replica.name, "scheduled_at": later(3600)}
        path = await self.order(leader, "POST", "/switchover", body)
        self.assertTrue((await self.get(leader, path))["cancellable"])

        async def adopted() -> str | None:
            for each in await self.operations(other):
                if each["state"] == "accepted":
                    return str(each["id"])
            return None

        found = await eventually("another node knows of it", adopted)
        reply = await self.send(other, "DELETE", f"/operations/{found}")
        self.assertEqual((reply.code, reply.json()["state"]), (200, "cancelled"), reply.text)
        self.assertEqual((await self.ended(leader, path))["state"], "cancelled")
        self.assertNotIn("scheduled_switchover", await self.get(leader, "/cluster"))

    async def test_at_its_time(self) -> None:
        """A scheduled switchover is followed until it has happened."""
        leader, (replica, _) = await self.roles()
        body = {"leader": leader.name, "candidate": replica.name, "scheduled_at": later(4)}
        path = await self.order(leader, "POST", "/switchover", body)
        document = await self.ended(leader, path)
        self.assertEqual(document["state"], "succeeded", document)
        await self.until(replica, "/primary", 200)

    async def test_restarts(self) -> None:
        """A restart is followed, at once and at its time, with PostgreSQL's states."""
        _, (replica, _) = await self.roles()
        for body in ({}, {"schedule": later(5)}):
            began = (await self.get(replica, "/patroni"))["postmaster_start_time"]
            document = await self.ended(
                replica, await self.order(replica, "POST", "/restart", body)
            )
            self.assertEqual(document["state"], "succeeded", document)
            now = (await self.get(replica, "/patroni"))["postmaster_start_time"]
            self.assertNotEqual(now, began)
            steps = [step["text"] for step in document["steps"]]
            self.assertTrue(any("restarting" in step for step in steps), steps)
        await self.until(replica, "/replica?replication_state=streaming", 200)

    async def test_conditions_at_its_time(self) -> None:
        """A scheduled restart whose conditions do not hold then has failed."""
        _, (replica, _) = await self.roles()
        body = {"schedule": later(3), "role": "primary"}
        path = await self.order(replica, "POST", "/restart", body)
        document = await self.ended(replica, path)
        self.assertEqual(document["state"], "failed", document)

    async def test_reinitialize(self) -> None:
        """A replica that is rebuilt is followed until it runs again."""
        _, (replica, _) = await self.roles()
        document = await self.ended(replica, await self.order(replica, "POST", "/reinitialize"))
        self.assertEqual((document["state"], document["result"]["text"]),
                         ("succeeded", "reinitialize finished"))  # fmt: skip
        await self.until(replica, "/replica?replication_state=streaming", 200)

    async def test_reasons(self) -> None:
        """A refusal says of each candidate what is the matter with it; so does a forecast."""
        leader, (replica, other) = await self.roles()
        before = node_file(replica).get("tags", {})
        rewrite_node_file(replica, {"tags": {"nofailover": True}})
        self.addCleanup(self.restore, replica, {**before, "nofailover": False})
        reload = await self.ended(replica, await self.order(replica, "POST", "/reload"))
        self.assertEqual(reload["state"], "succeeded", reload)
        body = {"leader": leader.name, "candidate": replica.name}

        async def refused() -> Reply | None:
            reply = await self.send(other, "POST", "/switchover", body, Accept="application/json")
            return reply if reply.code == 412 else None

        told = (await eventually("the tag counts", refused)).json()
        sentence = "switchover is not possible: no good candidates have been found"
        self.assertEqual((told["error"], told["action"]), (sentence, "switchover"))
        found = {each["name"]: each for each in told["candidates"]}
        self.assertEqual(set(found), {replica.name, other.name})
        self.assertEqual(found[replica.name]["reason"], "not allowed to promote")
        self.assertTrue(found[other.name]["eligible"])
        plain = await self.send(other, "POST", "/switchover", body)
        self.assertEqual((plain.code, plain.text), (412, sentence))
        forecast = (await self.send(leader, "POST", "/switchover?dry_run=true", body)).json()
        self.assertEqual((forecast["possible"], forecast["reason"]), (False, sentence))
        body["candidate"] = other.name
        forecast = (await self.send(leader, "POST", "/switchover?dry_run=true", body)).json()
        self.assertTrue(forecast["possible"])
        self.assertIs((await self.roles())[0], leader)

    async def restore(self, node: Node, tags: dict[str, Any]) -> None:
        """Give a node its tags back."""
        rewrite_node_file(node, {"tags": tags})
        await self.ask("POST", node, "/reload")

        async def known() -> bool:
            members = (await self.get(node, "/cluster"))["members"]
            own = next(each for each in members if each["name"] == node.name)
            return not own.get("tags", {}).get("nofailover")

        await eventually("the tags are back", known)

    async def test_forecasts(self) -> None:
        """Forecasts of restarts and copies do nothing."""
        leader, (replica, _) = await self.roles()
        began = (await self.get(replica, "/patroni"))["postmaster_start_time"]
        for node, path, body, possible in (
            (replica, "/restart", {"role": "replica"}, True),
            (replica, "/restart", {"role": "primary"}, False),
            (replica, "/reinitialize", None, True),
            (leader, "/reinitialize", None, False),
        ):
            reply = await self.send(node, "POST", f"{path}?dry_run=true", body)
            self.assertEqual((reply.code, reply.json()["possible"]), (200, possible), reply.text)
        now = (await self.get(replica, "/patroni"))["postmaster_start_time"]
        self.assertEqual(now, began)

    async def test_configuration(self) -> None:
        """A change of the configuration is followed until all members work by it."""
        leader, replicas = await self.roles()
        patch = {"maximum_lag_on_failover": 2097152}
        document = await self.ended(leader, await self.order(leader, "PATCH", "/config", patch))
        self.assertEqual(document["state"], "succeeded", document)
        names = sorted(node.name for node in (leader, *replicas))
        self.assertEqual(document["result"]["members"], dict.fromkeys(names, "applied"))

    async def test_daemon_restarted(self) -> None:
        """A daemon that was restarted finds what is scheduled, and the past, again."""
        leader, (replica, other) = await self.roles()
        body = {"leader": leader.name, "candidate": other.name, "scheduled_at": later(3600)}
        path = await self.order(replica, "POST", "/switchover", body)
        self.assertEqual(await replica.stop(), 0)
        replica.start()
        await self.until(replica, "/health", 200, within=60.0)
        self.assertEqual((await self.ask("GET", replica, path)).code, 404)

        async def adopted() -> dict[str, Any] | None:
            found = [each for each in await self.operations(replica) if each["cancellable"]]
            return found[0] if found else None

        found = await eventually("the schedule is found", adopted)
        self.assertEqual(found["kind"], "switchover")
        self.assertEqual(found["request"]["candidate"], other.name)
        self.assertTrue(found["by"]["dcs"])
        shown = await self.get(replica, "/operations")
        self.assertEqual(len(shown["history"]), await self.lines(replica))
        reply = await self.send(leader, "DELETE", "/switchover")
        self.assertEqual(reply.code, 200)
        ended = await self.ended(replica, f"/operations/{found['id']}")
        self.assertEqual(ended["state"], "cancelled")
