"""Gateway process for end-to-end tests of an adapter: `runward serve` with a configuration, and `POST /run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import urlsplit

from providers.contract import JsonValue

CLIENT_KEY = "key-of-the-adapter-tests"
"""Key of the client that the configuration is given."""
_TIMEOUT = 30.0  # seconds, for the process to start, to answer and to stop


@dataclass(frozen=True, slots=True)
class RunResponse:
    """Response of the gateway: a run, or a problem document (RFC 9457)."""

    status: int
    document: Any

    @property
    def outcome(self) -> str:
        """Outcome of the run: "succeeded", or the problem's `outcome`."""
        return str(self.document.get("outcome", self.document.get("status")))


class GatewayProcess:
    """`runward serve` in a process of its own, as a context manager.

    `config` is the configuration; free ports and an in-memory store are its defaults. Its one client is "tests", with a
    key of this module and every workflow by default. `secrets` are the environment variables that it names.
    `output` has the lines that it wrote. Raises RuntimeError with them where it does not start.
    """

    def __init__(self, config: Mapping[str, JsonValue], secrets: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="runward-test-")
        self._config = Path(self._folder.name) / "gateway.yaml"
        self._config.write_text(json.dumps(_with_defaults(config)))  # JSON is YAML
        self._environment = {**os.environ, **secrets}
        self._process: subprocess.Popen[str] | None = None
        self._url: str | None = None
        self._listening = threading.Event()
        self.output: list[str] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - this Python, fixed arguments
            [sys.executable, "-m", "gateway", "serve", "--config", str(self._config)],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        threading.Thread(target=self._collect, args=(self._process.stdout,), daemon=True).start()
        if not self._listening.wait(_TIMEOUT) or self._url is None:
            self.__exit__()
            raise RuntimeError(f"the gateway did not start:\n{''.join(self.output)}")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def run(self, workflow: str, run_input: Mapping[str, JsonValue], **members: JsonValue) -> RunResponse:
        """Send `POST /run`; `members` are further members of its body."""
        return self.request("POST", "/run", {"workflow": workflow, "input": dict(run_input), **members})

    def request(self, method: str, path: str, body: JsonValue = None, **headers: str) -> RunResponse:
        """Send a request as the client; an underscore in a header's name stands for a hyphen."""
        address = urlsplit(self._url or "")
        connection = HTTPConnection(str(address.hostname), address.port, timeout=_TIMEOUT)
        fields = {"Authorization": f"Bearer {CLIENT_KEY}", "Content-Type": "application/json"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), fields)
            response = connection.getresponse()
            return RunResponse(response.status, json.loads(response.read()))
        finally:
            connection.close()

    def _collect(self, stream: IO[str]) -> None:
        """Collect the output to its end; set `_listening` with the URL, or without one where the process ended."""
        for line in stream:
            self.output.append(line)
            if '"listening"' in line and not self._listening.is_set():
                self._url = json.loads(line)["url"]
                self._listening.set()
        self._listening.set()


def _with_defaults(config: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    clients = config.get("clients", {})
    client = clients.get("tests", {}) if isinstance(clients, dict) else {}
    key_hash = f"sha256:{sha256(CLIENT_KEY.encode()).hexdigest()}"
    keys: JsonValue = [{"hash": key_hash}]
    return {
        "server": {"port": 0, "ops_port": 0, "drain": "0s"},
        "logs": {"format": "json"},
        "store": {"url": "memory://"},
        **config,
        "clients": {"tests": {"workflows": ["*"], **(client if isinstance(client, dict) else {}), "keys": keys}},
    }
