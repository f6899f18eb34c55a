"""Execution of the image as in an orchestrator: read-only, no capabilities, separate process ids (runc).

The network is the machine's, so that the container reaches what listens on the loopback interface.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.image import programs
from tests.support.process import GatewayProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.image.building import Image

USER = 10001
_OPTIONS = ["nosuid", "nodev"]


@dataclass(frozen=True, slots=True)
class Container:
    """A running container. `gateway` is its first process and its output; `name` is runc's."""

    name: str
    state: Path
    gateway: GatewayProcess

    async def execute(self, *command: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run a command in the container; returns the exit code and the output."""
        variables = [word for name, value in (env or {}).items() for word in ("--env", f"{name}={value}")]
        process = await asyncio.create_subprocess_exec(
            "runc", "--root", str(self.state), "exec", *variables, self.name, *command,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        written, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, written.decode()


@asynccontextmanager
async def running(
    image: Image, folder: Path, mounts: Mapping[str, Path], command: list[str] | None = None
) -> AsyncIterator[Container]:
    """Run the image's own command, or another one. `mounts`: what is where in the container, read-only.

    A folder for the data is mounted besides, which the image's user may write to. `folder` is scratch.
    """
    bundle, state, name = folder / "bundle", folder / "state", f"runward-{secrets.token_hex(4)}"
    _write_bundle(bundle, image, mounts, command)
    command_line = ["runc", "--root", str(state), "run", "--bundle", str(bundle), name]
    container = Container(name, state, GatewayProcess(command_line, folder, {}))
    try:
        yield container
    finally:
        await container.gateway.stop()
        # runc fails if the container has already ended.
        await (await asyncio.create_subprocess_exec("runc", "--root", str(state), "delete", "--force", name)).wait()


def _write_bundle(bundle: Path, image: Image, mounts: Mapping[str, Path], command: list[str] | None) -> None:
    data = bundle / "data"
    data.mkdir(parents=True)
    os.chown(data, USER, USER)
    programs.output(["runc", "spec"], cwd=bundle)
    described = bundle / "config.json"
    spec = json.loads(described.read_text())
    described.write_text(json.dumps(_specified(spec, image, mounts, data, command)))


def _specified(
    spec: dict[str, Any], image: Image, mounts: Mapping[str, Path], data: Path, command: list[str] | None
) -> dict[str, Any]:
    config = image.config
    assert config["User"] == f"{USER}:{USER}"
    spec["root"] = {"path": str(image.root), "readonly": True}
    spec["process"].update(
        terminal=False,
        user={"uid": USER, "gid": USER},
        args=[*config["Entrypoint"], *(config["Cmd"] if command is None else command)],
        env=config["Env"],
        cwd=config["WorkingDir"],
        noNewPrivileges=True,
        rlimits=[],
        capabilities={kind: [] for kind in ("bounding", "effective", "permitted", "ambient", "inheritable")},
    )
    spec["mounts"] += [
        {"destination": where, "source": str(what), "type": "bind", "options": ["bind", "ro", *_OPTIONS]}
        for where, what in mounts.items()
    ]
    spec["mounts"].append(
        {"destination": "/var/lib/runward", "source": str(data), "type": "bind", "options": ["bind", "rw", *_OPTIONS]}
    )
    spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] != "network"]
    return spec
