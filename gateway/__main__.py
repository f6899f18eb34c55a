"""Entry point: `python -m gateway` and the command `runward`.

Prepares the process before anything else is imported, so that it starts and ends properly from its first moment on.
"""

import os
import signal
import sys

from gateway import garbage_collection

_SERVERS = {"serve", "worker"}


def main() -> None:
    """Run the command line."""
    garbage_collection.pause()
    open_standard_streams()
    set_early_signals(sys.argv[1:2])
    from gateway.cli import main as run_command_line  # noqa: PLC0415 - takes most of the time of a start

    is_server = not _SERVERS.isdisjoint(sys.argv[1:2])
    if not is_server:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        garbage_collection.resume_after_start()
    run_command_line(is_server=is_server)


def open_standard_streams() -> None:
    """Open closed standard streams on /dev/null; otherwise a socket or a file would get the descriptors 0 to 2."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115 - open until the end


def set_early_signals(command: list[str]) -> None:
    """Set what signals do until the command handles them.

    SIGTERM and SIGINT end the process at once and without a traceback: nothing has been started yet. A server ignores
    SIGHUP, as it will read its configuration anyway; a worker ignores SIGINT, which its supervisor handles.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN if command == ["worker"] else signal.SIG_DFL)
    if _SERVERS.intersection(command):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    main()
