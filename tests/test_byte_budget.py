"""Byte budget: what fits is held, what was paid for is read in turn, everything is given back."""

from __future__ import annotations

from gateway.byte_budget import LARGE, AnswerSizes, ByteBudget, Hold


def test_a_hold_gives_back_what_it_holds() -> None:
    budget = ByteBudget(1000)
    with Hold(budget) as hold:
        hold.add(300)
        assert hold.reserve_answer(600)
        assert 900 == budget.held
        hold.release()
        assert 0 == budget.held
    assert 0 == budget.held


def test_what_does_not_fit_is_refused_and_costs_nothing() -> None:
    budget = ByteBudget(1000)
    first, second = Hold(budget), Hold(budget)
    first.add(600)
    assert not second.try_add(401)
    assert not second.reserve_answer(401)
    assert 600 == budget.held
    assert second.try_add(400)
    assert 1000 == budget.held


def test_a_hold_alone_may_exceed_the_budget() -> None:
    """Otherwise a workflow with larger answers could never run."""
    budget = ByteBudget(1000)
    first, second = Hold(budget), Hold(budget)
    first.add(10)
    assert first.reserve_answer(5000)
    assert not second.try_add(1)


def test_an_answer_counts_as_large_as_it_is() -> None:
    """A small answer before it (a poll) leaves the reservation; the end of the run gives the rest back."""
    budget = ByteBudget(10 * LARGE)
    hold = Hold(budget)
    assert hold.reserve_answer(5 * LARGE)
    hold.receive_answer(100)
    assert 5 * LARGE == budget.held
    hold.receive_answer(2 * LARGE)
    assert 2 * LARGE == budget.held
    hold.receive_answer(100)
    assert (100, 100) == (hold.settle_answer(), budget.held)


def test_an_answer_that_exceeds_the_budget_is_counted_all_the_same() -> None:
    budget = ByteBudget(LARGE)
    other, hold = Hold(budget), Hold(budget)
    other.add(LARGE)
    hold.receive_answer(2 * LARGE)
    assert 3 * LARGE == budget.held


def test_claims_are_granted_in_their_order_as_soon_as_there_is_room() -> None:
    budget, granted = ByteBudget(1000), list[str]()
    full = Hold(budget)
    full.add(1000)
    holds = {name: Hold(budget) for name in ("first", "cancelled", "second", "third")}
    claims = {name: hold.await_room(500, lambda name=name: granted.append(name)) for name, hold in holds.items()}  # type: ignore[misc]  # a lambda's default has no type
    claims["cancelled"].cancelled = True
    assert [] == granted
    full.release()
    assert ["first", "second"] == granted
    assert 1000 == budget.held
    holds["first"].release()
    assert ["first", "second", "third"] == granted
    holds["second"].release()
    holds["third"].release()
    assert (0, 0) == (budget.held, len(budget.claims))


def test_the_usual_size_of_answers_follows_them_and_small_ones_need_no_room() -> None:
    sizes = AnswerSizes()
    sizes.record("small", LARGE - 1)
    assert (0, 0) == (sizes.expected("small"), sizes.expected("unknown"))
    sizes.record("large", 10 * LARGE)
    assert 10 * LARGE == sizes.expected("large")
    sizes.record("large", 2 * LARGE)
    assert 8 * LARGE == sizes.expected("large")
    for _ in range(20):
        sizes.record("large", 100)
    assert 0 == sizes.expected("large")
