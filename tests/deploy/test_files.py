"""The files of a deployment are valid and agree with each other: images are pinned, settings known, secrets nowhere."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from typing import Any
from zipfile import ZipFile

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from beepgpt import __version__
from beepgpt.config.settings import read_settings
from beepgpt.connectors.slack.scopes import ALERTS, CHANNELS, REACTIONS, manifest_of
from tests.support.deploy import (
    KUBERNETES,
    OURS,
    ROOT,
    WAYS,
    base_images,
    base_settings,
    containers,
    copied,
    document,
    environment,
    expanded,
    flag,
    manifests,
    of_kind,
    pods,
    services,
    settings_in,
)


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
    named = {re.split(r"[\[>=]", each)[0] for names in extras.values() for each in names} - {"beepgpt"}

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

    assert ALERTS.union({REACTIONS}, *(CHANNELS[kind] for kind in kinds)) == set(scopes)
    assert ("groups:history" in scopes, "message.groups" in events) == ("groups" in kinds,) * 2


def test_the_slack_apps_differ_in_private_channels_alone():
    """In a scope and an event."""
    public, private = (document(manifest_of(is_private=each)) for each in (False, True))
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
