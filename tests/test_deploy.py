"""What is deployed works: the files are valid, images are pinned, commands run, figures exist."""

import gc
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import kubernetes_validate  # type: ignore[import-untyped]
import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from beepgpt import __version__
from beepgpt.config.settings import read_settings
from beepgpt.connectors.kafka import Connection, OutgoingRecord, Writer, begin_and_end_offsets, describe_topics
from beepgpt.connectors.slack.alerts import RESULTS, SCOPES
from beepgpt.ingest.slack.loop import SlackFigures
from beepgpt.ingest.slack.run import SCOPES as INGEST_SCOPES
from beepgpt.runtime.flow_metrics import AlertFigures, ScoreFigures, Scores, Waits
from beepgpt.runtime.metrics import ENDS, Figures
from beepgpt.simulation.workspace import Plan, write_export
from tests.support.alerts import prediction
from tests.support.broker import Broker, free_ports
from tests.support.histories import heartbeat, post
from tests.support.scoring import save
from tests.support.slack_server import Server
from tests.support.slack_web_api import TOKEN, Workspace
from tests.support.slack_web_api import serving as slack_serving
from tests.support.speed import slowness, wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # kafka-python leaves those that can't connect

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "deploy" / "kubernetes"
WAYS = ("one-pod", "cluster", "scoring")
MAKE_EXAMPLES = ("one-pod", "cluster")
"""The ways of running that there are manifests for; each stands on `base`."""
OURS = "beepgpt"
PATIENCE = 60 * slowness()
"""Seconds in which a flow has to start, and to make something."""


# What the files say


def document(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


@cache
def services() -> dict[str, Any]:
    found: dict[str, Any] = document(ROOT / "docker-compose.yml")["services"]
    return found


@cache
def manifests(folder: str) -> list[dict[str, Any]]:
    """All objects of a folder, and of the base where it stands on that."""
    made = document(KUBERNETES / folder / "kustomization.yaml")
    found: list[dict[str, Any]] = []
    for each in made["resources"]:
        if each == "../base":
            found += manifests("base")
        else:
            found += yaml.safe_load_all((KUBERNETES / folder / each).read_text("utf-8"))
    return found


def of_kind(folder: str, kind: str) -> dict[str, Any]:
    """The folder's only object of that kind."""
    (found,) = (each for each in manifests(folder) if each["kind"] == kind)
    return found


def pods(folder: str) -> list[dict[str, Any]]:
    return [each["spec"]["template"]["spec"] for each in manifests(folder) if "template" in each["spec"]]


def containers(folder: str) -> list[dict[str, Any]]:
    return [each for pod in pods(folder) for each in (*pod.get("initContainers", []), *pod["containers"])]


def base_settings() -> dict[str, str]:
    """What the ConfigMap of the base holds."""
    return settings_in("base")


def settings_in(folder: str) -> dict[str, str]:
    """What a folder's ConfigMap holds."""
    lines = (KUBERNETES / folder / "settings.env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def without_security(connection: Connection) -> dict[str, str]:
    """What differs for a broker of the tests, which asks for no password."""
    return {"KAFKA": connection.bootstrap, "BEEPGPT_KAFKA__PROTOCOL": "PLAINTEXT", "BEEPGPT_KAFKA__MECHANISM": ""}


def base_images() -> list[str]:
    return re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)


def copied() -> list[str]:
    """What the Dockerfile takes from the repository."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    return [name for line in lines for name in line.split()]


def flag(command: list[str], name: str) -> str:
    """The value of `--name=value` in a command."""
    (value,) = (each.partition("=")[2] for each in command if each.startswith(f"{name}="))
    return value


# The files


def test_the_compose_file_is_valid():
    """By the Compose specification's own schema."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(ROOT / "docker-compose.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_is_valid():
    """By GitHub's schema; it runs what everybody runs, on both versions of Python."""
    path = ROOT / ".github" / "workflows" / "ci.yml"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    job = document(path)["jobs"]["tests"]

    assert done.returncode == 0, done.stdout + done.stderr
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
    assert any(step.get("run", "").startswith("make test") for step in job["steps"])


def test_hooks_fetch_nothing():
    """They run the tools of .venv, and those are in the lock."""
    (repository,) = document(ROOT / ".pre-commit-config.yaml")["repos"]
    hooks = repository["hooks"]
    lock = (ROOT / "requirements-dev.lock").read_text("utf-8")

    assert repository["repo"] == "local"
    assert {hook["id"] for hook in hooks} == {"ruff", "ruff-format", "mypy", "lint-imports"}
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in hooks)
    assert all(f"\n{package}==" in lock for package in ("ruff", "mypy", "import-linter"))


def test_every_image_is_pinned_by_its_full_version():
    """Nothing is called latest, or only 3; and ours is of this version."""
    images = [each["image"] for each in services().values()] + base_images()
    images += [each["image"] for folder in (*WAYS, "slack", "alerts") for each in containers(folder)]
    theirs = [image for image in images if not image.startswith(f"{OURS}:")]

    assert len(theirs) >= 5
    for image in theirs:
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+(-[\w.-]+)?(@sha256:[0-9a-f]{64})?", image)
    assert {image for image in images if image not in theirs} == {f"{OURS}:{__version__}"}
    for folder in WAYS:
        assert document(KUBERNETES / folder / "kustomization.yaml")["images"][0]["newTag"] == __version__


def test_what_the_image_is_built_from_is_enough(tmp_path):
    """The files that the Dockerfile copies, links as links, make a package that is whole and runs."""
    source = tmp_path / "source"
    source.mkdir()
    for name in copied():
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, source)
        else:
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    build = [sys.executable, "-c", "from setuptools import build_meta; print(build_meta.build_wheel('.'))"]
    made = subprocess.run(build, cwd=source, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    ZipFile(source / made.stdout.split()[-1]).extractall(tmp_path / "installed")
    run = [
        sys.executable,
        "-P",
        "-c",
        "import beepgpt; print(beepgpt.__file__); from beepgpt.commands.app import main; main()",
        "score",
        "-h",
    ]
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(run, cwd=tmp_path, env=plain, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path)) and "--recovery" in done.stdout


