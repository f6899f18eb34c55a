"""Fork server: has imported the gateway, and forks a process for each request. Linux only (pidfd_open).

`python -m tests.support.fork_server_main FD MODULE...`: FD is a Unix socket of messages; MODULE is imported beforehand.
A request is a JSON object {module, arguments, environment} with four file descriptors: standard input, output and error
of the new process, and a socket, where the fork server writes its id (with a pidfd) and, once it has ended, its exit
code. The end of FD ends the fork server and its processes.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

MESSAGE_BYTES = 100_000


class StartRequest(TypedDict):
    """What the new process runs: `python -m MODULE ARGUMENTS` with this environment, and no other."""

    module: str
    arguments: list[str]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Child:
    pid: int
    pidfd: int
    status: socket.socket


def main() -> None:
    """Serve requests; in a forked process, run its module."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        importlib.import_module(module)
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise RuntimeError("a process with threads cannot fork safely: an imported module has started one")
    gc.collect()
    gc.freeze()  # collections in the children would otherwise copy the pages of all these objects
    interrupt_handler = signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C ends the tests, and these end this process
    request = _serve(control)
    if request is not None:
        signal.signal(signal.SIGINT, interrupt_handler)
        sys.argv[1:] = request["arguments"]
        for name in os.environ.keys() - {"LC_CTYPE"}:  # set by the interpreter (PEP 538)
            del os.environ[name]
        os.environ.update(request["environment"])
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _serve(control: socket.socket) -> StartRequest | None:
    """Fork a process for each request. Returns the request in the child, None at the end of `control`."""
    children: dict[int, _Child] = {}
    with control, selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    selector.unregister(key.fd)
                    _report_end(children.pop(key.fd))
                    continue
                message, fds, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 4)
                if not message:
                    _kill(children)
                    return None
                child = _fork(fds)
                if child is None:
                    _close(children)
                    request: StartRequest = json.loads(message)
                    return request
                children[child.pidfd] = child
                selector.register(child.pidfd, selectors.EVENT_READ)


def _fork(fds: list[int]) -> _Child | None:
    """Return the child; None in the child, which has the first three descriptors as 0, 1 and 2 and closes the rest."""
    status = socket.socket(fileno=fds.pop())
    pid = os.fork()
    if pid == 0:
        status.close()
        for target, fd in enumerate(fds):
            os.dup2(fd, target)
    for fd in fds:
        os.close(fd)
    if pid == 0:
        return None
    child = _Child(pid, os.pidfd_open(pid), status)
    socket.send_fds(status, [b"%d\n" % pid], [child.pidfd])
    return child


def _report_end(child: _Child) -> None:
    _, status = os.waitpid(child.pid, 0)
    with suppress(OSError):  # the tests need not wait for the exit code
        child.status.send(b"%d\n" % os.waitstatus_to_exitcode(status))
    _close({child.pidfd: child})


def _kill(children: dict[int, _Child]) -> None:
    for child in children.values():
        signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
        os.waitpid(child.pid, 0)


def _close(children: dict[int, _Child]) -> None:
    for child in children.values():
        os.close(child.pidfd)
        child.status.close()


if __name__ == "__main__":
    main()
