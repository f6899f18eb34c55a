"""Fixture: the image, built once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.image import programs
from tests.image.building import Image, built, context

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Image of this source tree; skipped if it cannot be built, or a failure if it is required."""
    programs.demand()
    with built("localhost/runward:test", context(tmp_path_factory.mktemp("context"))) as image:
        yield image
