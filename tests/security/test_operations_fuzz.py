"""Fuzz test of the operations port from its own OpenAPI document (R74)."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from gateway.json import strict_json
from tests.security.gateway_harness import GatewayHarness
from tests.security.test_openapi_fuzz import CASES, CHECKS, INVALID, SETTINGS, VALID, schema_errors
from tests.support.raw_client import build_get, build_head, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROVIDERS = st.sampled_from(["prompt_studio", "promptlayer"]) | st.text(min_size=1, max_size=9)
EXPECTED = {
    ("GET", "/api/runs", VALID): {"200"},
    ("GET", "/api/runs", INVALID): {"invalid_request"},
    ("GET", "/api/runs/{id}", VALID): {"not_found"},
    ("GET", "/callbacks", VALID): {"200"},
    ("GET", "/callbacks", INVALID): {"invalid_request"},
    ("POST", "/callbacks/replay/{id}", VALID): {"not_found"},
    ("POST", "/api/replays", VALID): {"200", "invalid_request"},
    ("POST", "/api/replays", INVALID): {"invalid_request"},
    ("GET", "/api/replays/{id}", VALID): {"replay_not_found"},
    ("POST", "/api/replays/{id}/abort", VALID): {"replay_not_found"},
    ("GET", "/providers", VALID): {"200"},
    ("POST", "/providers/override/{id}", VALID): {"200", "provider_not_found"},
    ("POST", "/providers/override/{id}", INVALID): {"invalid_request"},
    ("GET", "/api/keys", VALID): {"200"},
    ("GET", "/api/keys", INVALID): {"invalid_request"},
    ("POST", "/api/keys", VALID): {"invalid_request"},
    ("POST", "/api/keys", INVALID): {"invalid_request"},
    ("POST", "/api/keys/check", VALID): {"200"},
    ("POST", "/api/keys/check", INVALID): {"invalid_request"},
    ("GET", "/api/keys/{id}", VALID): {"key_not_found"},
    ("POST", "/api/keys/{id}/rotate", VALID): {"key_not_found"},
    ("POST", "/api/keys/{id}/rotate", INVALID): {"invalid_request"},
    ("POST", "/api/keys/{id}/revoke", VALID): {"key_not_found"},
    ("POST", "/api/keys/{id}/expire", VALID): {"key_not_found"},
    ("POST", "/api/keys/{id}/expire", INVALID): {"invalid_request"},
    ("GET", "/api/attention", VALID): {"200"},
    ("POST", "/api/runs/{id}/judge", VALID): {"not_found"},
    ("POST", "/api/runs/{id}/judge", INVALID): {"invalid_request"},
}
"""Operations, and answers that must be among theirs, or the requests were not what they are meant to be."""


def fuzz(url: str, document: dict[str, Any], method: str, path: str, mode: GenerationMode) -> Counter[str]:
    """Send the cases; returns the number of responses by status."""
    operation = schemathesis.openapi.from_dict(document)[path][method]
    pointer = f"#/paths/{path.replace('/', '~1')}/{method.lower()}"
    answered: Counter[str] = Counter()

    @SETTINGS
    @given(operation.as_strategy(generation_mode=mode), PROVIDERS)
    def send(case: Case[Any], provider: str) -> None:
        if path.startswith("/providers/override/"):
            case.path_parameters["id"] = quote(provider, safe="")
        answer = case.call(base_url=url, headers={"Content-Type": "application/json"})
        case.validate_response(answer, checks=CHECKS)
        assert (True, []) == (answer.status_code != 500, schema_errors(document, pointer, answer))
        answered[str(answer.json().get("code", answer.status_code))] += 1

    send()
    return answered


@pytest.mark.timeout(120 + CASES // 10)
@pytest.mark.parametrize(("method", "path", "mode"), EXPECTED)
async def test_every_answer_of_the_operations_port_is_documented(
    harness: GatewayHarness, method: str, path: str, mode: GenerationMode
) -> None:
    """R74: status, type, headers and schema of every response are documented; never a 500."""
    ops_url = harness.gateway.ops_url
    document = (await send_request(ops_url, build_get("/openapi.json"))).json
    try:
        answered = await asyncio.to_thread(fuzz, ops_url, dict(document), method, path, mode)
    finally:
        for provider in ("prompt_studio", "promptlayer"):
            head = {"Content-Type": "application/json", "Content-Length": "15"}
            undone = build_head("POST", f"/providers/override/{provider}", head) + strict_json.write({"mode": "auto"})
            assert 200 == (await send_request(ops_url, undone)).status
    assert EXPECTED[method, path, mode] <= set(answered), answered
    assert (True, None) == (answered.total() >= CASES // 20, harness.gateway.exit_code)
