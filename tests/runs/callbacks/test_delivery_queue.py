"""Queue of deliveries: fair between clients and receivers, bounded in number and bytes."""

from __future__ import annotations

from dataclasses import replace

from gateway.runs.callbacks.delivery_queue import DeliveryBounds, DeliveryQueue
from gateway.store.records import Delivery

MEGABYTE = 2**20
BOUNDS = DeliveryBounds(slots=20, bytes=64 * MEGABYTE, waiting=100)


def delivery(number: int, client: str = "one", host: str = "a.example", size: int = 10) -> Delivery:
    return Delivery(f"run_{client}_{number}", client, f"https://{host}/hook/{number}", size, 0.0, 0)


def filled(*deliveries: Delivery, bounds: DeliveryBounds = BOUNDS, until: float = 5.0) -> DeliveryQueue:
    queue = DeliveryQueue(bounds)
    for each in deliveries:
        queue.add(each, until=until)
    return queue


def start_all(queue: DeliveryQueue, now: float = 0.0) -> list[Delivery]:
    started = []
    while (each := queue.start_next(now)) is not None:
        started.append(each)
    return started


def test_one_client_leaves_half_of_the_slots_to_the_others() -> None:
    """R53: with receivers of any number."""
    queue = filled(*(delivery(number, host=f"{number}.example") for number in range(30)))
    assert 10 == len(start_all(queue))
    queue.add(delivery(0, "two"), until=5.0)
    assert ["two"] == [each.client for each in start_all(queue)]


def test_one_receiver_leaves_slots_to_the_others_of_its_client() -> None:
    queue = filled(*(delivery(number, host="hangs.example") for number in range(30)))
    hanging = len(start_all(queue))
    assert 5 <= hanging <= 7
    queue.add(delivery(99, host="good.example"), until=5.0)
    assert ["run_one_99"] == [each.run_id for each in start_all(queue)]


def test_clients_and_receivers_are_served_in_turn() -> None:
    many = [delivery(number, "one", f"{number % 2}.example") for number in range(6)]
    queue = filled(*many, *(delivery(number, "two") for number in range(3)))
    order = [queue.start_next(0.0) for _ in range(6)]
    assert ["one", "two"] * 3 == [each.client for each in order if each]
    hosts = [each.url.split("/")[2] for each in order if each and each.client == "one"]
    assert ["0.example", "1.example", "0.example"] == hosts


def test_a_receiver_that_hangs_loses_its_concurrency_and_gets_it_back() -> None:
    """Half of it with each attempt that hung, one more with each response."""
    bounds = replace(BOUNDS, slots=200, waiting=1000)
    queue = filled(*(delivery(number) for number in range(200)), bounds=bounds)
    first = start_all(queue)
    assert 60 <= len(first) <= 67
    for each in first:
        queue.finish(each, hung=True)
    [only] = start_all(queue)
    queue.finish(only, hung=True)
    [only] = start_all(queue)
    queue.finish(only, hung=False)
    two = start_all(queue)
    assert 2 == len(two)
    for each in two:
        queue.finish(each, hung=False)
    assert 4 == len(start_all(queue))
    queue.add(delivery(0, "one", "good.example"), until=5.0)
    queue.add(delivery(0, "two", "other.example"), until=5.0)
    assert {"good.example", "other.example"} == {each.url.split("/")[2] for each in start_all(queue)}


def test_the_bytes_in_delivery_are_bounded_and_shared() -> None:
    """Bodies of 9 MB: three of one receiver, more of another client."""
    size = 9 * MEGABYTE
    queue = filled(*(delivery(number, size=size) for number in range(20)))
    assert 3 == len(start_all(queue))
    queue.add(delivery(0, "two", "other.example", size), until=5.0)
    queue.add(delivery(1, "two", "other.example", 10), until=5.0)
    started = start_all(queue)
    assert ["two", "two"] == [each.client for each in started]
    assert [] == start_all(queue)


def test_a_body_larger_than_all_bytes_is_delivered_too() -> None:
    queue = filled(delivery(1, size=500 * MEGABYTE), delivery(2, size=500 * MEGABYTE))
    [first] = start_all(queue)
    queue.finish(first, hung=False)
    assert 1 == len(start_all(queue))


def test_the_places_in_the_queue_are_shared_too() -> None:
    queue = filled(*(delivery(number) for number in range(1000)))
    assert 30 <= len(queue) <= 34
    assert queue.add(delivery(0, host="good.example"), until=5.0)
    assert queue.add(delivery(0, "two"), until=5.0)


def test_a_delivery_waits_for_its_time_only() -> None:
    """Then it is due again in the store."""
    queue = filled(*(delivery(number) for number in range(3)), until=5.0)
    queue.add(delivery(0), until=9.0)
    assert 3 == len(queue)
    assert ["run_one_0"] == [each.run_id for each in start_all(queue, now=6.0)]
    assert 0 == len(queue)


def test_a_delivery_in_progress_is_not_queued_again() -> None:
    queue = filled(delivery(1))
    [running] = start_all(queue)
    assert not queue.add(delivery(1), until=9.0)
    queue.finish(running, hung=False)
    assert queue.add(delivery(1), until=9.0)


def test_nothing_is_kept_of_what_has_ended() -> None:
    """Only receivers that hung are remembered, a bounded number of them."""
    queue = DeliveryQueue(replace(BOUNDS, slow_receivers=10))
    for number in range(100):
        queue.add(delivery(number, f"client-{number}", f"{number}.example"), until=5.0)
        [started] = start_all(queue)
        queue.finish(started, hung=number % 2 == 0)
    assert not any((queue._waiting, queue._waiting_of_client, queue._running))
    assert not any((queue._usage_of_client, queue._usage_of_host))
    assert 10 == len(queue._host_limits)
