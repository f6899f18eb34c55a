"""Queue of deliveries that are due, and the choice of the next one: fair between clients and between receivers.

Of the delivery slots, the bytes of all bodies in delivery, and the places in the queue, a client may occupy no more
than remain free for other clients, and a receiver no more than remain free for other receivers of its client. A
receiver that hangs loses half of its concurrency each time.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from gateway.outbound.webhook.callback_url import receiver_host
from gateway.store.records import Delivery


@dataclass(frozen=True, slots=True)
class DeliveryBounds:
    """Bounds of all deliveries: `slots` at once, with `bytes` in their bodies; `waiting` in the queue."""

    slots: int = 200
    bytes: int = 64 * 2**20
    waiting: int = 5_000
    slow_receivers: int = 1_000


@dataclass(frozen=True, slots=True)
class _Waiting:
    delivery: Delivery
    until: float  # monotonic time


class DeliveryQueue:
    """Deliveries that wait, by client and host of the receiver; both are served in turn."""

    def __init__(self, bounds: DeliveryBounds | None = None) -> None:
        self._bounds = bounds or DeliveryBounds()
        self._waiting: OrderedDict[str, OrderedDict[str, OrderedDict[str, _Waiting]]] = OrderedDict()
        self._waiting_of_client: Counter[str] = Counter()
        self._running: dict[str, Delivery] = {}
        self._used = _Usage()
        self._usage_of_client: dict[str, _Usage] = {}
        self._usage_of_host: dict[str, _Usage] = {}
        self._host_limits: OrderedDict[str, int] = OrderedDict()  # of receivers that hung

    def __len__(self) -> int:
        """Return the number of deliveries that wait."""
        return self._waiting_of_client.total()

    def add(self, delivery: Delivery, *, until: float) -> bool:
        """Let a delivery wait until this monotonic time. Returns False if its client has no more places."""
        self._remove(delivery)
        if delivery.run_id in self._running:
            return False
        host, used = _host(delivery), self._waiting_of_client[delivery.client]
        free = self._bounds.waiting - len(self)
        hosts = self._waiting.get(delivery.client, OrderedDict())
        line = hosts.get(host, OrderedDict())
        if used >= free or len(line) >= free - used:
            return False
        line[delivery.run_id] = _Waiting(delivery, until)
        hosts[host] = line
        self._waiting[delivery.client] = hosts
        self._waiting_of_client[delivery.client] += 1
        return True

    def start_next(self, now: float) -> Delivery | None:
        """Take the next delivery that may start at this monotonic time; None if there is none. `finish` must follow."""
        for client, hosts in list(self._waiting.items()):
            for host, line in list(hosts.items()):
                self._drop_expired(client, host, line, now)
                if not line:
                    continue
                delivery = next(iter(line.values())).delivery
                if self._may_start(delivery, host):
                    self._waiting.move_to_end(client)
                    hosts.move_to_end(host)
                    self._remove(delivery)
                    self._account(delivery, host, 1)
                    self._running[delivery.run_id] = delivery
                    return delivery
        return None

    def finish(self, delivery: Delivery, *, hung: bool) -> None:
        """End a delivery. `hung`: the receiver did not answer for seconds."""
        host = _host(delivery)
        del self._running[delivery.run_id]
        used = self._usage_of_host[host].slots
        self._account(delivery, host, -1)
        if hung:
            limit = self._host_limits.pop(host, used)
            self._host_limits[host] = max(1, min(limit, used) // 2)
            if len(self._host_limits) > self._bounds.slow_receivers:
                self._host_limits.popitem(last=False)
        elif host in self._host_limits:
            self._host_limits[host] += 1
            if self._host_limits[host] >= self._bounds.slots // 2:
                del self._host_limits[host]

    def _may_start(self, delivery: Delivery, host: str) -> bool:
        free_slots = self._bounds.slots - self._used.slots
        free_bytes = self._bounds.bytes - self._used.bytes
        size = self._counted_bytes(delivery)
        client = self._usage_of_client.get(delivery.client, _NOTHING)
        receiver = self._usage_of_host.get(host, _NOTHING)
        return (
            client.slots < free_slots
            and client.bytes + size <= free_bytes
            and receiver.slots < min(free_slots - client.slots, self._host_limits.get(host, free_slots))
            and (not receiver.slots or receiver.bytes + size <= free_bytes - client.bytes)
        )

    def _counted_bytes(self, delivery: Delivery) -> int:
        """Size of the body; a huge one counts as half of all bytes, so that it can be delivered."""
        return min(delivery.size, self._bounds.bytes // 2)

    def _account(self, delivery: Delivery, host: str, sign: int) -> None:
        size = sign * self._counted_bytes(delivery)
        self._used.add(sign, size)
        for table, key in ((self._usage_of_client, delivery.client), (self._usage_of_host, host)):
            usage = table.setdefault(key, _Usage())
            usage.add(sign, size)
            if not usage.slots:
                del table[key]

    def _drop_expired(self, client: str, host: str, line: OrderedDict[str, _Waiting], now: float) -> None:
        while line and (first := next(iter(line.values()))).until <= now:
            self._remove(first.delivery)
        if not line and host in self._waiting.get(client, {}):
            del self._waiting[client][host]

    def _remove(self, delivery: Delivery) -> None:
        client, host = delivery.client, _host(delivery)
        hosts = self._waiting.get(client, OrderedDict())
        line = hosts.get(host, OrderedDict())
        if line.pop(delivery.run_id, None) is None:
            return
        self._waiting_of_client[client] -= 1
        if not line:
            del hosts[host]
        if not hosts:
            del self._waiting[client]
            del self._waiting_of_client[client]


@dataclass(slots=True)
class _Usage:
    slots: int = 0
    bytes: int = 0

    def add(self, slots: int, size: int) -> None:
        self.slots += slots
        self.bytes += size


_NOTHING = _Usage()


def _host(delivery: Delivery) -> str:
    return receiver_host(delivery.url)
