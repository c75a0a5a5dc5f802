"""What the files say by which BeepGPT is deployed: the compose file, the manifests, the image."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from beepgpt.connectors.kafka import Connection

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
WAYS = ("one-pod", "cluster", "scoring")
MAKE_EXAMPLES = ("one-pod", "cluster")
"""The ways of running that there are manifests for; each stands on `base`."""
OURS = "beepgpt"


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


# What Kubernetes makes of them


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
