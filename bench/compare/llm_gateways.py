"""Gateways for LLMs, each relaying chat completions of an OpenAI-compatible upstream: TensorZero, Portkey, LiteLLM."""

from __future__ import annotations

import json
from pathlib import Path

from typing_extensions import override

from bench.compare.peer import (
    Launch,
    Peer,
    Place,
    chat_body,
    http_request,
    install_python_packages,
    python_of,
    python_package_version,
    run_installer,
    site_packages,
)

_UPSTREAM_KEY = "sk-bench-0123"
_CLIENT_KEY = "sk-client-0123"
_TENSORZERO = """\
[gateway]
observability.enabled = false

[models.bench]
routing = ["fake"]

[models.bench.providers.fake]
type = "openai"
model_name = "bench"
api_base = "{url}/v1/"
api_key_location = "env::BENCH_KEY"
"""


class TensorZero(Peer):
    """The gateway that TensorZero's Python package embeds; observability off, no key of the client."""

    name = "tensorzero"
    title = "TensorZero"

    @override
    def install(self, folder: Path) -> None:
        install_python_packages(folder, "tensorzero")

    @override
    def version(self, folder: Path) -> str:
        return python_package_version(folder, "tensorzero")

    @override
    def launch(self, place: Place) -> Launch:
        config = place.files / "tensorzero.toml"
        config.write_text(_TENSORZERO.format(url=place.upstream_url))
        script = Path(__file__).with_name("tensorzero_gateway.py")
        port_file = place.files / "port"
        command = [str(python_of(place.packages)), str(script), str(config), str(port_file)]
        return Launch(command, {"BENCH_KEY": _UPSTREAM_KEY}, port_file)

    @override
    def request(self, place: Place, size: int) -> bytes:
        body = chat_body(size, "tensorzero::model_name::bench")
        return http_request("/openai/v1/chat/completions", body, {"Authorization": f"Bearer {_CLIENT_KEY}"})

    @override
    def package_tree(self, folder: Path) -> Path:
        return site_packages(folder)


class Portkey(Peer):
    """Portkey's open-source gateway on Node.js; provider and upstream are named by the client's headers."""

    name = "portkey"
    title = "Portkey"

    @override
    def install(self, folder: Path) -> None:
        (folder / "package.json").write_text("{}")
        run_installer(["npm", "install", "--no-audit", "--no-fund", "--silent", "@portkey-ai/gateway"], cwd=folder)

    @override
    def version(self, folder: Path) -> str:
        return str(json.loads((self._package(folder) / "package.json").read_text())["version"])

    @override
    def launch(self, place: Place) -> Launch:
        script = self._package(place.packages) / "build/start-server.js"
        return Launch(["node", str(script), f"--port={place.port}", "--headless"], {"NODE_ENV": "production"})

    @override
    def request(self, place: Place, size: int) -> bytes:
        headers = {
            "Authorization": f"Bearer {_UPSTREAM_KEY}",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"{place.upstream_url}/v1",
        }
        return http_request("/v1/chat/completions", chat_body(size), headers)

    @override
    def package_tree(self, folder: Path) -> Path:
        return folder / "node_modules"

    @staticmethod
    def _package(folder: Path) -> Path:
        return folder / "node_modules/@portkey-ai/gateway"


class LiteLlm(Peer):
    """LiteLLM's proxy with a master key, one worker, no database."""

    name = "litellm"
    title = "LiteLLM"

    @override
    def install(self, folder: Path) -> None:
        install_python_packages(folder, "litellm[proxy]")

    @override
    def version(self, folder: Path) -> str:
        return python_package_version(folder, "litellm")

    @override
    def launch(self, place: Place) -> Launch:
        model = {"model": "openai/bench", "api_base": f"{place.upstream_url}/v1", "api_key": _UPSTREAM_KEY}
        config = {
            "model_list": [{"model_name": "bench", "litellm_params": model}],
            "general_settings": {"master_key": _CLIENT_KEY},
        }
        file = place.files / "litellm.yaml"
        file.write_text(json.dumps(config))  # JSON is YAML
        arguments = ["--config", str(file), "--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1"]
        program = str(place.packages / "bin/litellm")
        env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
        return Launch([program, *arguments, "--telemetry", "False"], env)

    @override
    def request(self, place: Place, size: int) -> bytes:
        return http_request("/v1/chat/completions", chat_body(size), {"Authorization": f"Bearer {_CLIENT_KEY}"})

    @override
    def package_tree(self, folder: Path) -> Path:
        return site_packages(folder)
