"""The process that forks probe children on request: started by `edges/launcher.py`, before any share is touched.

It gets one end of a socket for each child over the socket on standard input, answers with the child's process id and
a descriptor of it (pidfd_open(2)), and ends when its own socket does. It opens no media.
"""

from __future__ import annotations

import os
import signal
import socket
import struct


def main() -> None:
    """Serve until the daemon closes the socket."""
    # The daemon ends us; a signal to the whole group at a stop must not. Children that ended need no collecting.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    requests = socket.socket(fileno=0)
    while (link := _next_link(requests)) is not None:
        pid = os.fork()
        if pid == 0:
            requests.close()
            _run_child(link)
        link.close()
        _tell(requests, pid)


def _next_link(requests: socket.socket) -> socket.socket | None:
    request, descriptors, _, _ = socket.recv_fds(requests, 1, 1)
    return socket.socket(fileno=descriptors[0]) if request and descriptors else None


def _run_child(link: socket.socket) -> None:
    code = 1
    try:
        from chamelaion_watch.edges import probe_child  # 20 MB of ffmpeg that this process can do without

        probe_child.main(link)
        code = 0
    finally:
        os._exit(code)


def _tell(requests: socket.socket, pid: int) -> None:
    answer = struct.pack(">I", pid)
    try:
        handle = os.pidfd_open(pid)
    except OSError:  # it ended already
        requests.sendall(answer)
        return
    try:
        socket.send_fds(requests, [answer], [handle])
    finally:
        os.close(handle)


if __name__ == "__main__":
    main()
