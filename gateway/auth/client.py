"""A client: its name, the workflows that it may run, its limits and its team."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from gateway.auth.scope import Scope, compile_scope
from gateway.limits.config import ClientLimitsConfig, KeyLimits


@dataclass(frozen=True, slots=True)
class Client:
    """One client of the configuration, as itself or as one of its stored keys stands for it.

    `workflows`: case-sensitive shell patterns. A pattern without "/" matches aliases; `provider/pattern` matches the
    provider's own names, which may contain "/". `*` alone allows no provider's own name.

    `key_id`: of the stored key of the request; None for a key of the configuration, or a certificate. `key_workflows`:
    patterns of that key, which a workflow must match too; empty: the key has no scope of its own. `key_limits`: its own
    limits, beside those of the client.
    """

    name: str
    workflows: tuple[str, ...] = ()
    limits: ClientLimitsConfig = field(default_factory=ClientLimitsConfig)
    addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    team: str | None = None
    key_id: str | None = None
    key_workflows: tuple[str, ...] = ()
    key_limits: KeyLimits | None = None
    _scope: Scope = field(init=False, repr=False, compare=False)
    _key_scope: Scope | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_scope", compile_scope(self.workflows))
        object.__setattr__(self, "_key_scope", compile_scope(self.key_workflows) if self.key_workflows else None)

    def narrowed(self, key_id: str, workflows: tuple[str, ...], limits: ClientLimitsConfig | None) -> Client:
        """Return the client as its key stands for it: `workflows` and `limits` hold beside the client's."""
        key_limits = None if limits is None else KeyLimits(key_id, limits)
        return replace(self, key_id=key_id, key_workflows=workflows, key_limits=key_limits)

    @property
    def may_pass_through(self) -> bool:
        """False for a key with a scope of its own: passthrough rules are those of the whole client."""
        return self._key_scope is None

    def may_run(self, alias: str) -> bool:
        """Return True if the client may run the workflow with this alias."""
        key_scope = self._key_scope
        return self._scope.alias_pattern.match(alias) is not None and (key_scope is None or key_scope.includes(alias))

    def may_run_direct(self, provider: str, name: str) -> bool:
        """Return True if the client may run a workflow by the provider's own name, without an alias."""
        return self._scope.includes_direct(provider, name) and (
            self._key_scope is None or self._key_scope.includes_direct(provider, name)
        )

    def may_connect_from(self, address: str) -> bool:
        """Return True if the client's IP allow-list includes `address` or is empty."""
        if not self.addresses:
            return True
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address):
            parsed = parsed.ipv4_mapped or parsed
        return any(parsed in network for network in self.addresses)
