"""Fuzz test from the OpenAPI document: every response to valid and invalid requests conforms to it (R74).

FUZZ_CASES=10000 sends that many, and other ones each time; without it, a few hundred, always the same.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator
from schemathesis import Case, GenerationMode, Response
from schemathesis.specs.openapi import checks

from tests.security.gateway_harness import GatewayHarness
from tests.support.client import auth_headers
from tests.support.examples import examples
from tests.support.fake_upstream.provider_responses import promptlayer_started
from tests.support.raw_client import build_head, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

CASES = int(os.environ.get("FUZZ_CASES", examples(600)))
SETTINGS = settings(
    max_examples=max(10, CASES // 6),
    deadline=None,
    derandomize="FUZZ_CASES" not in os.environ,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
"""What an answer has to hold. (JSON Schema takes 1.0 for an integer, which the gateway does not.)"""
NAMES = st.sampled_from(["studio", "layer", "prompt_studio/any", "promptlayer/any", "none", ""]) | st.text(max_size=9)
"""Workflows, so that not every right request ends at an unknown one."""
VALID, INVALID = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
EXPECTED = {
    ("POST", "/run", VALID): {"200", "workflow_not_found", "invalid_request"},
    ("POST", "/run", INVALID): {"invalid_request", "malformed_json"},
    ("GET", "/runs", VALID): {"200"},
    ("GET", "/runs", INVALID): {"invalid_request"},
    ("GET", "/runs/{id}", VALID): {"not_found"},
    ("GET", "/runs/{id}", INVALID): {"not_found"},
    ("GET", "/runs/{id}/timeline", VALID): {"not_found"},
    ("POST", "/runs/{id}/cancel", VALID): {"not_found"},
    ("POST", "/runs/{id}/replay", VALID): {"not_found"},
    ("POST", "/runs/{id}/replay", INVALID): {"invalid_request", "malformed_json"},
    ("POST", "/workflows/{workflow_name}/run", VALID): {"201", "callback_url_refused", "invalid_idempotency_key"},
    ("POST", "/workflows/{workflow_name}/run", INVALID): {"invalid_request", "malformed_json"},
    ("GET", "/workflow-version-execution-results", VALID): {"not_found"},
    ("GET", "/workflow-version-execution-results", INVALID): {"invalid_request"},
    ("GET", "/workflows", VALID): {"200"},
    ("GET", "/workflows", INVALID): {"invalid_request"},
}
"""Operations, and answers that must be among theirs, or the requests were not what they are meant to be."""


def schema_errors(document: Mapping[str, Any], operation_pointer: str, answer: Response) -> list[str]:
    """Validation errors of a response, by a library other than schemathesis's own."""
    media = answer.headers["content-type"][0].replace("/", "~1")
    pointer = f"{operation_pointer}/responses/{answer.status_code}/content/{media}/schema"
    return [error.message for error in OAS31Validator({**document, "$ref": pointer}).iter_errors(answer.json())]


def fuzz(url: str, document: dict[str, Any], method: str, path: str, mode: GenerationMode) -> Counter[str]:
    """Send the cases; returns the number of responses by status."""
    operation = schemathesis.openapi.from_dict(document)[path][method]
    where = f"#/paths/{path.replace('/', '~1')}/{method.lower()}"
    answered: Counter[str] = Counter()

    @SETTINGS
    @given(operation.as_strategy(generation_mode=mode), NAMES)
    def send(case: Case[Any], name: str) -> None:
        if mode is VALID and isinstance(case.body, dict):
            case.body["workflow"] = name
        if mode is VALID and "workflow_name" in case.path_parameters:
            case.path_parameters["workflow_name"] = quote(name, safe="") or "layer"
        answer = case.call(base_url=url, headers=auth_headers("one"))
        case.validate_response(answer, checks=CHECKS)
        assert (True, []) == (answer.status_code != 500, schema_errors(document, where, answer))
        answered[str(answer.json().get("code", answer.status_code))] += 1

    send()
    return answered


@pytest.mark.timeout(120 + CASES // 10)
@pytest.mark.parametrize(("method", "path", "mode"), EXPECTED)
async def test_every_answer_is_documented(
    harness: GatewayHarness, method: str, path: str, mode: GenerationMode
) -> None:
    """R74: status, type, headers and schema of every response are documented; never a 500."""
    harness.upstream.route(lambda r: (r.method, r.path[:11]) == ("POST", "/workflows/"), promptlayer_started(787))
    document = (await send_request(harness.url, build_head("GET", "/openapi.json"))).json
    answered = await asyncio.to_thread(fuzz, harness.url, dict(document), method, path, mode)
    assert EXPECTED[method, path, mode] <= set(answered), answered
    assert (True, None) == (answered.total() >= CASES // 20, harness.gateway.exit_code)
