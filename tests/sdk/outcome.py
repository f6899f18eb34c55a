"""What an official SDK makes of a gateway that has both emulated providers behind it: every case, asked once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.samples import Sample

from gateway.clock import SystemClock
from gateway.sandbox import CALLS, Calls, SandboxKeys, application, serve
from providers.contract import JsonValue
from tests.configuration import SECRETS, gateway_config
from tests.process import LogLine, start_gateway
from tests.sdk.sdks import Made, Sdk

LARGE = 1_500_000  # more than Python's WebSocket takes in one message
AWKWARD = {"text": 'a\nb\u2028c \U0001f600 "{}" \\n', "number": 1.5, "none": None, "list": [[], {}, True], "big": 2**53}
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
    "awkward": {"workflow_id_or_name": "echo", "input_variables": AWKWARD, "metadata": {"who": "a test"}},
    "large": {"workflow_id_or_name": "huge", "input_variables": {"bytes": LARGE}},
    "fails": {"workflow_id_or_name": "fail"},
    "fails with every node": {"workflow_id_or_name": "fail", "return_all_outputs": True},
    "half of it fails": {"workflow_id_or_name": "partial", "input_variables": {"a": 1}},
    "takes too long": {"workflow_id_or_name": "too-slow", "input_variables": {"seconds": 30}},
    "nobody knows": {"workflow_id_or_name": "error-500"},
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
class Outcome:
    """What an SDK made of the cases, and what the providers saw of it."""

    sdk: Sdk
    made: dict[str, Made]
    many: list[Made]
    calls: Calls
    samples: list[Sample]
    mistakes: list[LogLine]
    stranger: Made

    @property
    def starts(self) -> dict[str, int]:
        """What the providers were asked to start, by workflow."""
        counts = {**self.calls.promptlayer.workflows, **self.calls.prompt_studio.workflows}
        return {name: count.starts for name, count in counts.items()}

    def failed(self, case: str) -> str:
        """The words of a run that failed: raised, or in the nodes where the SDK returns those."""
        made = self.made[case]
        if self.sdk.raises:
            assert made.error is not None, made
            return made.text
        assert made.error is None, made
        [text] = [node["error_message"] for node in made.result.values() if node["is_output_node"]]
        assert {"FAILED"} == {node["status"] for node in made.result.values() if node["is_output_node"]}
        return str(text)

    def refused(self, made: Made) -> str:
        """The words with which a call was refused: JavaScript's SDK returns those."""
        if self.sdk.javascript:
            assert made.result["success"] is False
            return str(made.result["message"])
        assert "PromptLayerAPIError" == made.error
        return made.text


async def all_cases(sdk: Sdk, directory: Path) -> Outcome:
    """Start everything, ask everything, stop everything."""
    keys = SandboxKeys(SECRETS["PROMPTLAYER_API_KEY"], SECRETS["PROMPT_STUDIO_API_KEY"])
    served = application(SystemClock(), keys=keys)
    sandbox = await serve(served, "127.0.0.1", 0)
    try:
        gateway = await start_gateway(directory, _config(sandbox.url), SECRETS)
    except BaseException:
        await sandbox.close()
        raise
    try:
        made = await sdk.run(gateway.url, *CASES.values(), PROMPTLAYER_HTTP_TIMEOUT="20")
        # So long that all of them are on their way at once, although they are not begun at once.
        slow = [
            {"workflow_id_or_name": "many", "input_variables": {"n": n, "seconds": sdk.many / 50}}
            for n in range(sdk.many)
        ]
        many = await sdk.run(gateway.url + "/", *slow, pause=0.01, PROMPTLAYER_HTTP_TIMEOUT="60")
        [stranger] = await sdk.run(gateway.url, {"workflow_id_or_name": "triage"}, key="pl_0123456789abcdef")
        samples = await gateway.metrics()
    finally:
        await gateway.stop()
        await sandbox.close()
    mistakes = [*gateway.logs("mistake"), *gateway.logs("unhandled"), *gateway.logs("library")]
    return Outcome(sdk, dict(zip(CASES, made, strict=True)), many, served[CALLS], samples, mistakes, stranger)


def _config(sandbox: str) -> dict[str, JsonValue]:
    """Workflows as an operator has them: some have an alias, all have their provider's name."""
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
    return gateway_config(sandbox, sandbox, workflows={**own, **studio}, polling=polling)
