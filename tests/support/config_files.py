"""Changes of configuration files of a running gateway, and waits for their reload."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from tests.support.configuration import gateway_config
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.support.process import GatewayProcess


def replace_file(path: Path, text: str) -> None:
    """Replace a file atomically, as editors and deployments do."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


def write_gateway_config(gateway: GatewayProcess, url: str, **overrides: JsonValue) -> None:
    """Replace the file by the tests' configuration with other overrides."""
    replace_file(gateway.config, yaml.safe_dump(gateway_config(url, url, **overrides)))


def with_key_files(url: str, file: Path, **overrides: JsonValue) -> dict[str, JsonValue]:
    """Return the tests' configuration with both provider keys in that file."""
    config = gateway_config(url, url, **overrides)
    providers = config["providers"]
    assert isinstance(providers, dict)
    keyed: dict[str, JsonValue] = {
        name: {**p, "api_key": {"file": str(file)}} for name, p in providers.items() if isinstance(p, dict)
    }
    return config | {"providers": keyed}


async def wait_for_reloads(gateway: GatewayProcess, times: int) -> None:
    """Wait until it has had this number of reloads in total, successful or not."""
    await wait_until(lambda: times <= len(gateway.logs("reloaded") + gateway.logs("reload_refused")))


def mount_secret_files(folder: Path, version: str, files: dict[str, str]) -> None:
    """Mount files as Kubernetes does: through the link `..data`, which is replaced atomically."""
    inside = folder / f"..{version}"
    inside.mkdir(parents=True)
    for name, text in files.items():
        (inside / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    fresh = folder / "..data_tmp"
    fresh.symlink_to(inside.name)
    fresh.replace(folder / "..data")
