"""Invalid values are refused, each with a sentence that names the value and a remedy."""

from __future__ import annotations

import pytest

from gateway.settings.sources.secret_locations import SECRET_PATHS
from tests.helm.cases import GATEWAYS, MINIMAL, PLAIN_OPS, SHARED, SIDECAR, TLS
from tests.helm.chart import Object, merged, refusal, sentences

CANARY = "pl_4f9a1c0e7b2d8836"

REFUSED: dict[str, tuple[Object, str]] = {
    "two replicas on SQLite": (
        merged(MINIMAL, {"replicas": 2}),
        "which one process alone can use: set config.store.url to redis:// or rediss://.",
    ),
    "two workers on SQLite": (merged(MINIMAL, {"workers": 2}), "workers is 2, but config.store.url is sqlite://"),
    "two replicas in memory": (
        merged(MINIMAL, {"replicas": 2, "config": {"store": {"url": "memory://"}}}),
        "replicas is 2, but config.store.url is memory://",
    ),
    "a scaler on SQLite": (
        merged(MINIMAL, {"autoscaling": {"enabled": True}}),
        "autoscaling.enabled is true, but config.store.url is sqlite://",
    ),
    "HPA with KEDA": (
        merged(SHARED, {"autoscaling": {"enabled": True}, "keda": {"enabled": True, "triggers": [{"type": "cpu"}]}}),
        "autoscaling.enabled and keda.enabled are both true",
    ),
    "a scaler with more at least than at most": (
        merged(SHARED, {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 3}}),
        "autoscaling.minReplicas is 5, more than autoscaling.maxReplicas (3)",
    ),
    "a scaler without a target": (
        merged(SHARED, {"autoscaling": {"enabled": True, "cpu": None}}),
        "autoscaling.enabled is true without a target",
    ),
    "a scaler by a request that there is not": (
        merged(SHARED, {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}}),
        "autoscaling.cpu is a share of resources.requests.cpu, which is not set",
    ),
    "KEDA without a trigger": (merged(SHARED, {"keda": {"enabled": True}}), "keda.enabled is true without a trigger"),
    "one port for both": (
        merged(MINIMAL, {"config": {"server": {"port": 9090}}}),
        "config.server.port and config.server.ops_port are both 9090: give each its own port.",
    ),
    "a port that changes": (merged(MINIMAL, {"config": {"server": {"port": 0}}}), "config.server.port is 0"),
    "a container on the gateway's port": (
        merged(MINIMAL, {"extraContainers": [{**SIDECAR, "ports": [{"containerPort": 8080}]}]}),
        "extraContainers (proxy) uses port 8080, which is the gateway's",
    ),
    "a container with the name of the gateway's port": (
        merged(MINIMAL, {"extraContainers": [{**SIDECAR, "ports": [{"name": "ops", "containerPort": 1}]}]}),
        "extraContainers (proxy) names a port ops, which is the gateway's",
    ),
    "a container with the gateway's name": (
        merged(MINIMAL, {"extraContainers": [{**SIDECAR, "name": "runward"}]}),
        "extraContainers has the name runward",
    ),
    "an address that no pod reaches": (
        merged(MINIMAL, {"config": {"server": {"host": "127.0.0.1"}}}),
        'config.server.host is "127.0.0.1", where no other pod reaches it',
    ),
    "TLS on the operations port": (
        merged(MINIMAL, {"config": {"server": TLS}}),
        "config.server.tls enables TLS on the operations port, but the probes use plain HTTP: set",
    ),
    "TLS on the operations port alone": (
        merged(MINIMAL, {"config": {"server": {"ops_tls": TLS["tls"]}}}),
        "config.server.ops_tls enables TLS on the operations port",
    ),
    "a test by plain HTTP of a port with TLS": (
        merged(
            MINIMAL,
            {"config": {"server": {**TLS, **PLAIN_OPS}}, "test": {"workflow": "a", "keySecret": {"name": "key"}}},
        ),
        "test.workflow is set, but its pod uses plain HTTP and config.server.tls enables TLS",
    ),
    "a stop time that is too short": (
        merged(MINIMAL, {"terminationGracePeriodSeconds": 74}),
        "terminationGracePeriodSeconds is 74, but config.server.drain (10s), config.server.grace (60s) and 5 s need 75",
    ),
    "a file that cannot be written": (
        merged(MINIMAL, {"config": {"store": {"url": "sqlite:///var/runward.db"}}}),
        'config.store.url is "sqlite:///var/runward.db", but only /var/lib/runward can be written',
    ),
    "a file above the volume": (
        merged(MINIMAL, {"config": {"store": {"url": "sqlite:////var/lib/runward/../x.db"}}}),
        "but only /var/lib/runward can be written",
    ),
    "a server that the policy closes": (
        merged(SHARED, {"networkPolicy": {"storeTo": []}}),
        "config.store.url names a server, but networkPolicy.storeTo is empty",
    ),
    "an ingress that the policy closes": (
        merged(MINIMAL, {"ingress": {"enabled": True, "hosts": [{"host": "a.example"}]}}),
        "ingress.enabled is true, but networkPolicy.publicFrom lets in the pods of this namespace alone",
    ),
    "a route that the policy closes": (
        merged(MINIMAL, {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}}),
        "httpRoute.enabled is true, but networkPolicy.publicFrom",
    ),
    "a load balancer that the policy closes": (
        merged(MINIMAL, {"service": {"type": "LoadBalancer"}}),
        "service.type is LoadBalancer, but networkPolicy.publicFrom",
    ),
    "a monitor that the policy closes": (
        merged(MINIMAL, {"serviceMonitor": {"enabled": True}}),
        "serviceMonitor.enabled is true, but networkPolicy.opsFrom is empty",
    ),
    "a node port of a service that has none": (
        merged(MINIMAL, {"service": {"nodePort": 30080}}),
        "service.nodePort is 30080, but service.type is ClusterIP",
    ),
    "a traffic policy of a service inside": (
        merged(MINIMAL, {"service": {"externalTrafficPolicy": "Local"}}),
        "service.externalTrafficPolicy is Local, but service.type is ClusterIP",
    ),
    "a load balancer's class without one": (
        merged(MINIMAL, {"service": {"loadBalancerClass": "a.example/b"}}),
        "service.loadBalancerClass is set, but service.type is ClusterIP",
    ),
    "two monitors": (
        merged(
            MINIMAL,
            {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
            {"networkPolicy": {"opsFrom": [GATEWAYS]}},
        ),
        "serviceMonitor.enabled and podMonitor.enabled are both true",
    ),
    "an ingress without a host": (
        merged(MINIMAL, {"ingress": {"enabled": True}, "networkPolicy": {"publicFrom": [GATEWAYS]}}),
        "ingress.enabled is true without a host",
    ),
    "a route without a gateway": (
        merged(MINIMAL, {"httpRoute": {"enabled": True}, "networkPolicy": {"publicFrom": [GATEWAYS]}}),
        "httpRoute.enabled is true without a Gateway",
    ),
    "a budget of both kinds": (
        merged(SHARED, {"replicas": 3, "podDisruptionBudget": {"minAvailable": 1}}),
        "podDisruptionBudget has minAvailable and maxUnavailable",
    ),
    "a budget that lets no pod go": (
        merged(SHARED, {"replicas": 3, "podDisruptionBudget": {"minAvailable": 3, "maxUnavailable": None}}),
        "podDisruptionBudget.minAvailable is 3 with 3 pods, so no node could be drained",
    ),
    "a budget of nothing": (
        merged(SHARED, {"replicas": 3, "podDisruptionBudget": {"maxUnavailable": 0}}),
        "podDisruptionBudget.maxUnavailable is 0 with 3 pods, so no node could be drained",
    ),
    "an update that cannot begin": (
        merged(SHARED, {"rollingUpdate": {"maxSurge": 0}}),
        "rollingUpdate.maxSurge and rollingUpdate.maxUnavailable are both 0",
    ),
    "a label of the chart's": (
        merged(MINIMAL, {"commonLabels": {"app.kubernetes.io/name": "other"}}),
        "commonLabels has app.kubernetes.io/name, which the chart sets",
    ),
    "an account without a name": (
        merged(MINIMAL, {"serviceAccount": {"create": False}}),
        "serviceAccount.create is false without serviceAccount.name",
    ),
    "a volume with a name of ours": (
        merged(MINIMAL, {"extraVolumes": [{"name": "tmp", "emptyDir": {}}]}),
        "extraVolumes has the name tmp, which is taken",
    ),
    "a test without a key": (
        merged(MINIMAL, {"test": {"workflow": "support-triage"}}),
        'test.workflow is "support-triage" without a client\'s key: set test.keySecret.name.',
    ),
    "a setting in the environment": (
        merged(MINIMAL, {"extraEnv": [{"name": "RUNWARD_SERVER__PORT", "value": "1"}]}),
        "extraEnv has RUNWARD_SERVER__PORT, which is a setting of the gateway",
    ),
    "a section in the environment": (
        merged(MINIMAL, {"extraEnv": [{"name": "runward_store", "value": "{}"}]}),
        "extraEnv has runward_store, which is a setting of the gateway",
    ),
    "the Secret's file without a Secret": (
        merged(MINIMAL, {"existingSecret": ""}),
        "config.providers.promptlayer.api_key names a file of the Secret, but existingSecret is empty",
    ),
    "a file by half its path": (
        merged(MINIMAL, {"config": {"providers": {"promptlayer": {"api_key": {"file": "key"}}}}}),
        "config.providers.promptlayer.api_key must name a file by its whole path",
    ),
    "a variable that the pod has not": (
        merged(MINIMAL, {"config": {"store": {"password": {"env": "PASSWORD"}}}}),
        "config.store.password names the variable PASSWORD, which extraEnv does not have",
    ),
    "a reference of two kinds": (
        merged(MINIMAL, {"config": {"store": {"password": {"env": "PASSWORD", "file": "/a"}}}}),
        "config.store.password must be {file: PATH} or {env: NAME}.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused_by_one_sentence(case: str) -> None:
    values, told = REFUSED[case]
    said = sentences(values)
    assert 1 == len(said), said
    assert told in said[0]
    assert said[0].endswith(".")


LEAKS: dict[str, tuple[Object, str]] = {
    "the variable's value": (
        {"extraEnv": [{"name": "PROMPTLAYER_API_KEY", "value": CANARY}]},
        "extraEnv has the secret PROMPTLAYER_API_KEY in the values",
    ),
    "a variable that the configuration names": (
        {
            "config": {"providers": {"promptlayer": {"api_key": {"file": None, "env": "PROVIDER"}}}},
            "extraEnv": [{"name": "PROVIDER", "value": CANARY}],
        },
        "extraEnv has the secret PROVIDER in the values",
    ),
    "the secret in place of the variable's name": (
        {"config": {"callbacks": {"secrets": [{"env": CANARY}]}}},
        "config.callbacks.secrets[0] must name a variable in capitals",
    ),
    "a password in the store's URL": (
        {
            "config": {"store": {"url": f"redis://user:{CANARY}@valkey:6379/0"}},
            "networkPolicy": {"storeTo": [GATEWAYS]},
        },
        "config.store.url holds a password",
    ),
    "a password in a provider's URL": (
        {"config": {"providers": {"promptlayer": {"base_url": f"https://user:{CANARY}@api.example.com"}}}},
        "config.providers.promptlayer.base_url holds a user or password",
    ),
    "a Secret among the objects": (
        {"extraObjects": [{"apiVersion": "v1", "kind": "Secret", "stringData": {"key": CANARY}}]},
        "extraObjects[0] is a Secret with its content in the values",
    ),
    "a Secret among the objects, as text": (
        {"extraObjects": [f"apiVersion: v1\nkind: Secret\ndata: {{key: {CANARY}}}\n"]},
        "extraObjects[0] is a Secret with its content in the values",
    ),
    "a client's key in place of its hash": (
        {"config": {"workflows": {"a": {"provider": "promptlayer", "label": "rw_" + CANARY.replace("_", "a") * 3}}}},
        "config holds a client's key",
    ),
}


@pytest.mark.parametrize("case", LEAKS)
def test_a_secret_in_the_values_is_refused_and_not_shown(case: str) -> None:
    values, told = LEAKS[case]
    said = refusal(merged(MINIMAL, values))
    assert told in said
    assert CANARY not in said


@pytest.mark.parametrize("way", SECRET_PATHS, ids=".".join)
def test_every_secret_of_the_configuration_is_refused_as_text(way: tuple[str, ...]) -> None:
    """The gateway's own list of secret fields, so that new ones are covered."""
    values: object = CANARY
    for key in reversed(way):
        in_list = key == "*" and way[0] not in {"providers", "issuers"}
        values = [values] if in_list else {"promptlayer" if key == "*" else key: values}
    issuers = {"promptlayer": {"url": "https://login.example.com"}}
    roles = {"claim": "groups", "operator": ["platform"]}
    login = {"issuer": "promptlayer", "client_id": "console", "url": "https://ops.example.com", "roles": roles}
    required = {"issuers": {"issuers": issuers}, "console": {"console": {"login": login}}}
    base = merged(MINIMAL, {"config": required.get(way[0], {})})
    said = sentences(merged(base, {"config": values}))
    place = ".".join(("config", *("promptlayer" if key == "*" else key for key in way)))
    place = place.replace("secrets.promptlayer", "secrets[0]").replace("keys.promptlayer", "keys[0]")
    hint = "name it as {file: /run/secrets/runward/KEY} and put it into existingSecret."
    assert [f"{place} is a secret in the values: {hint}"] == said


def test_a_name_that_is_also_a_field_of_secrets_is_a_name() -> None:
    workflows = {"secret": {"provider": "promptlayer"}, "token": {"provider": "promptlayer"}}
    tokens = [{"issuer": "secret", "audience": "runward", "match": {"token": "app"}}]
    clients = {"password": {"workflows": ["secret"], "tokens": tokens}}
    issuers = {"secret": {"url": "https://login.example.com"}}
    assert "" == refusal(merged(MINIMAL, {"config": {"workflows": workflows, "clients": clients, "issuers": issuers}}))


def test_each_secret_of_a_list_is_named_by_its_place() -> None:
    secrets = [{"env": "A", "file": "/b"}, CANARY]
    said = sentences(merged(MINIMAL, {"config": {"callbacks": {"secrets": secrets}}}))
    places = ["config.callbacks.secrets[0] must", "config.callbacks.secrets[1] is"]
    assert places == [" ".join(line.split()[:2]) for line in said]


def test_all_that_is_wrong_is_said_at_once() -> None:
    said = sentences(merged(MINIMAL, {"replicas": 2, "existingSecret": "", "terminationGracePeriodSeconds": 1}))
    assert 3 == len(said)
