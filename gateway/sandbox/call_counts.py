"""Request counters of the sandbox, independent of the metrics of the gateway."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field

from aiohttp import web

from gateway.json import strict_json

UNKNOWN_WORKFLOW = "(unknown)"
"""Name for requests to a workflow or an execution that does not exist."""


@dataclass(slots=True)
class CallCount:
    """`starts`: requests to run; `polls`: requests for results, whatever the response. `runs`: executions."""

    starts: int = 0
    polls: int = 0
    runs: int = 0


@dataclass(slots=True)
class ProviderCallCounts:
    """The counts of one provider, by the name (or deployment id) of the workflow."""

    workflows: defaultdict[str, CallCount] = field(default_factory=lambda: defaultdict(CallCount))

    @property
    def starts(self) -> int:
        """Of all workflows."""
        return sum(count.starts for count in self.workflows.values())

    @property
    def polls(self) -> int:
        """Of all workflows."""
        return sum(count.polls for count in self.workflows.values())

    @property
    def runs(self) -> int:
        """Of all workflows."""
        return sum(count.runs for count in self.workflows.values())

    def document(self) -> dict[str, object]:
        """Return the totals and the counts of each workflow, for JSON."""
        workflows = {name: asdict(count) for name, count in sorted(self.workflows.items())}
        return {"starts": self.starts, "polls": self.polls, "runs": self.runs, "workflows": workflows}


@dataclass(slots=True)
class CallCounts:
    """The counts of both providers, served at `/_sandbox/calls`."""

    promptlayer: ProviderCallCounts = field(default_factory=ProviderCallCounts)
    prompt_studio: ProviderCallCounts = field(default_factory=ProviderCallCounts)

    def reset(self) -> None:
        """Set all counts to zero."""
        self.promptlayer.workflows.clear()
        self.prompt_studio.workflows.clear()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes `GET /_sandbox/calls` and `DELETE /_sandbox/calls` (reset), without authentication."""
        return [web.get("/_sandbox/calls", self._show), web.delete("/_sandbox/calls", self._reset)]

    async def _show(self, _: web.Request) -> web.Response:
        document = {"promptlayer": self.promptlayer.document(), "prompt_studio": self.prompt_studio.document()}
        return web.Response(body=strict_json.write(document), content_type="application/json")

    async def _reset(self, _: web.Request) -> web.Response:
        self.reset()
        return web.Response(status=204)
