"""The cost of a request does not grow unnoticed: calls and memory are counted, whatever the machine does."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.support.process import ROOT

MAX_PYTHON_CALLS = 177
"""Calls of Python functions for a `POST /run` with everything on, and for its record in the history (Python 3.11)."""
MAX_BUILTIN_CALLS = 136
MAX_BLOCKS = 78
"""Blocks of memory that a run in flight holds, without its sockets."""
MAX_BYTES = 10_000

MEASURE = """
import asyncio, dataclasses, json, sys
from bench.request_cost import measure
print(json.dumps(dataclasses.asdict(asyncio.run(measure()))), file=sys.stderr)
"""


def test_a_request_takes_no_more_calls_and_memory_than_stated() -> None:
    """Lower the limits where a change makes it cheaper; a change that has to raise one says why."""
    result = subprocess.run(
        [sys.executable, "-c", MEASURE],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},  # it counts calls
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert 0 == result.returncode, result.stderr
    cost = json.loads(result.stderr.splitlines()[-1])
    limits = {
        "python_calls": MAX_PYTHON_CALLS,
        "builtin_calls": MAX_BUILTIN_CALLS,
        "blocks": MAX_BLOCKS,
        "block_bytes": MAX_BYTES,
    }
    assert {} == {name: (value, limits[name]) for name, value in cost.items() if value > limits[name]}
