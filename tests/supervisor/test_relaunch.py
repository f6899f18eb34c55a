"""A place stays empty the longer, the more often its workers died at once."""

from __future__ import annotations

from gateway.supervisor.relaunch import Relaunch


def test_the_pauses_double_up_to_half_a_minute() -> None:
    """A crash loop costs a start every 30 s at most, for as long as it lasts."""
    relaunch = Relaunch()
    pauses = [relaunch.after(0.5) for _ in range(2000)]
    assert [0.1, 0.2, 0.4, 0.8, 1.6] == pauses[:5]
    assert {30.0} == set(pauses[10:])


def test_a_long_life_is_forgiven() -> None:
    """Who lived for a while is replaced at once, however often that happens."""
    relaunch = Relaunch()
    for _ in range(4):
        relaunch.after(0.0)
    assert (0.1, False) == (relaunch.after(10.0), relaunch.hopeless)


def test_five_deaths_in_a_row_leave_no_hope() -> None:
    relaunch = Relaunch()
    hopes = []
    for _ in range(5):
        relaunch.after(9.9)
        hopes.append(relaunch.hopeless)
    assert [False, False, False, False, True] == hopes
