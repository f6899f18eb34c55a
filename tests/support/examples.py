"""Number of examples of Hypothesis: the profile `tests` has a quarter of those of `thorough`, which CI uses."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_THOROUGH = 100


def register_profiles() -> None:
    """Register both profiles and load `tests`; `--hypothesis-profile=thorough` selects the other one."""
    for name, count in (("tests", _THOROUGH // 4), ("thorough", _THOROUGH)):
        # A busy machine generates inputs slowly.
        settings.register_profile(name, max_examples=count, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    settings.load_profile("tests")


def examples(count: int) -> int:
    """Return the number of examples under the current profile, where `thorough` has `count`."""
    return max(1, count * settings().max_examples // _THOROUGH)
