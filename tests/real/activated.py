"""Runs a command with a listening socket, as systemd does: `activated.py PORT COMMAND...`."""

from __future__ import annotations

import os
import socket
import sys

from twisted_patroni.demo.layout import HOST

#: Where systemd puts the first socket.
FIRST = 3


def main() -> None:
    """Open the socket, name it ``api`` and become the command."""
    port, *command = sys.argv[1:]
    listener = socket.create_server((HOST, int(port)), backlog=128)
    os.dup2(listener.fileno(), FIRST)
    os.set_inheritable(FIRST, True)
    names = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "api", "LISTEN_PID": str(os.getpid())}
    os.execvpe(command[0], command, {**os.environ, **names})


if __name__ == "__main__":
    main()
