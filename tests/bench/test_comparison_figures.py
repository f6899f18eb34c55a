"""Arithmetic and table of the comparison with other gateways."""

from __future__ import annotations

from bench.compare.figures import Cell, Figure, added, cells, not_sustained
from bench.compare.table import ratio_text, table


def test_what_the_direct_call_took_in_the_same_round_is_subtracted() -> None:
    rounds = {"direct": [1.0, 5.0, 2.0], "relay": [4.0, 6.0, 4.5], "nginx": [1.5, 4.0, 2.5]}
    assert {"relay": [3.0, 1.0, 2.5], "nginx": [0.5, -1.0, 0.5]} == added(rounds)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """The machine was at half its speed in the second round, for both."""
    rounds = {"relay": [1000.0, 500.0, 900.0], "ours": [1600.0, 700.0, 1350.0]}
    assert {"relay": Cell(900.0, 1.0), "ours": Cell(1350.0, 1.5)} == cells(rounds, "relay")


def test_a_ratio_of_differences_that_can_be_negative_is_that_of_the_medians() -> None:
    rounds = {"relay": [2.0, -1.0, 4.0], "ours": [1.0, 6.0, 5.0]}
    assert Cell(5.0, 2.5) == cells(rounds, "relay")["ours"]


def test_there_is_no_ratio_to_a_median_that_is_not_positive() -> None:
    assert Cell(5.0, None) == cells({"relay": [0.0, -1.0, 4.0], "ours": [1.0, 6.0, 5.0]}, "relay")["ours"]
    assert Cell(-1.0, None) == cells({"relay": [1.0, 1.0, 4.0], "ours": [-1.0, -6.0, 5.0]}, "relay")["ours"]


def test_rounds_that_were_left_out_do_not_shift_the_ratios() -> None:
    """With unequal numbers of rounds they cannot be paired."""
    assert Cell(3.0, 1.5) == cells({"relay": [2.0, 1.0, 8.0], "ours": [3.0]}, "relay")["ours"]


def test_there_is_no_ratio_without_the_baseline() -> None:
    assert {"ours": Cell(2.0, None)} == cells({"ours": [2.0]}, "relay")


def test_one_slow_round_does_not_make_a_rate_unsustained() -> None:
    rates = {"fast": [199.0, 90.0, 161.0], "slow": [199.0, 90.0, 150.4], "direct": [200.0], "none": []}
    assert {"slow": "not sustained (150/s)"} == not_sustained(rates, 200)


def test_the_table_has_values_ratios_and_remarks() -> None:
    figures = (Figure("most", "requests/s", 0), Figure("open", "added, ms", 2))
    values = {"most": {"relay": Cell(12345.6, 1.0), "ours": Cell(617.3, 0.05)}, "open": {"relay": Cell(0.5)}}
    text = table(
        {"relay": "bare relay", "ours": "Runward"}, figures, values, {("open", "ours"): "not sustained (90/s)"}
    )
    assert [
        "| | bare relay | Runward |",
        "|---|---|---|",
        "| requests/s | 12 346 (1.00) | 617 (0.05) |",
        "| added, ms | 0.50 | not sustained (90/s) |",
    ] == text.splitlines()


def test_what_was_not_measured_is_called_so() -> None:
    text = table({"ours": "Runward"}, (Figure("most", "requests/s"),), {}, {})
    assert "| requests/s | not measured |" == text.splitlines()[-1]


def test_ratios_have_three_digits() -> None:
    assert ["0.05", "9.99", "10.0", "99.9", "100", "1353"] == [
        ratio_text(one) for one in (0.05, 9.991, 9.996, 99.94, 99.96, 1353.2)
    ]
