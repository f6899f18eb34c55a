"""Tests. Asserts of the helper modules show what differs, as those of the test modules do."""

import sys
from pathlib import Path

if "pytest" in sys.modules:  # not in programs that tests start
    import pytest

    pytest.register_assert_rewrite(
        *(f"{__name__}.{folder.name}" for folder in Path(__file__).parent.iterdir() if folder.is_dir())
    )
