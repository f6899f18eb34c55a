"""The image as a container: service, graceful shutdown, resource limits, and process 1."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
import yaml

from gateway import sandbox
from gateway.clock import SystemClock
from providers.contract import JsonValue
from tests.image.building import Image
from tests.image.container import USER, Container, running
from tests.support.client import PostRun
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.process import start_gateway
from tests.support.valkey import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # the first test of a process builds the image

Serve: TypeAlias = Callable[[], AbstractAsyncContextManager[Container]]
_HEALTH = ("/opt/runward/bin/python", "-I", "-S", "/opt/runward/libexec/healthcheck.py")
_TRIES = 3
_ORPHAN = "import os, time\nif os.fork() == 0:\n    os.fork() or time.sleep(0.2)\n    os._exit(0)\nos.wait()"
"""Leaves a process behind whose parent has ended, and which ends soon itself."""
_ZOMBIES = (
    "import glob\nstats = [open(path).read().rpartition(')') for path in glob.glob('/proc/[0-9]*/stat')]\n"
    "print(sum(fields.split()[0] == 'Z' for _, _, fields in stats))"
)


@pytest.fixture
async def providers() -> AsyncIterator[str]:
    """The URL of both providers, emulated on the loopback interface."""
    keys = sandbox.SandboxKeys(PROVIDER_SECRETS["PROMPTLAYER_API_KEY"], PROVIDER_SECRETS["PROMPT_STUDIO_API_KEY"])
    served = await sandbox.serve(sandbox.create_application(SystemClock(), keys=keys), "127.0.0.1", 0)
    yield served.url
    await served.close()


@pytest.fixture
def serve(image: Image, providers: str, tmp_path: Path) -> Serve:
    """Factory of listening containers with mounted configuration and secret files."""
    ops_port = free_port()
    config = gateway_config(providers, providers, server={"ops_port": ops_port}, store={"url": "sqlite:///runward.db"})
    config["workflows"] = {
        "triage": {"provider": "promptlayer", "name": "support-triage", "timeout": "30s"},
        "slow": {"provider": "prompt_studio", "name": "dep_slow", "timeout": "30s"},
    }
    config["providers"] = {name: {"base_url": providers} for name in ("promptlayer", "prompt_studio")}
    configuration = tmp_path / "configuration"
    configuration.mkdir()
    (configuration / "gateway.yaml").write_text(yaml.safe_dump(config))
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name, secret in PROVIDER_SECRETS.items():
        file = folder / f"runward_providers__{name.lower().removesuffix('_api_key')}__api_key"
        file.write_text(secret)
        os.chown(file, USER, USER)
        file.chmod(0o400)
    os.chown(folder, USER, USER)

    @asynccontextmanager
    async def start() -> AsyncIterator[Container]:
        mounts = {"/etc/runward": configuration, "/run/secrets/runward": folder}
        scratch = tmp_path / f"container-{time.monotonic_ns()}"
        async with running(image, scratch, mounts) as container:
            await container.gateway.wait_until_listening()
            yield container

    return start


async def test_it_runs_workflows_of_both_providers(serve: Serve, run: PostRun) -> None:
    """R103: from the wheel, in an environment with the locked libraries alone."""
    async with serve() as container:
        layer = await run(container.gateway, {"workflow": "triage", "input": {"message": "It broke"}})
        studio = await run(container.gateway, {"workflow": "slow", "input": {"seconds": 0}}, Idempotency_Key="once")
        written = container.gateway.stdout + container.gateway.stderr
    assert [(200, "promptlayer"), (200, "prompt_studio")] == [
        (one.status, one.json["provider"]) for one in (layer, studio)
    ]
    assert [] == [secret for secret in PROVIDER_SECRETS.values() if secret in written]


async def test_sigterm_ends_it_with_exit_code_0_and_the_run_in_flight_is_answered(serve: Serve, run: PostRun) -> None:
    async with serve() as container:
        body: dict[str, JsonValue] = {"workflow": "slow", "input": {"seconds": 1.5}}
        answer = asyncio.create_task(run(container.gateway, body))
        await until(lambda: in_flight(container))
        container.gateway.terminate()
        assert 200 == (await answer).status
        assert 0 == await container.gateway.wait_until_exit()
    assert "draining" in container.gateway.stdout


async def test_the_health_check_tells_a_gateway_that_serves_from_one_that_does_not(serve: Serve) -> None:
    async with serve() as container:
        url = container.gateway.ops_url + "/healthz"
        assert (0, "") == await container.execute(*_HEALTH, env={"RUNWARD_HEALTH_URL": url})
        code, told = await container.execute(*_HEALTH, env={"RUNWARD_HEALTH_URL": url + "/nothing"})
        assert (1, "unhealthy: HTTP Error 404: Not Found\n") == (code, told)
        code, told = await container.execute(*_HEALTH, env={"RUNWARD_HEALTH_URL": "file:///etc/passwd"})
        assert (1, "unhealthy: RUNWARD_HEALTH_URL must begin with http:// or https://\n") == (code, told)


async def test_the_first_process_reaps_what_others_leave_behind(serve: Serve) -> None:
    async with serve() as container:
        assert (0, "") == await container.execute("/opt/runward/bin/python", "-c", _ORPHAN)

        async def reaped() -> bool:
            return (0, "0\n") == await container.execute("/opt/runward/bin/python", "-c", _ZOMBIES)

        await until(reaped)


async def test_its_commands_work_in_it(serve: Serve) -> None:
    """R101: as `docker exec` and `kubectl exec` run them, on a read-only root; the configuration need not be named."""
    async with serve() as container:
        code, told = await container.execute("/opt/runward/bin/runward", "check")
        assert (0, True) == (code, "valid: " in told)
        code, told = await container.execute("/opt/runward/bin/python", "-c", "open('/opt/x', 'w')")
        assert (1, True) == (code, "Read-only file system" in told)


async def test_an_invalid_configuration_is_reported_with_exit_code_2(image: Image, tmp_path: Path) -> None:
    configuration = tmp_path / "configuration"
    configuration.mkdir()
    (configuration / "gateway.yaml").write_text("server: {prot: 8080}\n")
    mounts = {"/etc/runward": configuration}
    async with running(image, tmp_path / "container", mounts) as container:
        assert 2 == await container.gateway.wait_until_exit()
    assert "unknown key" in container.gateway.stderr


async def test_it_is_ready_about_as_soon_as_the_gateway_without_a_container(
    serve: Serve, providers: str, tmp_path: Path
) -> None:
    """Best of several times from process start to `listening`; the image contains byte code."""
    inside, outside = [], []
    for attempt in range(_TRIES):
        before = time.perf_counter()
        async with serve():
            inside.append(time.perf_counter() - before)
        folder = tmp_path / f"outside-{attempt}"
        folder.mkdir()
        before = time.perf_counter()
        process = await start_gateway(folder, gateway_config(providers, providers), PROVIDER_SECRETS, fork=False)
        outside.append(time.perf_counter() - before)
        await process.stop()
    print(f"ready after {min(inside):.2f} s in a container, {min(outside):.2f} s without one")  # noqa: T201
    assert min(inside) < 3 * min(outside)


async def in_flight(container: Container) -> bool:
    """Return True if a run has been started."""
    samples = await container.gateway.metrics()
    return any(one.name == "runward_requests_in_flight" and one.value > 0 for one in samples)


async def until(true: Callable[[], Awaitable[bool]], tries: int = 200) -> None:
    """Wait until the condition is true. Raises AssertionError after a timeout."""
    for _ in range(tries):
        if await true():
            return
        await asyncio.sleep(0.05)
    pytest.fail("it did not come true")
