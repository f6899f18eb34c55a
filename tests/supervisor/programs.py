"""Workers that do little, as programs: what a supervisor has to cope with."""

from __future__ import annotations

import sys

_OPENING = """
import json, os, signal, socket, sys, time
berth = json.loads(sys.argv[-1])
channel = socket.socket(fileno=berth["channel"])
lines = channel.makefile("rb")
count = 0
def say(question=0, ready=True):
    numbers = {"runward_requests": [[["run", "200"], [count]]]}
    channel.sendall(json.dumps({"question": question, "ready": ready, "numbers": numbers}).encode() + b"\\n")
"""
_OBEDIENT = """
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
_STUBBORN = """
say()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    time.sleep(0.05)
    if os.getppid() == 1:
        sys.exit(9)
"""


def program(text: str) -> list[str]:
    """A command: no site packages, so that it starts at once."""
    return [sys.executable, "-I", "-S", "-c", _OPENING + text]


OBEDIENT = program(_OBEDIENT)
"""Answers each question, counts every order (a reload as 1000), ends when it is told to."""
STUBBORN = program(_STUBBORN)
"""Says that it is ready, and nothing more; does not end."""
REFUSING = program("sys.exit(2)")
"""What a wrong configuration does."""
CRASHING = program("os.abort()")
"""Dies before it is ready."""
BABBLING = program("channel.sendall(b'what?\\n')\n" + _STUBBORN)
"""Says what makes no sense."""
FIRST_ONLY = program("berth['worker'] and sys.exit(3)\n" + _OBEDIENT)
"""The first place works, every other dies at once."""
