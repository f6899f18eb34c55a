"""Worker spec: round trip through a command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gateway.settings import load
from gateway.supervisor.worker_spec import WorkerSpec
from tests.support.configuration import PROVIDER_SECRETS, gateway_config


def test_a_worker_spec_is_read_as_it_was_written() -> None:
    spec = WorkerSpec(3, 7, (4, 5), 6, ("::1", 9090), "redis://h/1")
    assert spec == WorkerSpec.parse(spec.to_json())


def test_a_worker_uses_the_store_of_the_others(tmp_path: Path) -> None:
    """R45: the store URL of the spec takes precedence over the file."""
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(gateway_config("http://127.0.0.1", "http://127.0.0.1")))
    before = load(tmp_path / "gateway.yaml", PROVIDER_SECRETS)
    kept = WorkerSpec(0, 1, (), 2, ("h", 1), "redis://h/1").apply_to(before)
    assert ("redis://h/1", before.store.retention) == (kept.store.url, kept.store.retention)
    assert before == kept.model_copy(update={"store": before.store})


@pytest.mark.parametrize("text", ["", "{}", "1", '{"worker":"x","channel":3,"listeners":[],"accept_counts":4}'])
def test_an_invalid_worker_spec_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a worker spec"):
        WorkerSpec.parse(text)
