"""The examples of docs/callbacks.md verify signed deliveries and refuse all others."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
import yaml

from gateway.api.openapi.response_schemas import RunAnswer
from gateway.runs.callbacks.webhook_message import sign_message, signing_key
from gateway.settings.sections import STANDARD_SCHEDULE, CallbackSettings
from tests.support.process import ROOT

PAGE = (ROOT / "docs" / "callbacks.md").read_text()
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
RUN = {"id": "run_1", "status": "succeeded", "output": "ü"}
BODY = json.dumps({"type": "run.finished", "data": RUN}, ensure_ascii=False).encode()
Verifier = Callable[[str, bytes, Mapping[str, str]], object]


def example(language: str) -> str:
    """Return the only code block of a language."""
    [block] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return str(block)


def verify_in_python(secret: str, body: bytes, headers: Mapping[str, str]) -> object:
    namespace: dict[str, object] = {}
    exec(example("python"), namespace)
    return cast("Verifier", namespace["finished_run"])(secret, body, dict(headers))


def verify_in_node(secret: str, body: bytes, headers: Mapping[str, str]) -> object:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    program = example("js") + (
        "const [secret, body, headers] = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));"
        "console.log(JSON.stringify(finishedRun(secret, Buffer.from(body, 'base64'), headers)));"
    )
    arguments = json.dumps([secret, base64.b64encode(body).decode(), dict(headers)])
    finished = subprocess.run([node, "-e", program], input=arguments, capture_output=True, text=True, check=True)
    return json.loads(finished.stdout)


@pytest.fixture(params=[verify_in_python, verify_in_node], ids=["python", "node"])
def verify(request: pytest.FixtureRequest) -> Verifier:
    return cast("Verifier", request.param)


def signed(*secrets: str, age: timedelta = timedelta()) -> dict[str, str]:
    message = sign_message("msg_run_1", BODY, [signing_key(secret) for secret in secrets], datetime.now(UTC) - age)
    return {
        "webhook-id": message.id,
        "webhook-timestamp": str(message.timestamp),
        "webhook-signature": message.signature,
    }


def test_the_examples_accept_a_signed_delivery(verify: Verifier) -> None:
    assert RUN == verify(SECRET, BODY, signed(SECRET))
    assert RUN == verify(SECRET, BODY, signed(OTHER_SECRET, SECRET)), "while the secret is rotated"


def test_the_examples_refuse_every_other_delivery(verify: Verifier) -> None:
    headers = signed(SECRET)
    assert verify(OTHER_SECRET, BODY, headers) is None
    assert verify(SECRET, BODY.replace(b"run_1", b"run_2"), headers) is None
    assert verify(SECRET, BODY, headers | {"webhook-id": "msg_run_2"}) is None
    assert verify(SECRET, BODY, headers | {"webhook-signature": "v1,"}) is None
    assert verify(SECRET, BODY, signed(SECRET, age=timedelta(minutes=6))) is None


def test_the_example_of_a_secret_is_accepted() -> None:
    command = next(
        block for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) if "rand" in block
    )
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.strip()
    assert 32 == len(signing_key(made))


def test_the_example_of_a_body_has_the_fields_of_a_run() -> None:
    event = json.loads(example("json"))
    assert {"type", "timestamp", "data"} == set(event)
    assert set(RunAnswer.model_fields) - {"outputs", "replay_of", "cost"} == set(event["data"])
    RunAnswer.model_validate(event["data"])


def test_the_example_of_the_configuration_has_the_settings_names() -> None:
    assert {"secrets"} == set(yaml.safe_load(example("yaml"))["callbacks"]) & set(CallbackSettings.model_fields)


def test_the_schedule_on_the_page_is_the_standard_one() -> None:
    units = {"s": 1, "min": 60, "h": 3600}
    listed = re.search(r"follows after (.*?) \(`callbacks.schedule", PAGE, re.DOTALL)
    assert listed is not None
    delays = [float(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h)\b", listed[1])]
    assert list(STANDARD_SCHEDULE) == [0.0, *delays]
