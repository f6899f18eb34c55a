"""NetworkPolicies allow the stated traffic and deny all other."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from gateway.outbound.webhook.ip_ranges import is_public
from tests.helm.cases import CASES, MINIMAL
from tests.helm.chart import NAME, Object, Release, merged, render
from tests.helm.policy import Peer, Pod, lets_in, lets_out

DNS = Peer({"k8s-app": "kube-dns"}, "kube-system")
NEIGHBOUR = Peer({"app": "checkout"})
STRANGER = Peer({"app": "checkout"}, "elsewhere")
PROMETHEUS = Peer({"app.kubernetes.io/name": "prometheus"}, "monitoring")
STORE = Peer({"app.kubernetes.io/name": "valkey"}, "data")
PUBLIC = ["8.8.8.8", "104.18.0.1", "2606:4700::1"]
CLOSED = [
    *("169.254.169.254", "169.254.20.10", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"),
    *("100.100.100.200", "127.0.0.1", "168.63.129.16", "0.0.0.0", "224.0.0.1", "255.255.255.255", "198.18.0.1"),
    *("::1", "fe80::1", "fc00::1", "fd00:ec2::254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "ff02::1"),
]


def _policies(release: Release) -> list[Object]:
    return [o for o in release.objects if o["kind"] == "NetworkPolicy"]


def _pod(release: Release, kind: str) -> Pod:
    for label, meta, spec in release.pods():
        if label.startswith(kind):
            ports = [port for container in spec["containers"] for port in container.get("ports", [])]
            return Pod(meta["labels"], {port["name"]: port["containerPort"] for port in ports})
    raise AssertionError(kind)


def _gateway(release: Release) -> Pod:
    return _pod(release, release.workload()["kind"])


@pytest.mark.parametrize("address", CLOSED)
def test_private_and_link_local_networks_are_closed_on_every_port(address: str) -> None:
    """R102."""
    release = render(MINIMAL)
    peer = Peer(address=address)
    reached = [p for p in (53, 80, 443, 6379, 8080) if lets_out(_policies(release), _gateway(release), peer, p)]
    assert [] == reached
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_open_on_443_alone(address: str) -> None:
    """R102."""
    release = render(MINIMAL)
    peer = Peer(address=address)
    reached = [p for p in (22, 53, 80, 443, 6379) if lets_out(_policies(release), _gateway(release), peer, p)]
    assert [443] == reached


def test_public_addresses_can_be_closed() -> None:
    release = render(merged(MINIMAL, {"networkPolicy": {"publicHttps": False}}))
    assert not lets_out(_policies(release), _gateway(release), Peer(address=PUBLIC[0]), 443)


def test_no_address_is_open_that_callbacks_must_not_reach() -> None:
    """R102: the first and last address of every excepted network, by the gateway's own table of public ones."""
    rule = next(r for r in render(MINIMAL).of("NetworkPolicy", NAME)["spec"]["egress"] if "ipBlock" in r["to"][0])
    release = render(MINIMAL)
    for peer in rule["to"]:
        for network in peer["ipBlock"]["except"]:
            address = network.partition("/")[0]
            assert not is_public(ip_address(address)), network
            assert not lets_out(_policies(release), _gateway(release), Peer(address=address), 443), network


def test_names_are_asked_for_at_the_clusters_servers_alone() -> None:
    release = render(MINIMAL)
    policies, pod = _policies(release), _gateway(release)
    assert lets_out(policies, pod, DNS, 53, "UDP")
    assert lets_out(policies, pod, DNS, 53)
    assert not lets_out(policies, pod, DNS, 443)
    assert not lets_out(policies, pod, Peer({"k8s-app": "kube-dns"}), 53, "UDP")


def test_other_pods_are_out_of_reach() -> None:
    """R102."""
    release = render(MINIMAL)
    for peer in (NEIGHBOUR, STRANGER, STORE, PROMETHEUS):
        assert not any(lets_out(_policies(release), _gateway(release), peer, p) for p in (53, 80, 443, 6379, 9090))


