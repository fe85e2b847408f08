"""The objects of deploy/kubernetes/, as `kubectl apply -k` would send them."""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engines import engine
from tests.servers import PROJECT

KUBERNETES = PROJECT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
PAGE = (PROJECT / "docs" / "how-to" / "kubernetes.md").read_text()
PROCESSES = ("web", "worker", "checks", "beat")
Object = dict[str, Any]


class Loader(yaml.SafeLoader):
    """A reader of YAML to which a time is a text, as to Kubernetes."""

    yaml_implicit_resolvers = {
        letter: [pair for pair in pairs if not pair[0].endswith(":timestamp")]
        for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def objects(overlay: str, base: Path = KUBERNETES) -> list[Object]:
    """Return the objects of an overlay; skip the test without a kubectl that builds it."""
    program = engine("kubectl")
    if not _knows_components(program):
        pytest.skip("kubectl is older than 1.21, and knows no components of Kustomize")
    return _built(program, base / "overlays" / overlay)


@cache
def _knows_components(program: str) -> bool:
    known = subprocess.run([program, "kustomize", "--help"], capture_output=True, text=True, check=False)
    return "--load-restrictor" in known.stdout  # of the same version


@cache
def _built(program: str, overlay: Path) -> list[Object]:
    built = subprocess.run([program, "kustomize", str(overlay)], capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    return list(yaml.load_all(built.stdout, Loader))


def of_kind(found: list[Object], *kinds: str) -> list[Object]:
    return [each for each in found if each["kind"] in kinds]


def the(found: list[Object], kind: str, name: str) -> Object:
    """Return the one object of a kind and name; of a generated one, the name without its hash."""
    [each] = [
        each for each in of_kind(found, kind) if re.fullmatch(rf"{name}(-[0-9a-z]{{10}})?", name_of(each))
    ]
    return each


def name_of(each: Object) -> str:
    return str(each["metadata"]["name"])


def component(each: Object) -> str:
    return str(each["metadata"]["labels"]["app.kubernetes.io/component"])


def ours(found: list[Object]) -> dict[str, Object]:
    """Return the Deployments and the Job that run the product's image, by component."""
    return {
        component(each): each
        for each in of_kind(found, "Deployment", "Job")
        if each["metadata"]["labels"]["app.kubernetes.io/name"] == "fundapi"
    }


def pod(each: Object) -> Object:
    """Return the specification of the pods of a Deployment or Job."""
    found: Object = each["spec"]["template"]["spec"]
    return found


def container(each: Object) -> Object:
    """Return the one container of the pods of a Deployment or Job."""
    [found] = pod(each)["containers"]
    return dict(found)


def probes(each: Object) -> dict[str, Object]:
    return {kind: probe for kind, probe in container(each).items() if kind.endswith("Probe")}


def variables(found: list[Object], name: str) -> dict[str, str]:
    """Return the variables of a process, without those of secrets."""
    has = container(ours(found)[name])
    [maps] = [source["configMapRef"]["name"] for source in has["envFrom"] if "configMapRef" in source]
    values: dict[str, str] = dict(the(found, "ConfigMap", maps)["data"])
    return values | {variable["name"]: variable["value"] for variable in has["env"]}


def secrets_of(each: Object) -> list[tuple[str, str, str]]:
    """Return the files of secrets that a pod has: secret, key, and path."""
    mounts = {mount["name"]: mount["mountPath"] for mount in container(each)["volumeMounts"]}
    found = []
    for volume in pod(each)["volumes"]:
        sources = [source["secret"] for source in volume.get("projected", {}).get("sources", [])]
        sources += (
            [{"name": volume["secret"]["secretName"], **volume["secret"]}] if "secret" in volume else []
        )
        found += [
            (source["name"], item["key"], f"{mounts[volume['name']]}/{item['path']}")
            for source in sources
            for item in source["items"]
        ]
    return found


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Return whether a selector of Kubernetes takes an object with these labels."""
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        (labels.get(rule["key"]) in rule["values"]) == (rule["operator"] == "In")
        for rule in selector.get("matchExpressions", [])
    )


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that holds no others, with its path: `spec.rules[].alert`."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from walk(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from walk(inner, f"{path}[]")
    else:
        yield path, value


# The fields that are used of resources that operators define, as their own definitions have them: of the Prometheus
# Operator 0.93, CloudNativePG 1.30 and its Barman Cloud plugin 0.14. A value is of the type, or one of those named.
MONITORED = {
    "spec.jobLabel": str,
    "spec.selector.matchLabels.*": str,
    "spec.selector.matchExpressions[].key": str,
    "spec.selector.matchExpressions[].operator": {"In", "NotIn"},
    "spec.selector.matchExpressions[].values[]": str,
}
ENDPOINT = {"interval": str, "path": str, "port": str, "scrapeTimeout": str}
FIELDS: dict[tuple[str, str], dict[str, Any]] = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): MONITORED
    | {f"spec.endpoints[].{name}": kind for name, kind in ENDPOINT.items()},
    ("monitoring.coreos.com/v1", "PodMonitor"): MONITORED
    | {f"spec.podMetricsEndpoints[].{name}": kind for name, kind in ENDPOINT.items()},
    ("monitoring.coreos.com/v1", "PrometheusRule"): {
        "spec.groups[].name": str,
        "spec.groups[].rules[].alert": str,
        "spec.groups[].rules[].annotations.*": str,
        "spec.groups[].rules[].expr": str,
        "spec.groups[].rules[].for": str,
        "spec.groups[].rules[].labels.*": str,
    },
    ("postgresql.cnpg.io/v1", "Cluster"): {
        "spec.affinity.podAntiAffinityType": {"preferred", "required"},
        "spec.affinity.topologyKey": str,
        "spec.bootstrap.initdb.builtinLocale": str,
        "spec.bootstrap.initdb.database": str,
        "spec.bootstrap.initdb.encoding": str,
        "spec.bootstrap.initdb.locale": str,
        "spec.bootstrap.initdb.localeProvider": str,
        "spec.bootstrap.initdb.owner": str,
        "spec.bootstrap.initdb.postInitSQL[]": str,
        "spec.bootstrap.recovery.database": str,
        "spec.bootstrap.recovery.owner": str,
        "spec.bootstrap.recovery.recoveryTarget.targetTime": str,
        "spec.bootstrap.recovery.source": str,
        "spec.certificates.serverAltDNSNames[]": str,
        "spec.externalClusters[].name": str,
        "spec.externalClusters[].plugin.name": str,
        "spec.externalClusters[].plugin.parameters.*": str,
        "spec.imageCatalogRef.apiGroup": {"postgresql.cnpg.io"},
        "spec.imageCatalogRef.kind": {"ImageCatalog", "ClusterImageCatalog"},
        "spec.imageCatalogRef.major": int,
        "spec.imageCatalogRef.name": str,
        "spec.instances": int,
        "spec.managed.roles[].login": bool,
        "spec.managed.roles[].name": str,
        "spec.managed.roles[].passwordSecret.name": str,
        "spec.plugins[].isWALArchiver": bool,
        "spec.plugins[].name": str,
        "spec.plugins[].parameters.*": str,
        "spec.postgresql.parameters.*": str,
        "spec.postgresql.synchronous.dataDurability": {"required", "preferred"},
        "spec.postgresql.synchronous.failoverQuorum": bool,
        "spec.postgresql.synchronous.method": {"any", "first"},
        "spec.postgresql.synchronous.number": int,
        "spec.primaryUpdateMethod": {"switchover", "restart"},
        "spec.resources.limits.*": str,
        "spec.resources.requests.*": str,
        "spec.smartShutdownTimeout": int,
        "spec.storage.size": str,
        "spec.switchoverDelay": int,
        "spec.walStorage.size": str,
    },
    ("postgresql.cnpg.io/v1", "Pooler"): {
        "spec.cluster.name": str,
        "spec.instances": int,
        "spec.pgbouncer.parameters.*": str,
        "spec.pgbouncer.poolMode": {"session", "transaction"},
        "spec.type": {"rw", "ro", "r"},
    },
    ("postgresql.cnpg.io/v1", "ScheduledBackup"): {
        "spec.backupOwnerReference": {"none", "self", "cluster"},
        "spec.cluster.name": str,
        "spec.immediate": bool,
        "spec.method": {"barmanObjectStore", "volumeSnapshot", "plugin"},
        "spec.pluginConfiguration.name": str,
        "spec.schedule": str,
    },
    ("barmancloud.cnpg.io/v1", "ObjectStore"): {
        "spec.configuration.data.compression": {"bzip2", "gzip", "lz4", "snappy"},
        "spec.configuration.destinationPath": str,
        "spec.configuration.s3Credentials.accessKeyId.key": str,
        "spec.configuration.s3Credentials.accessKeyId.name": str,
        "spec.configuration.s3Credentials.secretAccessKey.key": str,
        "spec.configuration.s3Credentials.secretAccessKey.name": str,
        "spec.configuration.wal.compression": {"bzip2", "gzip", "lz4", "snappy", "xz", "zstd"},
        "spec.retentionPolicy": str,
    },
}


def wrong_fields(each: Object) -> list[str]:
    """Return the fields of an operator's resource that its definition does not have, or not with this value."""
    known = FIELDS[each["apiVersion"], each["kind"]]
    maps = {path.removesuffix("*"): kind for path, kind in known.items() if path.endswith(".*")}
    template = each["spec"].get("template", {})  # an object of Kubernetes' own
    spec = {name: value for name, value in each["spec"].items() if value is not template}
    wrong = []
    for path, value in walk(spec, "spec"):
        kind = known.get(path) or next((kind for start, kind in maps.items() if path.startswith(start)), None)
        if not (value in kind if isinstance(kind, set) else kind is type(value)):
            wrong.append(f"{path}: {value!r}")
    return wrong
