"""Program that prints what a process can observe about its start, and ends with the exit code of its argument."""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path


def main() -> None:
    """Print one JSON object."""
    report = {
        "argv": sys.argv,
        "name": __name__,
        "main": sys.modules["__main__"].__file__,
        "search path": sys.path,
        "environment": dict(os.environ),
        "directory": str(Path.cwd()),
        "open files": sorted(str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()),
        "standard input": sys.stdin.read(),
        "encodings": [sys.stdin.encoding, sys.stdout.encoding, sys.stderr.encoding],
        "buffering": [sys.stdout.line_buffering, sys.stderr.line_buffering],
        "signals": {number.name: str(signal.getsignal(number)) for number in signal.valid_signals() if _known(number)},
        "blocked signals": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "wakeup": signal.set_wakeup_fd(-1),
        "process group": os.getpgrp(),
        "session": os.getsid(0),
        "umask": os.umask(0o022),
        "nice": os.nice(0),
        "file limit": resource.getrlimit(resource.RLIMIT_NOFILE),
        "threads": [threading.active_count(), len(list(Path("/proc/self/task").iterdir()))],
        "garbage collection": [gc.isenabled(), gc.get_threshold()],
    }
    print(json.dumps(report), flush=True)  # noqa: T201
    print("error text", file=sys.stderr)  # noqa: T201
    if sys.argv[1] == "raise":
        raise ValueError("raised")
    if sys.argv[1] == "wait":
        signal.pause()
    sys.exit(int(sys.argv[1]))


def _known(number: int) -> bool:
    return isinstance(number, signal.Signals)


if __name__ == "__main__":
    main()
