"""Results of an official SDK with a gateway in front of both emulated providers: every case, executed once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.samples import Sample

from gateway.clock import SystemClock
from gateway.sandbox import CALL_COUNTS, CallCounts, SandboxKeys, create_application, serve
from providers.contract import JsonValue
from tests.sdk.official_sdks import OfficialSdk, SdkResult
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.process import LogLine, start_gateway

LARGE_BYTES = 1_500_000  # more than Python's WebSocket takes in one message
UNUSUAL_JSON = {
    "text": 'a\nb\u2028c \U0001f600 "{}" \\n',
    "number": 1.5,
    "none": None,
    "list": [[], {}, True],
    "big": 2**53,
}
CASES: dict[str, dict[str, Any]] = {
    "triage": {"workflow_id_or_name": "triage", "input_variables": {"message": "I was charged twice"}},
    "by its own name": {"workflow_id_or_name": "support-triage", "input_variables": {"message": "hello"}},
    "by its number": {"workflow_id_or_name": 4711, "input_variables": {"message": "hello"}},
    "a label": {"workflow_id_or_name": "triage", "workflow_label_name": "production"},
    "a version": {"workflow_id_or_name": "triage", "workflow_version": 1},
    "no such label": {"workflow_id_or_name": "triage", "workflow_label_name": "nightly"},
    "every node": {
        "workflow_id_or_name": "team/summarise", "input_variables": {"text": "One. Two."}, "return_all_outputs": True
    },
    "a name with a slash": {"workflow_id_or_name": "team/summarise", "input_variables": {"text": "One. Two."}},
    "awkward": {"workflow_id_or_name": "echo", "input_variables": UNUSUAL_JSON, "metadata": {"who": "a test"}},
    "large": {"workflow_id_or_name": "huge", "input_variables": {"bytes": LARGE_BYTES}},
    "fails": {"workflow_id_or_name": "fail"},
    "fails with every node": {"workflow_id_or_name": "fail", "return_all_outputs": True},
    "half of it fails": {"workflow_id_or_name": "partial", "input_variables": {"a": 1}},
    "takes too long": {"workflow_id_or_name": "too-slow", "input_variables": {"seconds": 30}},
    "outcome unknown": {"workflow_id_or_name": "error-500"},
    "unknown": {"workflow_id_or_name": "no such workflow"},
    "asking fails": {"workflow_id_or_name": "flaky-poll", "input_variables": {"a": 1}},
    "studio": {"workflow_id_or_name": "studio", "input_variables": {"message": "I was charged twice"}},
    "studio, every node": {"workflow_id_or_name": "dep_echo", "input_variables": {"a": 1}, "return_all_outputs": True},
    "studio fails": {"workflow_id_or_name": "dep_fail"},
    "studio has no labels": {"workflow_id_or_name": "studio", "workflow_label_name": "production"},
}  # fmt: skip
STARTS = {  # at the providers, by workflow: one for each call, whatever became of it; and `many`
    "support-triage": 6, "team/summarise": 2, "echo": 1, "huge": 1, "fail": 2, "partial": 1, "flaky-poll": 1, "slow": 1,
    "error-500": 1, "dep_triage": 1, "dep_echo": 1, "dep_fail": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SandboxResults:
    """Results of the cases, and the calls at the providers."""

    sdk: OfficialSdk
    results: dict[str, SdkResult]
    parallel_results: list[SdkResult]
    calls: CallCounts
    samples: list[Sample]
    internal_errors: list[LogLine]
    unknown_key_result: SdkResult

    @property
    def starts(self) -> dict[str, int]:
        """Return the starts at the providers, by workflow."""
        counts = {**self.calls.promptlayer.workflows, **self.calls.prompt_studio.workflows}
        return {name: count.starts for name, count in counts.items()}

    def failure_text(self, case: str) -> str:
        """Return the text of a failed run: raised, or in the nodes if the SDK returns those."""
        result = self.results[case]
        if self.sdk.raises_on_failure:
            assert result.error is not None, result
            return result.text
        assert result.error is None, result
        [text] = [node["error_message"] for node in result.result.values() if node["is_output_node"]]
        assert {"FAILED"} == {node["status"] for node in result.result.values() if node["is_output_node"]}
        return str(text)

    def rejection_text(self, result: SdkResult) -> str:
        """Return the text of a refused call, which the JavaScript SDK returns."""
        if self.sdk.javascript:
            assert result.result["success"] is False
            return str(result.result["message"])
        assert "PromptLayerAPIError" == result.error
        return result.text


async def run_all_cases(sdk: OfficialSdk, directory: Path) -> SandboxResults:
    """Start the servers, execute all cases, stop the servers."""
    keys = SandboxKeys(PROVIDER_SECRETS["PROMPTLAYER_API_KEY"], PROVIDER_SECRETS["PROMPT_STUDIO_API_KEY"])
    served = create_application(SystemClock(), keys=keys)
    sandbox = await serve(served, "127.0.0.1", 0)
    try:
        gateway = await start_gateway(directory, _config(sandbox.url), PROVIDER_SECRETS)
    except BaseException:
        await sandbox.close()
        raise
    try:
        made = await sdk.run(gateway.url, *CASES.values(), PROMPTLAYER_HTTP_TIMEOUT="20")
        # Long enough for all runs to overlap, although they start one after the other.
        slow = [
            {"workflow_id_or_name": "many", "input_variables": {"n": n, "seconds": sdk.parallel_calls / 50}}
            for n in range(sdk.parallel_calls)
        ]
        many = await sdk.run(gateway.url + "/", *slow, pause=0.01, PROMPTLAYER_HTTP_TIMEOUT="60")
        [stranger] = await sdk.run(gateway.url, {"workflow_id_or_name": "triage"}, key="pl_0123456789abcdef")
        samples = await gateway.metrics()
    finally:
        await gateway.stop()
        await sandbox.close()
    mistakes = [
        *gateway.logs("internal_error"),
        *gateway.logs("unhandled"),
        *gateway.logs("third_party"),
    ]
    return SandboxResults(
        sdk, dict(zip(CASES, made, strict=True)), many, served[CALL_COUNTS], samples, mistakes, stranger
    )


def _config(sandbox: str) -> dict[str, JsonValue]:
    """Workflows with and without an alias, all with the provider's name."""
    own: dict[str, JsonValue] = {
        name: {"provider": "promptlayer", "name": name, "timeout": "20s", "max_timeout": "20s"}
        for name in ("echo", "huge", "fail", "partial", "error-500", "flaky-poll")
    }
    own["many"] = {"provider": "promptlayer", "name": "slow", "timeout": "60s", "max_timeout": "60s"}
    own["summary"] = {"provider": "promptlayer", "name": "team/summarise", "timeout": "20s", "max_timeout": "20s"}
    own["triage"] = {
        "aliases": {"promptlayer": ["support-triage", 4711]},
        "provider": "promptlayer",
        "name": "support-triage",
        "timeout": "20s",
        "max_timeout": "20s",
    }
    own["too-slow"] = {"provider": "promptlayer", "name": "slow", "timeout": "1s", "max_timeout": "1s"}
    studio: dict[str, JsonValue] = {
        alias: {"provider": "prompt_studio", "name": name, "timeout": "20s", "max_timeout": "20s"}
        for alias, name in (("studio", "dep_triage"), ("studio-echo", "dep_echo"), ("studio-fail", "dep_fail"))
    }
    polling: JsonValue = {"first": "100ms", "max": "500ms"}
    # Two hundred calls at once keep the SDK's event loop busy between a connect and its request.
    server: JsonValue = {"header_timeout": "20s", "body_timeout": "20s"}
    return gateway_config(sandbox, sandbox, workflows={**own, **studio}, polling=polling, server=server)
