"""What the demonstration finds out before it starts anything, each as one clear line."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.scratch import scratch_directory
from twisted_patroni._privileges import Account, NoUnprivilegedAccount, unprivileged_account
from twisted_patroni.demo import CannotStart, Place, checks
from twisted_patroni.demo.layout import MAX_BASE_PORT, MIN_BASE_PORT
from twisted_patroni.demo.processes import find_command, postmaster_pid

if TYPE_CHECKING:
    from collections.abc import Sequence


class NumberTests(SynchronousTestCase):
    """Numbers and addresses from the command line."""

    def test_numbers(self) -> None:
        """One to nine nodes are possible, at ports that all exist."""
        for nodes, base_port in ((1, 3600), (9, 64527), (3, 8008)):
            checks.check_numbers(nodes, base_port)
        for nodes, base_port in ((0, 8008), (10, 8008), (3, 3599), (3, 64528), (3, -1)):
            self.assertRaises(CannotStart, checks.check_numbers, nodes, base_port)

    def test_etcd_address(self) -> None:
        """An address of etcd is a host and a port, and nothing around them."""
        for text in ("127.0.0.1:2379", "etcd.example:1"):
            self.assertEqual(str(checks.HostPort.parse(text)), text)
        for text in (
            "",
            "x",
            ":2379",
            "x:",
            "x:0",
            "x:65536",
            "x:y",
            "http://x:1",
            "x:1/v3",
            "a:b:1",
        ):
            self.assertRaises(CannotStart, checks.HostPort.parse, text)

    def test_etcd_answers(self) -> None:
        """Only what names its etcd version passes for etcd."""

        def check(answer: Any) -> Deferred[None]:
            async def get(url: str) -> Any:
                self.assertEqual(url, "http://h:1/version")
                return answer

            return Deferred.fromCoroutine(checks.check_etcd(checks.HostPort("h", 1), get))

        self.assertIsNone(self.successResultOf(check({"etcdserver": "3.5.0"})))
        wrong: list[Any] = [None, {}, ["etcdserver"]]
        for answer in wrong:
            self.failureResultOf(check(answer), CannotStart)


class FileTests(SynchronousTestCase):
    """Programs and directories."""

    def setUp(self) -> None:
        """Make a directory."""
        self.directory = scratch_directory(self)

    def program(self, name: str, script: str = "") -> None:
        """Put an executable program into the directory."""
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def test_bin_dir(self) -> None:
        """A directory that lacks a program is refused with the program's name."""
        for name in checks.PROGRAMS:
            with self.assertRaisesRegex(CannotStart, f"no PostgreSQL program {name} in"):
                checks.find_bin_dir(self.directory)
            self.program(name)
        self.assertEqual(checks.find_bin_dir(self.directory), self.directory)

    def test_scripts(self) -> None:
        """Commands are found in the installation, then on the PATH; else the name is told."""
        self.assertTrue(os.access(checks.script("twistd"), os.X_OK))
        self.assertTrue(checks.script("sh").endswith("/sh"))
        self.assertRaisesRegex(CannotStart, "no-such-thing", checks.script, "no-such-thing")

    def test_extra(self) -> None:
        """The tests' own extras are there, and an unknown DCS is the engine's business."""
        for name in ("raft", "etcd3", "zookeeper"):
            checks.check_extra(name)

    def test_make_directory(self) -> None:
        """A directory is made with its parents, for its owner only, and may be there before."""
        made = self.directory / "a" / "b"
        checks.make_directory(made)
        checks.make_directory(made)
        self.assertEqual((made.stat().st_mode & 0o777, list(made.iterdir())), (0o700, []))

    def test_no_directory(self) -> None:
        """A file in the way, and a file system that takes nothing, are named."""
        (self.directory / "file").touch()
        for path in (self.directory / "file", Path("/proc/none")):
            self.assertRaisesRegex(CannotStart, str(path), checks.make_directory, path)

    def test_version(self) -> None:
        """Data of another major version are refused; a new directory is welcome."""
        data = self.directory / "data"
        checks.check_version(self.directory, data)
        data.mkdir()
        (data / "PG_VERSION").write_text("15\n")
        self.program("postgres", "echo 'postgres (PostgreSQL) 15.18 (Debian)'")
        checks.check_version(self.directory, data)
        self.program("postgres", "echo 'postgres (PostgreSQL) 18.4'")
        self.assertRaisesRegex(
            CannotStart, "PostgreSQL 15, but .* 18.4", checks.check_version, self.directory, data
        )
        self.program("postgres", "exit 1")
        self.assertRaises(CannotStart, checks.check_version, self.directory, data)


