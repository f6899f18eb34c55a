"""Prompt Studio: one long request whose response is the result.

Sources: docs.prompt.studio, "Run a workflow" (the dialect `workflows`), and for `instructions` the later recipes/deploy
page and the ps-sdk, which disagree with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from providers.contract import (
    UNREADABLE,
    Call,
    Cause,
    JsonValue,
    KeyHeader,
    Outcome,
    ProviderFault,
    Reply,
    Run,
    Steps,
    ask,
    invalid,
    refusal,
    segment,
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """Generation of the API: path of a start, header of the key, members of the response that hold the result."""

    path: str
    key_header: KeyHeader
    results: tuple[str, ...]
    whole_body: bool
    key_check: Call | None = None


DIALECTS = {
    "workflows": Dialect("/v1/workflows/{}/run", KeyHeader("API_KEY"), ("result",), whole_body=False),
    "instructions": Dialect(
        "/api/v1/instructions/{}/run",
        KeyHeader("Authorization", "Bearer "),
        ("result", "completion"),
        whole_body=True,
        key_check=Call("GET", "/api/v1/deployments", "key_check", safe=True),
    ),
}


class PromptStudio:
    """Adapter of Prompt Studio, in one of the `DIALECTS`; "workflows" by default."""

    base_url = "https://api.prompt.studio"
    supports_versions = False
    supports_nodes = False
    starts: tuple[str, ...] = tuple(
        f"POST {prefix}/{name}*" for prefix in ("/v1", "/api/v1") for name in ("workflows", "instructions")
    )
    dialects: tuple[str, ...] = tuple(DIALECTS)

    def __init__(self, dialect: str | None = None) -> None:
        if dialect is not None and dialect not in DIALECTS:
            raise ValueError(f"Prompt Studio's dialects are: {', '.join(DIALECTS)}")
        self._dialect = DIALECTS[dialect or "workflows"]
        self.key_header: KeyHeader = self._dialect.key_header
        self.key_check: Call | None = self._dialect.key_check

    def steps(self, run: Run) -> Steps:
        """Send the run's one request."""
        path = self._dialect.path.format(segment(run.workflow))
        call = Call("POST", path, "start", safe=False, json={"input": dict(run.input)})
        output = yield from ask(call, self._read)
        return Outcome(succeeded=True, output=output)

    def follow(self, provider_run_id: str) -> None:
        """Return None: Prompt Studio has no request about a run."""

    def _read(self, reply: Reply) -> JsonValue:
        if reply.status == 500:  # "error running the workflow": it ran
            raise ProviderFault(Cause.RUN_FAILED, "error running the workflow")
        if reply.status != 200:
            raise refusal(reply)
        if reply.body is UNREADABLE:
            raise invalid("the response is not JSON")
        body = reply.body
        for member in self._dialect.results:
            if isinstance(body, dict) and member in body:
                return body[member]
        if not self._dialect.whole_body:
            raise invalid("the response has no result")
        return body
