"""A real cluster over TLS: in each mode of asking for certificates, all that it does goes on."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import yaml
from twisted.internet.threads import deferToThread

from tests.certificates import Authority
from tests.real.asking import eventually, sql, together
from tests.real.balancing import DOWN, UP, HAProxy
from tests.real.faults import Etcd, step
from tests.real.harness import (
    ClusterTestCase,
    api_of,
    destroy,
    free_ports,
    kill,
    new_cluster,
    node_file,
    rewrite_node_file,
)
from tests.real.operating import patronictl
from tests.real.visiting import CUT, FORBIDDEN, HARMLESS, LET_IN, Visitor, trusting
from twisted_patroni.demo.layout import AUTHORITY, CLIENT, HOST, merged

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from twisted_patroni.demo import Node

#: How a client without a certificate fares in each mode, with a request that changes something.
MODES: Mapping[str, int | str] = {"none": LET_IN, "optional": FORBIDDEN, "required": CUT}
#: In the words of Python's ssl module, or of pyOpenSSL, which etcd's client makes urllib3 use.
UNVERIFIED = "(?i:.*certificate.verify.failed)"
SETTING = "postgresql.parameters.application_name"
UNFIT = (
    "ctl.certfile is not set, but restapi.verify_client is required: no request of members"
    " succeeds, those of a leader race included, nor does patronictl"
)


class SecureClusterTests(ClusterTestCase):
    """Three nodes that speak TLS with each other, with ``patronictl`` and with HAProxy."""

    timeout = 400

    async def setUp(self) -> None:  # type: ignore[override]
        """Start etcd and the cluster."""
        self.etcd = await deferToThread(Etcd)
        self.addCleanup(self.etcd.stop)
        overrides = {"bootstrap": {"dcs": {"failsafe_mode": True}}}
        self.cluster = new_cluster(dcs=self.etcd.dcs, overrides=overrides, tls=True)
        self.addCleanup(destroy, self.cluster)
        await self.cluster.start()
        self.api = api_of(self.cluster)
        await self.cluster.ready()
        self.logs = [node.place.log_file for node in self.cluster.nodes]
        self.authority = self.cluster.keys.certificate(AUTHORITY)

    async def test_modes(self) -> None:
        """Members and operators do all that they do without TLS, whatever is asked of clients."""
        for mode in MODES:
            with step(f"the mode {mode}", *self.logs):
                await self.set_mode(mode, by_command=mode == "optional")
                await self.operate(mode)
            with step(f"other clients in the mode {mode}", *self.logs):
                await (self.balance() if mode == "required" else self.distrust(mode))
                await self.cluster.ready()
        with step("a switchover that another node is asked for", *self.logs):
            await self.switch_over()
        with step("certificates are wanted, but the ctl section has none", *self.logs):
            await self.misfit()
        leader, replicas = await self.roles()
        self.etcd.stop()
        for mode in reversed([*MODES]):
            with step(f"etcd is gone, in the mode {mode}", *self.logs):
                await self.set_mode(mode)
                await self.agree(leader, replicas)

    # How the modes change.

    async def set_mode(self, mode: str, by_command: bool = False) -> None:
        """Have all nodes ask something else of their clients.

        :param mode: what to ask.
        :param by_command: tell them by ``patronictl``, not by SIGHUP.
        """
        for node in self.cluster.nodes:
            rewrite_node_file(node, {"restapi": {"verify_client": mode}})
        if by_command:
            said = await self.run_ctl("reload", "demo", "--force")
            for node in self.cluster.nodes:
                self.assertIn(f"Reload request received for member {node.name}", said)
        else:
            self.reload()
        for node in self.cluster.nodes:
            await self.until_seen(node, MODES[mode])

    def reload(self) -> None:
        """Send all nodes SIGHUP."""
        for node in self.cluster.nodes:
            assert node.pid is not None
            kill(node.pid, signal.SIGHUP)

    async def until_seen(self, node: Node, seen: int | str) -> None:
        """Wait until a client without a certificate is answered as expected.

        :param node: the node.
        :param seen: the status, or what is seen without one.
        """
        context = trusting(self.cluster.keys, None)
        stranger = Visitor(node.place.rest_port, context, self.api.login)

        async def look() -> bool:
            return (await stranger.visit(*HARMLESS)).seen == seen

        await eventually(f"{node.name} gives strangers {seen}", look)

    # What operators do.

    def ctl_file(self, name: str, **ctl: Any) -> Path:
        """Write a configuration for ``patronictl``.

        :param name: what the file is called.
        :param ctl: what to replace in the ``ctl`` section.
        """
        file = self.cluster.directory / name
        file.write_text(yaml.safe_dump(merged(node_file(self.cluster.nodes[0]), {"ctl": ctl})))
        return file

    async def run_ctl(self, *words: str, file: Path | None = None) -> str:
        """Run ``patronictl`` and return what it prints.

        :param words: command and arguments.
        :param file: its configuration; by default that of a node.
        """
        done = await patronictl(file or self.cluster.nodes[0].config_file, *words)
        self.assertEqual(done.code, 0, done.output)
        return done.output

    async def operate(self, mode: str) -> None:
        """Do what operators do, with the certificate of the ``ctl`` section.

        :param mode: what is asked of clients.
        """
        leader, (replica, other) = await self.roles()
        for member in (await self.get(leader, "/cluster"))["members"]:
            self.assertTrue(member["api_url"].startswith(f"https://{HOST}:"), member)
        listed, versions, restarted, rebuilt, _ = await together(
            self.run_ctl("list"),
            self.run_ctl("version", "demo"),
            self.run_ctl("restart", "demo", replica.name, "--force"),
            self.run_ctl("reinit", "demo", other.name, "--force", "--wait"),
            self.run_ctl("edit-config", "--force", "-s", f"{SETTING}={mode}"),
        )
        for node in self.cluster.nodes:
            self.assertIn(f" {node.name} ", listed)
            self.assertIn(f"{node.name}: Patroni ", versions)
        self.assertIn(f"Success: restart on member {replica.name}", restarted)
        self.assertIn(f"Reinitialize is completed on: {other.name}", rebuilt)
        await self.cluster.ready()
        await self.configured(mode)
        said = await self.run_ctl(
            *("switchover", "--leader", leader.name, "--candidate", replica.name, "--force")
        )
        self.assertIn(f'Successfully switched over to "{replica.name}"', said)

    async def switch_over(self) -> None:
        """Ask a node for a switchover that is to be neither the old leader nor the new one."""
        leader, (replica, other) = await self.roles()
        body = {"leader": leader.name, "candidate": replica.name}
        text = f'Successfully switched over to "{replica.name}"'
        await self.answers("POST", other, "/switchover", body, 200, text)
        await self.cluster.ready()

    async def configured(self, mode: str) -> None:
        """Wait until all nodes know what ``edit-config`` has changed."""
        for node in self.cluster.nodes:

            async def known(node: Node = node) -> bool:
                parameters = (await self.get(node, "/config"))["postgresql"]["parameters"]
                return bool(parameters.get("application_name") == mode)

            await eventually(f"{node.name} knows the changed configuration", known)

    async def distrust(self, mode: str) -> None:
        """See what ``patronictl`` says without a certificate, and of an unknown authority.

        :param mode: what is asked of clients.
        """
        wrong = Authority("another").write(self.cluster.directory, "another")
        without: Mapping[str, Any] = {"cacert": wrong, "certfile": None, "keyfile": None}
        distrusting = self.ctl_file("distrusting.yml", **without)
        insecure = self.ctl_file("insecure.yml", **without, insecure=True)
        await self.cluster.ready()
        _, (replica, _) = await self.roles()
        refused, trusted, told = await together(
            self.run_ctl("version", "demo", file=distrusting),
            self.run_ctl("version", "demo", file=insecure),
            self.run_ctl("restart", "demo", replica.name, "--force", file=insecure),
        )
        for node in self.cluster.nodes:
            self.assertRegex(refused, f"{node.name}: failed to get version: {UNVERIFIED}")
        self.assertNotIn("failed", trusted)
        if mode == "none":
            self.assertIn(f"Success: restart on member {replica.name}", told)
        else:
            self.assertIn("status code=403, (client certificate required)", told)

    # What members do.

    async def agree(self, leader: Node, replicas: list[Node]) -> None:
        """Wait until the members have agreed, over TLS, that the primary goes on without a DCS.

        :param leader: the primary.
        :param replicas: the others.
        """
        log = leader.place.log_file
        before = len(log.read_text())

        async def agreed() -> bool:
            text = log.read_text()[before:]
            return all(f"{node.rest_url}/failsafe: Accepted" in text for node in replicas)

        await eventually("the members have agreed", agreed, 40.0)
        self.assertEqual((await self.ask("GET", leader, "/primary")).code, 200)
        self.assertEqual(await sql(leader.conninfo, "SELECT pg_is_in_recovery()"), [(False,)])
        for node in self.cluster.nodes:
            document = await self.get(node, "/patroni")
            self.assertIs(document.get("failsafe_mode_is_active"), True, node.name)

    async def misfit(self) -> None:
        """Take a node's own certificate for requests away: it says at once what will fail."""
        node = self.cluster.nodes[0]
        usual = node_file(node)["ctl"]
        log = node.place.log_file
        for ctl, count in (({"certfile": None, "keyfile": None}, 1), (usual, 0)):
            before = len(log.read_text())
            rewrite_node_file(node, {"ctl": ctl})
            self.reload()

            async def reloaded(before: int = before) -> bool:
                # What comes last when the file is reloaded.
                return "Reloading PostgreSQL configuration." in log.read_text()[before:]

            await eventually(f"{node.name} has reloaded its file", reloaded)
            self.assertEqual(log.read_text()[before:].count(UNFIT), count)

    # What load balancers do.

    async def balance(self) -> None:
        """Have HAProxy check all nodes: with a certificate, without, and at doors without TLS."""
        first = free_ports(len(self.cluster.nodes))
        doors = {node.name: first + number for number, node in enumerate(self.cluster.nodes)}
        for node in self.cluster.nodes:
            door = f"tcp:{doors[node.name]}:interface={HOST}"
            entry = {"endpoint": door, "serves": "health", "tls": False}
            rewrite_node_file(node, {"restapi": {"endpoints": [entry]}})
        self.reload()
        leader, _ = await self.roles()
        proxy = await deferToThread(HAProxy, self.proxies(doors))
        self.addCleanup(proxy.stop)
        expected: set[tuple[str, ...]] = {
            (name, node.name, *(UP if node is leader else DOWN))
            for name in ("certified", "plain")
            for node in self.cluster.nodes
        }
        expected |= {("stranger", node.name, "DOWN") for node in self.cluster.nodes}
        await proxy.until(f"HAProxy sees that {leader.name} leads", expected)

    def proxies(self, doors: Mapping[str, int]) -> dict[str, list[str]]:
        """Return HAProxy's configuration: a proxy for each way to check.

        :param doors: the nodes' ports without TLS.
        """
        keys, both = self.cluster.keys, self.cluster.directory / "both.pem"
        both.write_bytes(keys.certificate(CLIENT).read_bytes() + keys.key(CLIENT).read_bytes())
        secure = f"check-ssl verify required ca-file {self.authority}"
        ways = {"certified": f"{secure} crt {both}", "stranger": secure, "plain": ""}
        return {
            name: [
                "option httpchk OPTIONS /primary",
                *(
                    f"server {node.name} {HOST}:{node.place.postgres_port} check {way} port"
                    f" {node.place.rest_port if way else doors[node.name]}"
                    for node in self.cluster.nodes
                ),
            ]
            for name, way in ways.items()
        }
