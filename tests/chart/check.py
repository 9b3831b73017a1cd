"""Holds the Helm chart to its promises: linted, rendered in many ways, and valid by the schemas of Kubernetes.

    python tests/chart/check.py HELM NEGSTREAM

HELM and NEGSTREAM are the programs. Needs kubernetes-validate, which brings the schemas along, and PyYAML.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/chart/negstream"
#: The oldest version that the chart names, and a new one.
KUBERNETES = ["1.25", "1.34"]
BROKERS = {"kafka": {"brokers": "kafka:9092"}}
EVERYTHING = {
    "kafka": {"brokers": "a:9092,b:9092", "topic": "clicks.v2", "group": "shop"},
    "replicas": 3,
    "config": "[model]\ndim = 128\n[evaluate]\nrepeat = true\n",
    "checkpoints": "s3://models/shop/",
    "token": {"existingSecret": "negstream-token"},
    "persistence": {"enabled": False},
    "image": {"tag": "1.2.3"},
    "imagePullSecrets": [{"name": "pull"}],
    "extraEnv": [{"name": "AWS_REGION", "value": "eu-central-1"}],
    "extraEnvFrom": [{"secretRef": {"name": "aws"}}],
    "networkPolicy": {"egress": [{"ports": [{"port": 9092, "protocol": "TCP"}]}]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/negstream"}},
    "podAnnotations": {"team": "shop"},
    "podLabels": {"team": "shop"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
         "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "negstream"}}}
    ],
}
NOTHING = {**BROKERS, **{key: {"enabled": False} for key in ["persistence", "podDisruptionBudget", "networkPolicy"]},
           "serviceAccount": {"create": False}}
#: Values that have to be refused, and a word of the reason.
REFUSED = [
    ({}, "brokers"),
    ({**BROKERS, "replica": 2}, "replica"),
    ({**BROKERS, "replicas": "two"}, "replicas"),
    ({**BROKERS, "persistence": {"size": "many"}}, "size"),
    ({**BROKERS, "checkpoints": "checkpoints"}, "checkpoints"),
    ({**BROKERS, "config": {"model": {"dim": 128}}}, "config"),
    ({"kafka": {"brokers": "a:9092", "topic": "no topic"}}, "topic"),
]

helm, negstream = sys.argv[1:]


def run(*arguments: object, values: dict | None = None) -> subprocess.CompletedProcess[str]:
    text = json.dumps(values or {})
    return subprocess.run([helm, *map(str, arguments), "--values", "-"], input=text, capture_output=True, text=True)


def rendered(values: dict, version: str) -> list[dict]:
    done = run("template", "shop", CHART, "--namespace", "web", "--kube-version", version, values=values)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def of_kind(objects: list[dict], kind: str) -> dict:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def check(objects: list[dict], version: str) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names), names
    for each in objects:
        if "monitoring.coreos.com" not in each["apiVersion"]:
            kubernetes_validate.validate(each, version, strict=True)
    stateful = of_kind(objects, "StatefulSet")["spec"]
    pod = stateful["template"]
    # What selects pods has to find these.
    for each in objects:
        spec = each.get("spec", {})
        if each["kind"] == "Service":
            assert spec["selector"].items() <= pod["metadata"]["labels"].items(), each
        if each["kind"] in ("PodDisruptionBudget", "NetworkPolicy", "StatefulSet"):
            selector = spec.get("selector") or spec.get("podSelector")
            assert selector["matchLabels"].items() <= pod["metadata"]["labels"].items(), each
        if each["kind"] == "ServiceMonitor":
            wanted = spec["selector"]["matchLabels"].items()
            services = [one for one in objects if one["kind"] == "Service" and wanted <= one["metadata"]["labels"].items()]
            assert len(services) == 1 and services[0]["metadata"]["labels"][spec["jobLabel"]] == "negstream", each
    assert stateful["serviceName"] in [name for kind, name in names if kind == "Service"]
    (container,) = pod["spec"]["containers"]
    security = {**pod["spec"]["securityContext"], **container["securityContext"]}
    assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in stateful.get("volumeClaimTemplates", [])}
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    # The program takes the configuration and the environment that the chart makes.
    filled_in = {"fieldRef": "shop-0", "secretKeyRef": "a-token-of-some-length"}
    value = lambda each: each["value"] if "value" in each else filled_in[next(iter(each["valueFrom"]))]
    environment = {each["name"]: value(each) for each in container["env"]}
    assert len(environment) == len(container["env"]), "a variable is there twice"
    environment = {name: value for name, value in environment.items() if name.startswith("NEGSTREAM")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "worker.toml"
        path.write_text(of_kind(objects, "ConfigMap")["data"]["worker.toml"])
        path_to = {"PATH": os.environ.get("PATH", "")}
        done = subprocess.run([negstream, "config", "check", "-c", path], env={**path_to, **environment}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def notes(values: dict) -> str:
    """What people read after an installation, which only a cluster would show: as a template in a copy of the chart."""
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(folder) / "negstream"
        shutil.copytree(CHART, chart)
        (chart / "templates/NOTES.txt").rename(chart / "files/NOTES.txt")
        text = '{{ tpl (.Files.Get "files/NOTES.txt") . | toJson }}'
        (chart / "templates/notes.yaml").write_text(f"kind: Notes\napiVersion: v1\ntext: {text}\n")
        arguments = ["template", "shop", chart, "--show-only", "templates/notes.yaml", "--kube-version", KUBERNETES[1]]
        done = run(*arguments, values=values)
        assert done.returncode == 0, done.stderr
        return yaml.safe_load(done.stdout)["text"]


def main() -> None:
    for values in (BROKERS, EVERYTHING, NOTHING):
        done = run("lint", "--strict", CHART, values=values)
        assert done.returncode == 0, done.stdout + done.stderr
        for version in KUBERNETES:
            check(rendered(values, version), version)
    for values, word in REFUSED:
        done = run("template", "shop", CHART, "--kube-version", KUBERNETES[0], values=values)
        assert done.returncode != 0 and word in done.stderr, (values, done.stderr)
    # One disk for each; in an object store a place for each.
    directory = lambda values: next(
        each["value"]
        for each in of_kind(rendered(values, KUBERNETES[1]), "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["env"]
        if each["name"] == "NEGSTREAM__CHECKPOINT__DIR"
    )
    assert directory(BROKERS) == "/var/lib/negstream/checkpoints"
    assert directory(EVERYTHING) == "s3://models/shop/$(NEGSTREAM__KAFKA__GROUP_INSTANCE_ID)"
    rule = of_kind(rendered(EVERYTHING, KUBERNETES[1]), "PrometheusRule")["spec"]
    assert rule == yaml.safe_load((ROOT / "deploy/alerts.yaml").read_text())
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    cargo = (ROOT / "Cargo.toml").read_text().split('\nversion = "')[1].split('"')[0]
    assert chart["appVersion"] == cargo, f"Chart.yaml says {chart['appVersion']}, Cargo.toml {cargo}"
    for values, words in ((BROKERS, "once token.existingSecret"), (EVERYTHING, "negstream-token"), (NOTHING, "begins anew")):
        assert words in notes(values) and "negstream doctor" in notes(values), notes(values)
    print(f"chart: 3 sets of values by Kubernetes {' and '.join(KUBERNETES)}, {len(REFUSED)} refused")


main()
