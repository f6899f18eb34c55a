"""Evaluation of NetworkPolicies: traffic is allowed if a rule of any policy matches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from tests.helm.chart import NAMESPACE, Object


@dataclass(frozen=True, slots=True)
class Peer:
    """Other end of a connection: a pod with its labels and those of its namespace, or an external address."""

    labels: Object = field(default_factory=dict)
    namespace: str = NAMESPACE
    address: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """Pod of the release. `ports`: its ports by name."""

    labels: Object
    ports: Object


def lets_in(policies: Sequence[Object], pod: Pod, peer: Peer, port: int) -> bool:
    """Return True if `peer` may open a TCP connection to the pod's port."""
    return _allowed(_rules(policies, pod, "Ingress"), "from", pod, peer, (port, "TCP"))


def lets_out(policies: Sequence[Object], pod: Pod, peer: Peer, port: int, protocol: str = "TCP") -> bool:
    """Return True if the pod may connect to `peer` on a port."""
    return _allowed(_rules(policies, pod, "Egress"), "to", pod, peer, (port, protocol))


def _rules(policies: Sequence[Object], pod: Pod, direction: str) -> list[Object] | None:
    """Return the rules of all policies that select the pod; None without a policy (all traffic is allowed)."""
    selecting = [
        policy["spec"]
        for policy in policies
        if _matches(policy["spec"]["podSelector"], pod.labels) and direction in policy["spec"]["policyTypes"]
    ]
    return [rule for spec in selecting for rule in spec.get(direction.lower()) or []] if selecting else None


def _allowed(rules: Sequence[Object] | None, side: str, pod: Pod, peer: Peer, way: tuple[int, str]) -> bool:
    return rules is None or any(_peers(rule.get(side), peer) and _ports(rule.get("ports"), pod, *way) for rule in rules)


def _peers(peers: Sequence[Object] | None, peer: Peer) -> bool:
    return not peers or any(_is(one, peer) for one in peers)


def _is(one: Object, peer: Peer) -> bool:
    if "ipBlock" in one:
        return bool(peer.address) and _within(one["ipBlock"], peer.address)
    if peer.address:
        return False
    if "namespaceSelector" in one:
        if not _matches(one["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace}):
            return False
    elif peer.namespace != NAMESPACE:
        return False
    return _matches(one.get("podSelector", {}), peer.labels)


def _within(block: Object, address: str) -> bool:
    known = ip_address(address)
    networks = [ip_network(block["cidr"]), *map(ip_network, block.get("except", []))]
    inside = [network for network in networks if network.version == known.version and known in network]
    return inside == [networks[0]]


def _ports(ports: Sequence[Object] | None, pod: Pod, port: int, protocol: str) -> bool:
    return not ports or any(
        pod.ports.get(one["port"], one["port"]) == port and one.get("protocol", "TCP") == protocol for one in ports
    )


def _matches(selector: Object, labels: Object) -> bool:
    assert set(selector) <= {"matchLabels"}, "only matchLabels are understood here"
    return bool(selector.get("matchLabels", {}).items() <= labels.items())
