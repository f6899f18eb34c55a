"""Changes the files of a running gateway and waits until it has read them."""

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
    """Put another file in its place at once, as editors and deployments do."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


def write_gateway_config(gateway: GatewayProcess, url: str, **overrides: JsonValue) -> None:
    """Replace its file by the tests' own configuration with other overrides."""
    replace_file(gateway.config, yaml.safe_dump(gateway_config(url, url, **overrides)))


def with_key_files(url: str, file: Path, **overrides: JsonValue) -> dict[str, JsonValue]:
    """The tests' own configuration, both providers' keys being in that file."""
    config = gateway_config(url, url, **overrides)
    providers = config["providers"]
    assert isinstance(providers, dict)
    keyed: dict[str, JsonValue] = {
        name: {**p, "api_key": {"file": str(file)}} for name, p in providers.items() if isinstance(p, dict)
    }
    return config | {"providers": keyed}


async def wait_for_reloads(gateway: GatewayProcess, times: int) -> None:
    """Wait until it has read its configuration anew so many times in all, whatever it thought of it."""
    await wait_until(lambda: times <= len(gateway.logs("reloaded") + gateway.logs("reload_refused")))


def mount_secret_files(folder: Path, version: str, files: dict[str, str]) -> None:
    """Mount files as Kubernetes does: each leads through the link `..data`, which is replaced in one step."""
    inside = folder / f"..{version}"
    inside.mkdir(parents=True)
    for name, text in files.items():
        (inside / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    fresh = folder / "..data_tmp"
    fresh.symlink_to(inside.name)
    fresh.replace(folder / "..data")