def test_by_default_the_namespace_reaches_the_public_port_and_nothing_the_operations_port() -> None:
    """R102."""
    release = render(MINIMAL)
    policies, pod = _policies(release), _gateway(release)
    assert lets_in(policies, pod, NEIGHBOUR, 8080)
    assert not lets_in(policies, pod, STRANGER, 8080)
    assert not lets_in(policies, pod, Peer(address="8.8.8.8"), 8080)
    for peer in (NEIGHBOUR, STRANGER, PROMETHEUS):
        assert not lets_in(policies, pod, peer, 9090)


def test_in_production_the_gateways_prometheus_and_the_store_are_what_is_open_beside() -> None:
    release = render(CASES["production"])
    policies, pod = _policies(release), _gateway(release)
    assert lets_in(policies, pod, Peer({}, "gateways"), 8080)
    assert not lets_in(policies, pod, Peer({}, "gateways"), 9090)
    assert lets_in(policies, pod, PROMETHEUS, 9090)
    assert not lets_in(policies, pod, PROMETHEUS, 8080)
    assert lets_out(policies, pod, STORE, 6380)
    assert not lets_out(policies, pod, STORE, 6379)
    assert not lets_out(policies, pod, Peer({"app": "other"}, "data"), 6380)


def test_what_is_stated_is_open() -> None:
    """Traces, callbacks and additional rules."""
    release = render(CASES["every port open that can be"])
    policies, pod = _policies(release), _gateway(release)
    assert [True, True, False] == [lets_out(policies, pod, PROMETHEUS, port) for port in (4317, 4318, 4319)]
    private = Peer(address="10.1.2.3")
    assert [True, True, False] == [lets_out(policies, pod, private, port) for port in (443, 8443, 80)]
    assert lets_out(policies, pod, Peer(address="10.2.0.1"), 8000)
    assert lets_in(policies, pod, Peer({}, "gateways"), 9090)


def test_the_port_of_the_store_is_that_of_its_url() -> None:
    store = [{"ipBlock": {"cidr": "10.9.0.0/16"}}]
    for url, port in (
        ("redis://valkey", 6379),
        ("rediss://user@valkey:7000/3", 7000),
        ("redis://[fd00::1]:6390/0", 6390),
        ("redis://[fd00::1]", 6379),
    ):
        values = {"config": {"store": {"url": url}}, "networkPolicy": {"storeTo": store}}
        release = render(merged(MINIMAL, values))
        reached = [
            p
            for p in (6379, 6390, 7000)
            if lets_out(_policies(release), _gateway(release), Peer(address="10.9.0.1"), p)
        ]
        assert [port] == reached, url


def test_the_job_that_checks_reaches_nothing_and_is_reached_by_nothing() -> None:
    """R102."""
    release = render(CASES["production"])
    policies, job = _policies(release), _pod(release, "Job")
    for peer in (DNS, NEIGHBOUR, STORE, Peer(address="8.8.8.8")):
        assert not any(lets_out(policies, job, peer, port) for port in (53, 443, 6380, 8080))
        assert not lets_in(policies, job, peer, 8080)


def test_the_test_pod_reaches_the_gateway_alone_whatever_peers_are_stated() -> None:
    values = merged(CASES["production"], {"networkPolicy": {"publicFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}})
    release = render(values)
    policies, pod, gateway = _policies(release), _pod(release, "Pod"), _gateway(release)
    assert lets_out(policies, pod, Peer(gateway.labels), 8080)
    assert lets_in(policies, gateway, Peer(pod.labels), 8080)
    assert not lets_in(policies, gateway, NEIGHBOUR, 8080)
    assert not lets_out(policies, pod, Peer(gateway.labels), 9090)
    assert not lets_out(policies, pod, Peer(address="8.8.8.8"), 443)


def test_policies_can_be_left_out() -> None:
    assert [] == _policies(render(CASES["no network policy"]))
