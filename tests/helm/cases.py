"""Combinations of values that must render to a complete and valid release."""

from __future__ import annotations

from tests.helm.chart import Object, example, merged

MINIMAL = example("minimal")
SHARED: Object = merged(
    MINIMAL,
    {
        "config": {"store": {"url": "redis://valkey.data:6379/0"}},
        "networkPolicy": {"storeTo": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "data"}}}]},
    },
)
GATEWAYS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}}}
PROMETHEUS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
SIDECAR = {"name": "proxy", "image": "proxy:1", "ports": [{"name": "proxy", "containerPort": 3128}]}

TLS: Object = {"tls": {"cert": "/run/secrets/runward/tls.crt", "key": "/run/secrets/runward/tls.key"}}
PLAIN_OPS: Object = {"ops_tls": {"enabled": False}}

CASES: dict[str, Object] = {
    "nothing": {},
    "minimal": MINIMAL,
    "production": example("production"),
    "external-secret": example("external-secret"),
    "TLS up to the pod": merged(MINIMAL, {"config": {"server": {**TLS, **PLAIN_OPS}}}),
    "memory": merged(MINIMAL, {"config": {"store": {"url": "memory://"}}}),
    "three replicas": merged(SHARED, {"replicas": 3, "workers": 2}),
    "stopped": merged(SHARED, {"replicas": 0}),
    "scaled by cpu": merged(SHARED, {"autoscaling": {"enabled": True}}),
    "scaled by requests": merged(SHARED, {"autoscaling": {"enabled": True, "cpu": None, "inFlight": 50}}),
    "keda": merged(SHARED, {"keda": {"enabled": True, "prometheus": {"serverAddress": "http://prometheus:9090"}}}),
    "keda with triggers": merged(
        SHARED, {"keda": {"enabled": True, "triggers": [{"type": "cpu", "metadata": {"value": "60"}}]}}
    ),
    "ingress": merged(
        MINIMAL,
        {
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "310"},
                "hosts": [{"host": "runward.example.com", "paths": [{"path": "/run", "pathType": "Exact"}]}],
                "tls": [{"secretName": "tls", "hosts": ["runward.example.com"]}],
            },
            "networkPolicy": {"publicFrom": [GATEWAYS]},
        },
    ),
    "load balancer": merged(
        MINIMAL,
        {
            "service": {
                "type": "LoadBalancer",
                "loadBalancerClass": "example.com/lb",
                "loadBalancerSourceRanges": ["192.0.2.0/24"],
                "externalTrafficPolicy": "Local",
                "trafficDistribution": "PreferClose",
                "ipFamilyPolicy": "PreferDualStack",
            },
            "networkPolicy": {"publicFrom": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
        },
    ),
    "node port": merged(
        MINIMAL,
        {"service": {"type": "NodePort", "nodePort": 30080}, "networkPolicy": {"publicFrom": [GATEWAYS]}},
    ),
    "pod monitor": merged(
        MINIMAL,
        {
            "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {
                "enabled": True,
                "runbookBase": "https://example.com/runward/",
                "extraRules": [{"alert": "Own", "expr": "up == 0", "labels": {"severity": "warning"}}],
            },
            "dashboards": {"enabled": True},
            "networkPolicy": {"opsFrom": [PROMETHEUS]},
        },
    ),
    "no network policy": merged(SHARED, {"networkPolicy": {"enabled": False, "storeTo": []}}),
    "every port open that can be": merged(
        SHARED,
        {
            "networkPolicy": {
                "opsFrom": [PROMETHEUS],
                "otlp": {"to": [PROMETHEUS]},
                "callbacks": {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [443, 8443]},
                "extraIngress": [{"from": [GATEWAYS], "ports": [{"port": 9090}]}],
                "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.2.0.0/16"}}], "ports": [{"port": 8000}]}],
            },
            "test": {"workflow": "support-triage", "keySecret": {"name": "key"}},
        },
    ),
    "everything added": merged(
        MINIMAL,
        {
            "commonLabels": {"team": "platform"},
            "podLabels": {"team": "pods", "tier": "edge"},
            "podAnnotations": {"example.com/note": "yes"},
            "imagePullSecrets": [{"name": "registry"}],
            "hostUsers": False,
            "priorityClassName": "high",
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
            ],
            "serviceAccount": {"annotations": {"example.com/role": "runward"}},
            "persistence": {"storageClassName": "fast", "accessMode": "ReadWriteOncePod", "annotations": {"a": "b"}},
            "extraEnv": [
                {"name": "OTEL_SERVICE_NAME", "value": "{{ .Release.Name }}"},
                {"name": "OTHER_KEY", "valueFrom": {"secretKeyRef": {"name": "other", "key": "key"}}},
            ],
            "extraEnvFrom": [{"configMapRef": {"name": "more"}}],
            "extraVolumes": [{"name": "ca", "configMap": {"name": "{{ .Release.Name }}-ca"}}],
            "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
            "extraInitContainers": [{"name": "wait", "image": "wait:1"}],
            "extraContainers": [SIDECAR],
            "extraObjects": [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-ca"}, "data": {}},
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-text'}\n",
            ],
        },
    ),
    "existing claim": merged(MINIMAL, {"persistence": {"existingClaim": "old"}}),
    "existing account": merged(MINIMAL, {"serviceAccount": {"create": False, "name": "other"}}),
    "other ports": merged(MINIMAL, {"config": {"server": {"port": 8000, "ops_port": 8001, "host": "::"}}}),
    "no check": merged(MINIMAL, {"check": {"enabled": False}}),
    "other name": merged(MINIMAL, {"fullnameOverride": "gateway", "image": {"tag": "1.2.3"}}),
}