def test_nothing_else_is_sent_to_the_builder():
    """.dockerignore lets through what the Dockerfile copies: no history, no data, no secrets."""
    first, *lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]

    assert first == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(copied())


def test_the_image_runs_as_nobody_special():
    """The last user is a number that isn't root's, and Kubernetes is told the same one."""
    *_, user = re.findall(r"^USER (\d+):\d+$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)

    assert int(user) > 0
    for folder in WAYS:
        for pod in pods(folder):
            assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == int(user)
        for each in containers(folder):
            assert each["securityContext"]["readOnlyRootFilesystem"] and not each["securityContext"]["allowPrivilegeEscalation"]


@pytest.mark.parametrize("folder", [*WAYS, "slack", "alerts"])
def test_the_manifests_are_valid(folder: str):
    """By Kubernetes' own schemas, where an unknown field is an error."""
    for each in manifests(folder):
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


def test_the_image_has_what_its_services_need():
    """All that the extras name, each by its hash."""
    lock = (ROOT / "requirements-image.lock").read_text("utf-8")
    taken = set(re.findall(r"^([\w-]+)==", lock, re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = {re.split(r"[\[>=]", each)[0] for names in extras.values() for each in names}

    assert named <= taken and lock.count("--hash=") >= len(taken)
    assert "requirements-image.lock" in (ROOT / "Dockerfile").read_text("utf-8")


def test_the_image_is_compiled_with_what_is_locked():
    """Each tool of the build stands in the lock with its hashes, where the Dockerfile looks for it; mypy's own needs are among them."""
    lock = (ROOT / "requirements-dev.lock").read_text("utf-8")
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    tools = re.findall(r"for each in (.+); do", dockerfile)[0].split()
    needs = {re.split(r"[\s<>=!;(\[]", each)[0].replace("_", "-") for each in metadata.requires("mypy") or [] if "extra ==" not in each}

    assert "BEEPGPT_COMPILE=1" in dockerfile and {"setuptools", "mypy"} <= set(tools)
    assert {each for each in needs if each != "tomli"} <= set(tools), needs
    assert [each for each in tools if not re.search(rf"^{each}==\S+ .*\\\n(    --hash=\S+( \\)?\n)+", lock, re.MULTILINE)] == []


def test_slack_on_kubernetes_is_the_compose_files_slack():
    """The same command, with settings that are known, one of it, and tokens from a secret that has to be there."""
    (slack,) = containers("slack")
    given = settings_in("slack")
    tokens = {each["name"] for each in slack["env"] if each["valueFrom"]["secretKeyRef"]["name"] == "beepgpt-slack"}
    deployment = of_kind("slack", "Deployment")["spec"]

    assert [expanded(each, {"KAFKA": "kafka:19092"}) for each in slack["command"]] == services()["slack"]["command"][:4]
    assert tokens == set(services()["slack"]["environment"])
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert pods("slack")[0]["securityContext"]["runAsUser"] == pods("one-pod")[0]["securityContext"]["runAsUser"]
    read_settings(environ={name: value for name, value in given.items() if name.startswith("BEEPGPT_")})


def test_alerts_on_kubernetes_are_the_compose_files_alerts():
    """The same command but for the store and the threshold, with settings that are known, one of it, and a token that has to be there."""
    (alerts,) = containers("alerts")
    given = settings_in("alerts")
    deployment = of_kind("alerts", "Deployment")["spec"]
    own = ("--model=", "--store=", "--metrics-", "--log-")  # settings say the last ones
    theirs = [each for each in services()["alert"]["command"] if not each.startswith(own)]

    assert [expanded(each, {"KAFKA": "kafka:19092"}) for each in alerts["command"]][:-1] == theirs
    assert {each["name"] for each in alerts["env"]} >= set(services()["alert"]["environment"])
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert pods("alerts")[0]["securityContext"]["runAsUser"] == pods("one-pod")[0]["securityContext"]["runAsUser"]
    assert read_settings(environ={name: value for name, value in given.items() if name.startswith("BEEPGPT_")}).alerts.threshold


def test_the_pod_monitor_asks_for_every_port_that_there_is():
    """Its kind is no part of Kubernetes, so only its names can be checked."""
    monitor = document(KUBERNETES / "pod-monitor.yaml")
    folders = (*WAYS, "slack", "alerts")
    ports = {each["name"] for folder in folders for one in containers(folder) for each in one.get("ports", [])} - {"cluster"}
    (label,) = monitor["spec"]["selector"]["matchLabels"].items()
    labels = [
        each["spec"]["template"]["metadata"]["labels"] for folder in folders for each in manifests(folder) if "template" in each["spec"]
    ]

    assert {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]} == ports
    assert len(labels) > 4 and all(label in each.items() for each in labels)


@pytest.mark.parametrize("folder", WAYS)
def test_what_manifests_refer_to_is_there(folder: str):
    """Claims, ConfigMaps, volumes and the ports of probes."""
    made = [document(KUBERNETES / each / "kustomization.yaml") for each in ("base", folder)]
    maps = {each["name"] for one in made for each in one.get("configMapGenerator", [])}
    claims = {each["metadata"]["name"] for each in manifests(folder) if each["kind"] == "PersistentVolumeClaim"}
    claimed = {each["metadata"]["name"] for each in of_kind(folder, "StatefulSet")["spec"].get("volumeClaimTemplates", [])}

    for pod in pods(folder):
        volumes = {each["name"]: each for each in pod["volumes"]}
        assert {each["configMap"]["name"] for each in volumes.values() if "configMap" in each} <= maps
        assert {each["persistentVolumeClaim"]["claimName"] for each in volumes.values() if "persistentVolumeClaim" in each} <= claims
        for each in (*pod.get("initContainers", []), *pod["containers"]):
            assert {one["name"] for one in each["volumeMounts"]} <= volumes.keys() | claimed
            assert {one["configMapRef"]["name"] for one in each.get("envFrom", [])} <= maps
            probes = [each[name] for name in ("startupProbe", "livenessProbe", "readinessProbe") if name in each]
            assert {one["httpGet"]["port"] for one in probes} <= {one["name"] for one in each.get("ports", [])}


@pytest.mark.parametrize("folder", WAYS)
def test_a_flow_is_probed_and_has_time_to_stop(folder: str):
    """Three probes, of what the program serves; and longer to stop than a snapshot takes to come."""
    pod = of_kind(folder, "StatefulSet")["spec"]["template"]["spec"]
    (flow,) = pod["containers"]

    asked = {name: flow[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert pod["terminationGracePeriodSeconds"] > 2 * read_settings(environ={}).run.snapshot_every / 1_000_000


@pytest.mark.parametrize("folder", ["slack", "alerts"])
def test_what_talks_to_slack_is_probed_and_scraped(folder: str):
    """Three probes, and an annotation with the port that its settings have."""
    (container,) = containers(folder)
    template = of_kind(folder, "Deployment")["spec"]["template"]
    port = settings_in(folder)["BEEPGPT_RUN__METRICS_PORT"]
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}

    assert {name: each["path"] for name, each in asked.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert {each["port"] for each in asked.values()} == {each["name"] for each in container["ports"]} == {"metrics"}
    assert [str(each["containerPort"]) for each in container["ports"]] == [port]
    assert template["metadata"]["annotations"] == {"prometheus.io/scrape": "true", "prometheus.io/port": port}


@pytest.mark.parametrize("folder", WAYS)
def test_settings_in_manifests_are_known(folder: str):
    """A misspelt variable would stop the program; and no variable comes from a service's name."""
    for pod in pods(folder):
        assert pod["enableServiceLinks"] is False
        for each in containers(folder):
            given = environment(each, "pod-0", base_settings())
            read_settings(environ={name: value for name, value in given.items() if name.startswith("BEEPGPT_")})


def workloads(folder: str) -> list[dict[str, Any]]:
    return [each for each in manifests(folder) if "template" in each["spec"]]


def ports_of(rules: list[dict[str, Any]]) -> list[Any]:
    return [each["port"] for rule in rules for each in rule["ports"]]


@pytest.mark.parametrize("folder", [*WAYS, "slack", "alerts"])
def test_each_workload_has_its_network_policy(folder: str):
    """The monitor reaches metrics and nothing else; Kafka and names are reached, HTTPS only by who talks to Slack, and nobody by all."""
    policies = {each["metadata"]["name"]: each["spec"] for each in manifests(folder) if each["kind"] == "NetworkPolicy"}
    made = {each["metadata"]["name"]: each for each in workloads(folder)}
    kafka = int(settings_in("base" if folder in WAYS else folder)["KAFKA"].rpartition(":")[2])

    assert policies.keys() == made.keys()
    for name, spec in policies.items():
        template = made[name]["spec"]["template"]
        declared = [each["name"] for one in template["spec"]["containers"] for each in one.get("ports", [])]
        assert spec["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert all(rule["from"] for rule in spec["ingress"]) and all(rule["to"] for rule in spec["egress"]), "an empty list is everybody"
        assert sorted(ports_of(spec["ingress"])) == sorted(declared)
        inside = [rule for rule in spec["ingress"] if "cluster" in ports_of([rule])]
        assert all(rule["from"] == [{"podSelector": spec["podSelector"]}] for rule in inside)
        own = ["cluster"] if folder == "cluster" and name == "beepgpt-examples" else []
        web = [443] if folder in ("slack", "alerts") else []
        assert ports_of(spec["egress"]) == [*own, 53, 53, kafka, *web]
        for block in (to["ipBlock"] for rule in spec["egress"] for to in rule["to"] if "ipBlock" in to):
            assert {"10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} <= set(block["except"])


@pytest.mark.parametrize("folder", [*WAYS, "slack", "alerts"])
def test_kafka_is_asked_encrypted_and_by_name(folder: str):
    """Every container that is told where Kafka is has its user and password, from a secret that has to be there."""
    given = settings_in("base" if folder in WAYS else folder)
    settings = read_settings(environ={name: value for name, value in given.items() if name.startswith("BEEPGPT_")})

    assert (settings.kafka.protocol, settings.kafka.mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    for each in containers(folder):
        if each.get("envFrom"):
            secrets = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in each["env"] if "secretKeyRef" in one.get("valueFrom", {})}
            assert {"BEEPGPT_KAFKA__USER", "BEEPGPT_KAFKA__PASSWORD"} <= secrets.keys()
            assert not any(one.get("optional") for one in secrets.values())


def test_no_two_services_share_a_volume():
    """Who can write a recovery store can run code as its flow; and each that keeps state has a volume."""
    shared = document(ROOT / "docker-compose.yml")["volumes"]
    mounts = [(name, one.split(":")) for name, each in services().items() for one in each.get("volumes", []) if isinstance(one, str)]
    named = {name: (service, place) for service, (name, place, *_) in mounts if name in shared}

    assert sorted(named) == sorted(shared) == sorted(name for _, (name, *_) in mounts if name in shared)
    for service, each in services().items():
        kept = [path for path in map(str, each.get("command", [])) if re.match("--(recovery|store)=", path)]
        assert all(any(s == service and path.partition("=")[2].startswith(place) for s, place in named.values()) for path in kept)
        assert bool(kept) == (service in ("examples", "score", "alert"))


@pytest.mark.parametrize(("file", "kinds"), [("slack-app", ["channels"]), ("slack-app-private", ["channels", "groups"])])
def test_the_slack_app_may_do_what_it_needs(file: str, kinds: list[str]):
    """One manifest reads no private channel; the other is the same with them."""
    app = document(ROOT / "config" / f"{file}.yaml")
    scopes, events = app["oauth_config"]["scopes"]["bot"], app["settings"]["event_subscriptions"]["bot_events"]

    assert set(SCOPES) | {scope for kind in kinds for scope in INGEST_SCOPES[kind]} | {"reactions:read"} == set(scopes)
    assert ("groups:history" in scopes, "message.groups" in events) == ("groups" in kinds,) * 2


def test_the_slack_apps_differ_in_private_channels_alone():
    """In a scope and an event."""
    public, private = (document(ROOT / "config" / f"{each}.yaml") for each in ("slack-app", "slack-app-private"))
    private["oauth_config"]["scopes"]["bot"].remove("groups:history")
    private["settings"]["event_subscriptions"]["bot_events"].remove("message.groups")

    assert public == private


def test_no_secret_stands_in_a_file():
    """Passwords are referred to; where there is none, nobody can log in."""
    for path in [ROOT / "docker-compose.yml", *(ROOT / "deploy").rglob("*.*")]:
        for line in path.read_text("utf-8").splitlines():
            assert not re.search(r"(?i)(password|secret)\w*\s*[=:]\s*[\"']?\w", line), f"{path.name}: {line}"


def test_a_cluster_has_as_many_pods_as_hosts():
    """Each pod is in the list of hosts, in the order of their numbers, at the port that Bytewax listens on."""
    made = document(KUBERNETES / "cluster" / "kustomization.yaml")
    pod_set = of_kind("cluster", "StatefulSet")
    name, service = pod_set["metadata"]["name"], pod_set["spec"]["serviceName"]
    hosts = (KUBERNETES / "cluster" / "hosts").read_text("utf-8").split()
    ports = {each["name"]: each["port"] for each in of_kind("cluster", "Service")["spec"]["ports"]}

    assert made["replicas"] == [{"name": name, "count": len(hosts)}]
    assert pod_set["spec"]["replicas"] == len(hosts)
    assert hosts == [f"{name}-{number}.{service}:{ports['cluster']}" for number in range(len(hosts))]


def test_one_pod_shows_a_port_for_each_process():
    """From the metrics port on, as many as there are workers."""
    (flow,) = of_kind("one-pod", "StatefulSet")["spec"]["template"]["spec"]["containers"]
    first, workers = int(base_settings()["BEEPGPT_RUN__METRICS_PORT"]), int(flag(flow["command"], "--workers"))

    assert [each["containerPort"] for each in flow["ports"]] == list(range(first, first + workers))


def test_the_page_names_files_that_exist():
    """What docs/cluster.md tells to read, edit or apply is there."""
    named = re.findall(r"\b(?:deploy|tests)/[\w./-]*\w", (ROOT / "docs" / "cluster.md").read_text("utf-8"))

    assert len(set(named)) >= 5
    assert [name for name in named if not (ROOT / name).exists()] == []


# What is shown


def test_prometheus_asks_every_process_that_serves_figures():
    """Its targets are the compose file's services, and as many ports as they have workers; its own file is where it is told."""
    config = document(ROOT / "deploy" / "prometheus.yml")
    command = services()["examples"]["command"]
    first, workers = int(flag(command, "--metrics-port")), int(flag(command, "--workers"))
    targets = {each["job_name"]: [one for given in each["static_configs"] for one in given["targets"]] for each in config["scrape_configs"]}
    where = flag(services()["prometheus"]["command"], "--config.file")

    others = {name: [f"{name}:{flag(services()[name]['command'], '--metrics-port')}"] for name in ("score", "slack", "alert")}

    assert targets == {"examples": [f"examples:{port}" for port in range(first, first + workers)], **others}
    assert f"./deploy/prometheus.yml:{where}:ro" in services()["prometheus"]["volumes"]


def test_grafana_finds_prometheus_and_the_dashboard():
    """The addresses and folders that it is told are the compose file's."""
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = document(folder / "datasources" / "prometheus.yaml")["datasources"]
    (provider,) = document(folder / "dashboards" / "beepgpt.yaml")["providers"]
    grafana = services()["grafana"]
    mounted = dict(each.split(":")[:2] for each in grafana["volumes"])

    assert source["url"] == "http://prometheus:9090"
    assert mounted["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounted["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / "deploy" / "grafana" / "dashboards" / home.name).is_file()


DASHBOARDS = ("beepgpt", "beepgpt-scoring")


def dashboard(name: str = "beepgpt") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / f"{name}.json").read_text("utf-8"))
    return found


def queries(*names: str) -> list[tuple[str, str, str]]:
    """Title, PromQL with Grafana's variables filled in, legend: of all dashboards, or of those."""
    variables = {"$__rate_interval": "1m", "$job": ".+"}
    found = []
    for panel in (panel for name in names or DASHBOARDS for panel in dashboard(name)["panels"]):
        for target in panel["targets"]:
            text = target["expr"]
            for name, value in variables.items():
                text = text.replace(name, value)
            found.append((panel["title"], text, target["legendFormat"]))
    return found


def rules() -> list[dict[str, Any]]:
    """What Prometheus warns of."""
    (group,) = document(ROOT / "deploy" / "prometheus-rules.yml")["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


Labels = dict[str, set[str]]
"""The values of each label."""


@cache
def exported_by() -> dict[str, dict[str, Labels]]:
    """By job: every figure that it serves, with its labels and what they can be, and what Prometheus adds."""
    counts = dict.fromkeys(("read", "applied", "duplicate", "late", "examples", "retractions", "heartbeats", *ENDS), 1)
    read = {
        "counts": lambda: counts | {"ignored:bot": 1, "rejected:not_json": 1},
        "lags": lambda: {0: 1},
        "state": lambda: {"channels": 1, "conversations": 1, "held": 1},
        "newest": lambda: {"0": 1},
    }
    scores = Scores(
        counts={"failed:TimedOut": 1},
        predicted={"m": 1},
        outcomes={("m", "answered"): 1},
        waiting={"points": 1, "predictions": 1},
        buckets=(1.0,),
        waits=[1, 1],
        totals={"m": {"answered": 1, "hit@1": 1, "hit@5": 1, "alerts": 1, "right": 1}},
        lately={"m": {"hit@1": 0.5, "hit@5": 0.5, "precision": 0.5, "drift": 0.1}},
        answered_lately={"m": 1},
        validated={"m": {"hit@1": 0.4, "hit@5": 0.4}},
    )
    calls = {("chat.postMessage", result): 1 for result in RESULTS.values()}
    alerts = {"passed:told_before": 1, "refused:too_old": 1, "letters_refused:is_archived": 1}
    alerted = AlertFigures(
        counts=lambda: alerts,
        waiting=lambda: dict.fromkeys(("check", "letter", "doubt", "change", "digest", "hand_on", "home"), 1),
        people=lambda: {"in": 1, "out": 1},
        feedback=lambda: {"good": 1},
        waits=lambda: {"release": Waits(), "message": Waits()},
        newest=lambda: 1,
        calls=lambda: calls,
        lags=lambda: {("slack.predictions", 0): 1},
    )
    slack = SlackFigures(
        counts=lambda: {"left_out:shared": 1}, gauges=lambda: {"last_event": 1.0}, types=lambda: {"message": 1}, calls=lambda: calls
    )
    by_job: dict[str, Collector] = {
        "examples": Figures(**read),  # type: ignore[arg-type]
        "score": ScoreFigures(**read, scores=lambda: scores),  # type: ignore[arg-type]
        "alert": alerted,
        "slack": slack,
    }
    found: dict[str, dict[str, Labels]] = {}
    for job, figures in by_job.items():
        registry = CollectorRegistry()
        registry.register(figures)
        ProcessCollector(registry=registry)
        found[job] = {"up": {"job": set(), "instance": set()}}
        for family in text_string_to_metric_families(generate_latest(registry).decode()):
            for sample in family.samples:
                labels = found[job].setdefault(sample.name, {"job": set(), "instance": set()})
                for name, value in sample.labels.items():
                    labels.setdefault(name, set()).add(value)
    return found


@cache
def exported() -> dict[str, Labels]:
    """The same of all of them."""
    found: dict[str, Labels] = {}
    for figures in exported_by().values():
        for name, labels in figures.items():
            for label, values in labels.items():
                found.setdefault(name, {}).setdefault(label, set()).update(values)
    return found


def shown_of(job: str) -> set[str]:
    """The figures of a job that a panel or a rule asks for, as the page names their families."""
    asked = " ".join([*(text for _, text, _ in queries()), *(each["expr"] for each in rules())])
    used = {name for name in exported_by()[job] if name.startswith("beepgpt_") and re.search(rf"\b{name}\b", asked)}
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}


def check_query(title: str, text: str) -> None:
    """It is PromQL, and names figures that a job serves, labels that they have, and values that these can have."""
    selectors: list[promql_parser.VectorSelector] = []
    by: list[str] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            selectors.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            selectors.append(node.vector_selector)
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            by.extend(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(text), visit)

    assert selectors, title
    for selector in selectors:
        labels = exported().get(selector.name or "")
        assert labels is not None, f"{title}: there is no {selector.name}"
        assert set(by) <= labels.keys(), f"{title}: {text}"
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels, f"{title}: {selector.name} has no {matcher.name}"
            known = labels[matcher.name]
            fits = re.compile(matcher.value if "~" in str(matcher.op) or "Re" in str(matcher.op) else re.escape(matcher.value))
            assert not known or any(fits.fullmatch(value) for value in known), f"{title}: no {matcher.name} is {matcher.value}"


def test_dashboards_ask_for_figures_that_exist():
    """Every query is PromQL, and names figures and labels that a process serves."""
    for title, text, _ in queries():
        check_query(title, text)


def test_prometheus_warns_by_figures_that_exist():
    """Every rule's, too; it has a name of its own and says what is wrong; and Prometheus finds the file beside its own."""
    for each in rules():
        check_query(each["alert"], each["expr"])
        assert each["labels"]["severity"] in ("warning", "critical") and each["annotations"]["summary"]
        assert set(re.findall(r"\$labels\.(\w+)", each["annotations"]["summary"])) <= {"figure", "model", "reason"}
    given = services()["prometheus"]["volumes"]

    assert len({each["alert"] for each in rules()}) == len(rules())
    assert {"beepgpt_outcomes_lately", "beepgpt_model_validated", "beepgpt_alert_letters_total"} <= shown_of("score") | shown_of("alert")
    assert document(ROOT / "deploy" / "prometheus.yml")["rule_files"] == ["rules.yml"]
    assert "./deploy/prometheus-rules.yml:/etc/prometheus/rules.yml:ro" in given


def test_every_job_has_its_panels():
    """Nobody serves figures that nobody shows."""
    assert {job for job in exported_by() if shown_of(job) - {"beepgpt_build_info"}} == {"examples", "score", "alert", "slack"}
    assert shown_of("alert") >= {"beepgpt_alerts_told_total", "beepgpt_alerts_refused_total", "beepgpt_alert_seconds"}
    assert shown_of("slack") >= {"beepgpt_slack_connected", "beepgpt_slack_gaps", "beepgpt_slack_events_total"}


def test_counters_are_shown_as_rates():
    """A counter by itself only grows, and falls when a process starts again."""
    for title, text, _ in queries():
        for name in re.findall(r"\b\w+_total\b", text):
            assert re.search(rf"\b(rate|increase)\({name}\{{", text), f"{title}: {text}"


def test_a_legend_names_labels_that_its_query_keeps():
    """Else it would be empty."""
    for title, text, legend in queries():
        kept = set(re.findall(r"\bby \(([^)]*)\)", text)[0].replace(" ", "").split(",")) if " by " in text else {"instance"}

        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= kept, title


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_can_be_told_apart(name: str):
    """By their numbers and titles; none stands on another."""
    panels = dashboard(name)["panels"]
    places = [each["gridPos"] for each in panels]
    fields = [(place["x"] + x, place["y"] + y) for place in places for x in range(place["w"]) for y in range(place["h"])]

    assert len({each["id"] for each in panels}) == len({each["title"] for each in panels}) == len(panels)
    assert len(set(fields)) == len(fields)
    assert max(x for x, _ in fields) < 24


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_chooses_jobs_by_a_figure_that_exists(name: str):
    """The list of jobs comes from a query, too."""
    (jobs,) = (each for each in dashboard(name)["templating"]["list"] if each["name"] == "job")

    assert re.fullmatch(r"label_values\((\w+), job\)", jobs["query"]["query"]).group(1) in exported()  # type: ignore[union-attr]


def test_all_jobs_are_those_that_have_what_is_shown():
    """Where a dashboard is about some jobs alone, all of them are no others: the lag of alerts is not that of examples."""
    for name in DASHBOARDS:
        (jobs,) = (each for each in dashboard(name)["templating"]["list"] if each["name"] == "job")
        (figure,) = re.findall(r"label_values\((\w+), job\)", jobs["query"]["query"])
        are_all = all(figure in figures for figures in exported_by().values())

        assert jobs.get("allValue") in (None, *([".+"] if are_all else [])), name
    lags = [text for _, text, _ in queries() if "consumer_lag_records" in text and "by (" in text]
    assert lags and all("by (job," in text for text in lags), "several jobs read the same partition"


# The commands, outside containers


def environment(container: Mapping[str, Any], pod: str, settings: Mapping[str, str]) -> dict[str, str]:
    """The variables that Kubernetes would set: the brokers' user and password come from a secret, which is not made here."""
    given = dict(settings) if container.get("envFrom") else {}
    own: dict[str, str] = {}
    for each in container.get("env", []):
        source = each.get("valueFrom", {})
        if "configMapKeyRef" in source:
            own[each["name"]] = settings[source["configMapKeyRef"]["key"]]
        elif "fieldRef" in source:
            assert source["fieldRef"]["fieldPath"] == "metadata.name"
            own[each["name"]] = pod
        elif "secretKeyRef" in source:
            assert source["secretKeyRef"]["name"] == "beepgpt-kafka"
        else:
            own[each["name"]] = expanded(each["value"], own)  # from what stands before it, and not from envFrom
    return given | own


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)`, as Kubernetes fills it in; a name that is unknown stays as it is."""
    return re.sub(r"\$\((\w+)\)", lambda found: variables.get(found[1], found[0]), text)


@dataclass(frozen=True)
class Here:
    """This machine in the place of a container: which addresses and folders stand for its own."""

    folder: Path
    instead: Mapping[str, str]

    def place(self, text: str) -> str:
        for theirs, ours in self.instead.items():
            text = text.replace(theirs, ours)
        return text

    def start(self, command: list[str], variables: Mapping[str, str] | None = None, log: str = "log") -> subprocess.Popen[bytes]:
        """Starts a container's command; what it says goes to a file."""
        argv = [self.place(each) for each in command]
        programs = {"beepgpt": [sys.executable, "-m", "beepgpt"], "python": [sys.executable]}
        argv[:1] = programs.get(argv[0], argv[:1])
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("BEEPGPT_", "BYTEWAX_"))}
        ours["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{ours['PATH']}"
        ours["PYTHONPATH"] = str(ROOT)
        ours |= {name: self.place(value) for name, value in (variables or {}).items()}
        with (self.folder / log).open("ab") as file:
            return subprocess.Popen(argv, cwd=self.folder, env=ours, stdout=file, stderr=file, stdin=subprocess.DEVNULL)

    def run(self, command: list[str], variables: Mapping[str, str] | None = None) -> None:
        """Runs a container's command to its end, which has to be a good one."""
        status = self.start(command, variables).wait(PATIENCE)
        assert status == 0, f"{command} ended with {status}: {self.said()}"

    def said(self, log: str = "log") -> str:
        return (self.folder / log).read_text("utf-8", "replace")[-3000:]


@contextmanager
def stopped_at_the_end(processes: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Whatever happens in here, none of them is left."""
    try:
        yield
    finally:
        for each in processes:
            if each.poll() is None:
                each.kill()
            each.wait()


def ports_in_a_row(count: int) -> int:
    """The first of as many free ports, one after the other."""
    for _ in range(100):
        (first,) = free_ports(1)
        with ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    stack.enter_context(listening(port))
            except OSError:
                continue
        return first
    raise AssertionError(f"no {count} free ports in a row")


@contextmanager
def listening(port: int) -> Iterator[None]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        yield


def answers(port: int, path: str) -> str | None:
    """What is served there; None if nothing is, or not yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return None


def count(connection: Connection, topic: str) -> int:
    offsets: dict[int, tuple[int, int]] = begin_and_end_offsets(connection, topic)
    return sum(end - begin for begin, end in offsets.values())


@pytest.fixture
def connection(mortal_broker: Broker) -> Iterator[Connection]:
    """A broker without topics of ours, before and after; one that somebody else runs is not touched."""
    connection = Connection(mortal_broker.bootstrap)

    def forget_ours() -> None:
        admin = KafkaAdminClient(bootstrap_servers=connection.bootstrap)
        admin.delete_topics([name for name in describe_topics(connection) if name.startswith("slack.")])
        admin.close()
        wait_until(lambda: not any(name.startswith("slack.") for name in describe_topics(connection)), "topics are deleted")

    forget_ours()
    yield connection
    forget_ours()
    gc.collect()


@pytest.fixture
def export(tmp_path: Path) -> Path:
    path = tmp_path / "export.zip"
    write_export(Plan(messages=2_000, days=7, channels=12, people=30), path)
    return path


def check_served(job: str, served: str, but: Collection[str] = ()) -> None:
    """The process serves every figure of its job that a panel or a rule asks for; `but`: what it may have nothing to say of yet."""
    for name in shown_of(job) - set(but):
        assert f"# TYPE {name} " in served, name


def check_flow(
    connection: Connection, flow: list[subprocess.Popen[bytes]], ports: list[int], grace: float, said: Callable[[], str]
) -> None:
    """It gets ready, makes examples, serves every figure of the dashboard, and stops when it is asked to."""

    def is_up() -> bool:
        assert all(each.poll() is None for each in flow), f"a process ended: {said()}"
        return all(answers(port, "/readyz") for port in ports)

    wait_until(is_up, "the flow is ready", said=said)
    wait_until(lambda: count(connection, "slack.examples"), "there are examples", said=said)
    assert all(answers(port, "/healthz") for port in ports)
    served = "".join(answers(port, "/metrics") or "" for port in ports)
    check_served("examples", served)
    for each in flow:
        each.send_signal(signal.SIGTERM)
    assert [each.wait(grace) for each in flow] == [0] * len(flow), said()


@pytest.mark.slow
def test_every_command_of_the_compose_file_runs(connection: Connection, export: Path, tmp_path: Path):
    """Topics are made, an export is put on them, and examples come until they are stopped."""
    flow = services()["examples"]
    workers = int(flag(flow["command"], "--workers"))
    port = ports_in_a_row(workers)
    recovery = tmp_path / "recovery"
    recovery.mkdir()
    places = {"kafka:19092": connection.bootstrap, "/recovery": str(recovery), "/import/export.zip": str(export), "9464": str(port)}
    here = Here(tmp_path, places)
    ours = {name for name, each in services().items() if each["image"].startswith(f"{OURS}:")}

    assert ours == {"topics", "ingest", "slack", "examples", "score", "alert"}, "a new service is run here, too"
    here.run(services()["topics"]["command"])
    here.run(services()["topics"]["command"])
    here.run(services()["ingest"]["command"])
    process = here.start(flow["command"])
    with stopped_at_the_end([process]):
        wait_until(lambda: answers(port, "/readyz"), "the flow is ready", said=here.said)
        here.run(flow["healthcheck"]["test"][1:])
        grace = float(flow["stop_grace_period"].removesuffix("s"))
        check_flow(connection, [process], list(range(port, port + workers)), grace, here.said)
    with pytest.raises(AssertionError, match="ended with 1"):
        here.run(flow["healthcheck"]["test"][1:])


def variables_of(service: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """What Compose would set, where those are set for itself."""
    return {name: re.sub(r"\$\{(\w+):-\}", lambda found: given.get(found[1], ""), text) for name, text in service["environment"].items()}


@pytest.mark.slow
def test_what_slack_says_comes_to_the_compose_files_topic(connection: Connection, slack_server: Server, tmp_path: Path):
    """By the service's own command, with the tokens of the environment; it is healthy, and ends well."""
    service, port = services()["slack"], ports_in_a_row(1)
    here = Here(tmp_path, {"kafka:19092": connection.bootstrap, "9464": str(port)})
    given = {**variables_of(service, slack_server.settings), "BEEPGPT_SLACK__BASE_URL": slack_server.base_url}
    channel = slack_server.workspace.add_channel("C1")
    here.run(services()["topics"]["command"])
    process = here.start(service["command"], given)
    with stopped_at_the_end([process]):
        wait_until(lambda: "beepgpt_slack_connected 1.0" in (answers(port, "/metrics") or ""), "it is connected", said=here.said)
        slack_server.workspace.post(channel, "U1", "hello")
        wait_until(lambda: slack_server.acknowledged, "what was said is on the topic", said=here.said)
        wait_until(lambda: answers(port, "/readyz"), "heartbeats come", said=here.said)
        check_served("slack", answers(port, "/metrics") or "")
        here.run(service["healthcheck"]["test"][1:])
        process.send_signal(signal.SIGTERM)
        assert process.wait(float(service["stop_grace_period"].removesuffix("s"))) == 0, here.said()
    assert not re.search("not-a-secret", here.said())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_scoring_service_runs(connection: Connection, tmp_path: Path):
    """The compose file's command predicts what is said from its start on."""
    (port,) = free_ports(1)
    (tmp_path / "recovery").mkdir()
    places = {"kafka:19092": connection.bootstrap, "/recovery": str(tmp_path / "recovery"), "9464": str(port)}
    here = Here(tmp_path, {"/model": str(save(tmp_path / "trained")), **places})
    here.run(services()["topics"]["command"])
    scores = services()["score"]
    with stopped_at_the_end([process := here.start(scores["command"])]):
        check_scoring(connection, process, port, float(scores["stop_grace_period"].removesuffix("s")), here.said)


def check_scoring(connection: Connection, flow: subprocess.Popen[bytes], port: int, grace: float, said: Callable[[], str]) -> None:
    """It gets ready, goes through all that there is, predicts what is said from then on, and stops when it is asked to."""
    wait_until(lambda: answers(port, "/readyz"), "the flow is ready", said=said)
    now = time.time_ns() // 1000
    with Writer(connection, "slack.events") as writer:
        writer.send(
            [OutgoingRecord(b"C1", post("C1", now, "ana", "Is it red?").line), OutgoingRecord(b"C1", heartbeat(now + 60_000_000).line)]
        )
    wait_until(lambda: count(connection, "slack.predictions"), "there is a prediction", said=said)
    assert "beepgpt_predictions_total{" in (answers(port, "/metrics") or "")
    check_served("score", answers(port, "/metrics") or "")
    flow.send_signal(signal.SIGTERM)
    assert flow.wait(grace) == 0, said()


@pytest.mark.slow
@pytest.mark.parametrize("folder", MAKE_EXAMPLES)
def test_every_command_of_the_manifests_runs(connection: Connection, export: Path, tmp_path: Path, folder: str):
    """The same on Kubernetes: all pods at once, with the variables and files that they would have."""
    settings = base_settings() | without_security(connection)
    job, pod_set = of_kind(folder, "Job"), of_kind(folder, "StatefulSet")
    (topics,) = job["spec"]["template"]["spec"]["containers"]
    pod = pod_set["spec"]["template"]["spec"]
    (flow,) = pod["containers"]
    pods = [f"{pod_set['metadata']['name']}-{number}" for number in range(pod_set["spec"]["replicas"])]
    first = ports_in_a_row(len(pods) * len(flow["ports"]))
    hosts = tmp_path / "hosts"
    hosts.write_text("".join(f"127.0.0.1:{port}\n" for port in free_ports(len(pods))))
    recovery = tmp_path / "recovery"
    recovery.mkdir()
    places = {"/recovery": str(recovery), "/etc/beepgpt/hosts": str(hosts), "$BYTEWAX_POD_NAME.beepgpt-examples": "localhost"}
    here = Here(tmp_path, places)

    def command(container: dict[str, Any], variables: dict[str, str]) -> list[str]:
        return [expanded(each, variables) for each in container["command"]]

    given = environment(topics, "beepgpt-topics", settings)
    here.run(command(topics, given), given)
    Here(tmp_path, {"kafka:19092": connection.bootstrap, "/import/export.zip": str(export)}).run(services()["ingest"]["command"])
    for name in pods:
        for each in pod.get("initContainers", []):
            given = environment(each, name, settings)
            here.run(command(each, given), given)
    started: list[subprocess.Popen[bytes]] = []
    with stopped_at_the_end(started):
        for number, name in enumerate(pods):
            own_port = {"BEEPGPT_RUN__METRICS_PORT": str(first + number)}  # here they share one machine
            given = environment(flow, name, settings) | own_port
            started.append(here.start(command(flow, given), given, "flow"))
        metrics = [each for each in flow["ports"] if each["name"].startswith("metrics")]
        ports = list(range(first, first + len(pods) * len(metrics)))
        check_flow(connection, started, ports, pod["terminationGracePeriodSeconds"], lambda: here.said("flow"))
    assert list(recovery.rglob("*.sqlite3"))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["compose", "kubernetes"])
def test_the_alerts_command_runs(connection: Connection, tmp_path: Path, place: str):
    """A prediction on the topic comes to somebody in Slack; and it ends well."""
    space = Workspace()
    for user in ("ana", "bo"):
        space.user(user)
    space.channel("C1", "ana", "bo")
    (tmp_path / "recovery").mkdir()
    (port,) = free_ports(1)
    places = {"kafka:19092": connection.bootstrap, "/recovery": str(tmp_path / "recovery"), "/store": str(tmp_path), "9464": str(port)}
    here = Here(tmp_path, places)
    here.run(services()["topics"]["command"])
    with slack_serving(space):
        slack = {"BEEPGPT_SLACK__BASE_URL": space.url, "BEEPGPT_SLACK__BOT_TOKEN": TOKEN, "BEEPGPT_ALERTS__QUIET": ""}
        if place == "compose":
            service = services()["alert"]
            given = {**variables_of(service, slack), **slack, "BEEPGPT_ALERTS__THRESHOLD": "0.5", "BEEPGPT_ALERTS__OPTED_IN": "true"}
            command = service["command"]
        else:
            (container,) = containers("alerts")
            given = settings_in("alerts") | without_security(connection) | {**slack, "BEEPGPT_ALERTS__OPTED_IN": "true"}
            command = [expanded(each, given) for each in container["command"]]
        with stopped_at_the_end([process := here.start(command, given)]):
            wait_until(lambda: answers(port, "/readyz"), "it has read what was there", said=here.said)
            here.run(services()["alert"]["healthcheck"]["test"][1:])
            told = prediction(time.time_ns() // 1000, people={"bo": 0.9})
            with Writer(connection, "slack.predictions") as writer:
                writer.send([OutgoingRecord(b"C1", json.dumps(told).encode())])
            wait_until(lambda: space.sent_to("bo"), "somebody is told", said=here.said)
            wait_until(lambda: count(connection, "slack.alerts"), "it is on the topic, too", said=here.said)
            wait_until(lambda: 'told_total{by="topic"} 1.0' in (answers(port, "/metrics") or ""), "it is counted", said=here.said)
            check_served("alert", answers(port, "/metrics") or "")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, here.said()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_scoring_pod_runs(connection: Connection, tmp_path: Path):
    """Its command, with the variables that it would have, predicts what is said from its start on."""
    settings = base_settings() | without_security(connection)
    pod_set = of_kind("scoring", "StatefulSet")
    pod = pod_set["spec"]["template"]["spec"]
    (flow,) = pod["containers"]
    (port,) = free_ports(1)
    (tmp_path / "recovery").mkdir()
    here = Here(tmp_path, {"/model": str(save(tmp_path / "trained")), "/recovery": str(tmp_path / "recovery")})
    here.run(["beepgpt", "topics", f"kafka://{connection.bootstrap}"])
    given = environment(flow, "beepgpt-scoring-0", settings) | {"BEEPGPT_RUN__METRICS_PORT": str(port)}
    with stopped_at_the_end([process := here.start([expanded(each, given) for each in flow["command"]], given)]):
        check_scoring(connection, process, port, pod["terminationGracePeriodSeconds"], here.said)
