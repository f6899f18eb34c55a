"""Rate limit of failed authentication attempts per address, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from gateway.clock import Clock
from gateway.limits.config import RateLimit
from gateway.limits.gcra import RateLimiter

_BURST = 20
_RATE = RateLimit(count=20, per=60.0)
_MAX_ADDRESSES = 10_000


class FailedAuthLimiter:
    """Allows 20 refused keys per address at once, then one every 3 seconds.

    Valid keys are not counted, so that clients with the same address cannot be locked out. At most 10 000 addresses are
    kept; the least recently used one is dropped.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limiters: OrderedDict[str, RateLimiter] = OrderedDict()

    def record(self, address: str) -> float:
        """Count a refused key. Returns 0 within the limit, else the seconds to wait."""
        network = network_of(address)
        limiter = self._limiters.pop(network, None) or RateLimiter(_RATE, _BURST)
        self._limiters[network] = limiter
        if len(self._limiters) > _MAX_ADDRESSES:
            self._limiters.popitem(last=False)
        now = self._clock.monotonic()
        if limiter.blocked(now):
            return limiter.wait_time(now)
        limiter.take(now)
        return 0.0


def network_of(address: str) -> str:
    """Return the network that one sender controls: the /64 of an IPv6 address, or the IPv4 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
