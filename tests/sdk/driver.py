"""Driver of an official SDK: calls it as an application does, and prints the results as the last line (JSON).

Standard input: {"client": "sync" or "async", "calls": [what run_workflow takes, ...], "pause": 0.01}; each is begun so
many seconds after the one before it. The environment has base URL and key. It runs in an environment of its own, so
nothing of ours is imported here.
"""

from __future__ import annotations

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from promptlayer import AsyncPromptLayer, PromptLayer


def _error_document(error: Exception) -> dict[str, Any]:
    return {"error": type(error).__name__, "text": str(error)}


def _sync(call: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": PromptLayer().run_workflow(**call)}
    except Exception as error:  # noqa: BLE001 - the test decides what it should be
        return _error_document(error)


async def _async(calls: list[dict[str, Any]], pause: float) -> list[dict[str, Any]]:
    client = AsyncPromptLayer()

    async def one(number: int, call: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(number * pause)
        try:
            return {"result": await client.run_workflow(**call)}
        except Exception as error:  # noqa: BLE001 - as above
            return _error_document(error)

    return await asyncio.gather(*(one(number, call) for number, call in enumerate(calls)))


def main() -> None:
    """Execute the calls on standard input."""
    request = json.load(sys.stdin)
    if request["client"] == "async":
        results = asyncio.run(_async(request["calls"], request["pause"]))
    else:
        with ThreadPoolExecutor(len(request["calls"])) as threads:
            results = list(threads.map(_sync, request["calls"]))
    sys.stdout.write("\n" + json.dumps(results) + "\n")


main()