class ProcessTests(SynchronousTestCase):
    """Processes that outlived their parent."""

    def setUp(self) -> None:
        """Lay out a data directory, and a /proc with two processes and something else."""
        self.directory = scratch_directory(self)
        self.data = self.directory / "data"
        self.proc = self.directory / "proc"
        for path in (self.data, self.proc / "11", self.proc / "12", self.proc / "net"):
            path.mkdir(parents=True)
        (self.proc / "11" / "cmdline").write_bytes(b"python\0-m\0patroni\0/x/patroni.yml\0")
        (self.proc / "11" / "cwd").symlink_to(self.data)

    def test_postmaster(self) -> None:
        """A postmaster counts if it works in its own data directory."""
        self.assertIsNone(postmaster_pid(self.data, self.proc))
        (self.data / "postmaster.pid").write_text(f"11\n{self.data}\n")
        self.assertEqual(postmaster_pid(self.data, self.proc), 11)
        for stale in ("12\n", "13\n", "x\n", ""):
            (self.data / "postmaster.pid").write_text(stale)
            self.assertIsNone(postmaster_pid(self.data, self.proc))

    def test_find_command(self) -> None:
        """A daemon is found by its whole command; an editor of the same file is none."""
        daemon = ("-m", "patroni", "/x/patroni.yml")
        self.assertEqual(find_command(daemon, self.proc), 11)
        (self.proc / "11" / "cmdline").write_bytes(b"vi\0/x/patroni.yml\0")
        self.assertIsNone(find_command(daemon, self.proc))
        (self.proc / "12" / "cmdline").write_bytes(b"-m\0patroni\0/x/patroni.yml\0")
        self.assertEqual(find_command(daemon, self.proc), 12)

    def test_busy_port(self) -> None:
        """A busy port is named with its purpose, unless our own PostgreSQL holds it."""
        for offset, purpose in ((0, "the REST API"), (1000, "raft"), (-2576, "PostgreSQL")):
            with socket.create_server(("127.0.0.1", 0)) as holder:
                port = holder.getsockname()[1]
                place = Place(1, self.directory, port - offset)
                if not MIN_BASE_PORT <= place.base_port <= MAX_BASE_PORT:
                    continue  # the system's choice of a port leaves no room for the others
                expected = f"port {port} is busy; pg1 needs it for {purpose}"
                self.assertRaisesRegex(CannotStart, expected, checks.check_ports, place)
                if purpose == "PostgreSQL":
                    self.adopt(place)
                    checks.check_ports(place, self.proc)

    def adopt(self, place: Place) -> None:
        """Let process 11 be the node's postmaster."""
        place.data.mkdir(parents=True)
        (place.data / "postmaster.pid").write_text("11\n")
        (self.proc / "11" / "cwd").unlink()
        (self.proc / "11" / "cwd").symlink_to(place.data)


class PrivilegeTests(SynchronousTestCase):
    """How root runs what refuses to be root."""

    def account(self, allowed: str, user_id: int = 0) -> Account:
        """Find an account on a machine where only some commands work."""

        def works(command: Sequence[str]) -> bool:
            return command[0] == allowed

        return unprivileged_account(Path("/"), works=works, user_id=user_id)

    def test_ordinary_user(self) -> None:
        """Who is not root needs nothing."""
        self.assertEqual(self.account("nothing", user_id=1000), Account())

    def test_namespace(self) -> None:
        """Root prefers a user namespace, in which files need no new owner."""
        account = self.account("unshare")
        self.assertEqual((account.prefix[0], account.owner), ("unshare", None))
        account.give(Path("/no/such/file"))

    def test_account(self) -> None:
        """Without namespaces root becomes another account, which is given the files."""
        account = self.account("setpriv")
        self.assertEqual(account.prefix[0], "setpriv")
        assert account.owner is not None
        self.assertIn(f"--reuid={account.owner[0]}", account.prefix)
        self.assertNotEqual(account.owner[0], 0)

    def test_nothing_works(self) -> None:
        """If nothing works, one line says what to do."""
        error = self.assertRaises(NoUnprivilegedAccount, self.account, "nothing")
        self.assertIn("as an ordinary user", str(error))

    def test_here(self) -> None:
        """On this machine there is a way, or one line that says there is none."""
        try:
            account = unprivileged_account(Path("/"))
        except NoUnprivilegedAccount:
            return
        self.assertEqual(bool(account.prefix), os.geteuid() == 0)
