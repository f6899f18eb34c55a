"""Stub programs of workers, for the failures that a supervisor handles."""

from __future__ import annotations

import sys

_PREAMBLE = """
import json, os, signal, socket, sys, time
spec = json.loads(sys.argv[-1])
channel = socket.socket(fileno=spec["channel"])
lines = channel.makefile("rb")
count = 0
def say(question=0, ready=True):
    numbers = {"runward_requests": [[["run", "200"], [count]]]}
    channel.sendall(json.dumps({"question": question, "ready": ready, "numbers": numbers}).encode() + b"\\n")
"""
_RESPONSIVE = """
say()
for line in lines:
    count += 1000 if line == b"reload\\n" else 1
    if line.startswith(b"ask"):
        say(int(line.split()[1]))
    elif line == b"drain\\n":
        say(ready=False)
        sys.exit(0)
sys.exit(9)
"""
_UNRESPONSIVE = """
say()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    time.sleep(0.05)
    if os.getppid() == 1:
        sys.exit(9)
"""


def worker_command(text: str) -> list[str]:
    """Return a command without site packages, which starts quickly."""
    return [sys.executable, "-I", "-S", "-c", _PREAMBLE + text]


RESPONSIVE = worker_command(_RESPONSIVE)
"""Answers each question, counts every order (a reload as 1000), ends when it is told to."""
UNRESPONSIVE = worker_command(_UNRESPONSIVE)
"""Says that it is ready, and nothing more; does not end."""
CONFIG_REFUSED = worker_command("sys.exit(2)")
"""What a wrong configuration does."""
CRASHING = worker_command("os.abort()")
"""Dies before it is ready."""
MALFORMED = worker_command("channel.sendall(b'what?\\n')\n" + _UNRESPONSIVE)
"""Says what makes no sense."""
ONLY_FIRST_STARTS = worker_command("spec['worker'] and sys.exit(3)\n" + _RESPONSIVE)
"""The first place works, every other dies at once."""
