"""deploy/kubernetes/: the overlays build, Kubernetes would take them, and all that they name exists in the product."""

import copy
import os
import re
import shutil
import subprocess
from base64 import b64decode
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml
from django.urls import get_resolver, resolve
from psycopg.pq import Conninfo

from benchmarks.capacity import Machines
from fundapi.web.probes import PATIENCE
from fundapi.web.serve import KILL_TIMEOUT
from tests.fundapi.containers import SERVICES, image_environment, seconds, stages
from tests.fundapi.kubernetes import (
    FIELDS,
    KUBERNETES,
    OVERLAYS,
    PAGE,
    PROCESSES,
    Object,
    component,
    container,
    name_of,
    objects,
    of_kind,
    ours,
    pod,
    probes,
    secrets_of,
    selects,
    the,
    variables,
    wrong_fields,
)
from tests.servers import PROJECT

OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
ROLES = {"web": "web", "worker": "worker", "checks": "worker", "beat": "worker", "migrate": "owner"}


@pytest.fixture(scope="module", params=OVERLAYS)
def found(request: pytest.FixtureRequest) -> list[Object]:
    return objects(request.param)


@pytest.fixture(scope="module")
def production() -> list[Object]:
    return objects("production")


def is_custom(each: Object) -> bool:
    return (each["apiVersion"], each["kind"]) in FIELDS


# --- Kubernetes would take them --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_knows_every_field(
    found: list[Object], version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each schema is a file, and so are all that they share: several MB.
    monkeypatch.setattr(
        kubernetes_validate.utils, "schema_contents", cache(kubernetes_validate.utils.schema_contents)
    )
    for each in found:
        if not is_custom(each):
            kubernetes_validate.validate(each, version, strict=True)
        elif template := each["spec"].get("template"):
            whole = {"apiVersion": "v1", "kind": "Pod", **template}
            kubernetes_validate.validate(whole, version, strict=True)


def test_the_operators_know_every_field_of_theirs(found: list[Object]) -> None:
    custom = [each for each in found if is_custom(each)]
    assert {(each["apiVersion"], each["kind"]) for each in custom} == set(FIELDS)
    assert [(name_of(each), wrong_fields(each)) for each in custom if wrong_fields(each)] == []


def test_a_misspelt_field_is_refused(production: list[Object]) -> None:
    web = copy.deepcopy(ours(production)["web"])
    pod(web)["terminationGracePeriod"] = 35
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(web, NEWEST, strict=True)
    cluster = copy.deepcopy(the(production, "Cluster", "fundapi-database"))
    cluster["spec"]["postgresql"]["synchronous"] |= {"method": "all", "quorum": True}
    assert len(wrong_fields(cluster)) == 2


def test_every_object_is_in_the_namespace_of_its_overlay_and_named_once(found: list[Object]) -> None:
    [namespace] = of_kind(found, "Namespace")
    inside = [each["metadata"] for each in found if each is not namespace]
    assert {metadata["namespace"] for metadata in inside} == {name_of(namespace)}
    names = [(each["kind"], name_of(each)) for each in found]
    assert len(names) == len(set(names))


# --- They start what Docker Compose starts ----------------------------------------------------------------------------


def test_the_pods_run_the_commands_of_compose(found: list[Object]) -> None:
    roles = yaml.safe_load((PROJECT / "deploy" / "compose.roles.yml").read_text())["services"]
    commands = {name: container(each)["args"] for name, each in ours(found).items()}
    assert commands == {
        **{name: SERVICES[name]["command"] for name in PROCESSES},
        "migrate": roles["migrate"]["command"],
    }
    assert {container(each)["image"] for each in ours(found).values()} == {
        "registry.example.com/fundapi:0.1.0"
    }
    # A `command` would replace the image's entry point, tini, and PID 1 cannot be killed by its watchdog.
    assert not [name for name, each in ours(found).items() if "command" in container(each)]
    valkey = the(found, "Deployment", "fundapi-valkey")
    assert container(valkey)["args"] == SERVICES["valkey"]["command"]
    assert container(valkey)["image"] == SERVICES["valkey"]["image"]
    check = SERVICES["valkey"]["healthcheck"]["test"]
    assert probes(valkey)["readinessProbe"]["exec"]["command"] == check[1:]
    assert [port["containerPort"] for port in container(valkey)["ports"]] == [6379]


def test_the_probes_are_those_of_compose(found: list[Object]) -> None:
    """With a time that is longer than an answer takes; no probe of life asks the database or the broker."""
    web, worker, checks, beat = (probes(ours(found)[name]) for name in PROCESSES)
    for kind, path in (("startup", "/livez"), ("liveness", "/livez"), ("readiness", "/readyz")):
        probe = web[f"{kind}Probe"]
        assert probe["httpGet"] == {"path": path, "port": "http"}
        assert resolve(path)
        assert probe["timeoutSeconds"] > PATIENCE
    # A fail-over takes 15 s at most: the pods stay in the Service.
    assert web["readinessProbe"]["periodSeconds"] * web["readinessProbe"]["failureThreshold"] >= 30
    for name, has in (("worker", worker), ("checks", checks)):
        assert set(has) == {"readinessProbe"}
        [script] = SERVICES[name]["healthcheck"]["test"][1:]
        assert has["readinessProbe"]["exec"]["command"] == ["sh", "-c", script.replace("$$", "$")]
        assert has["readinessProbe"]["timeoutSeconds"] == seconds(SERVICES[name]["healthcheck"]["timeout"])
    assert set(beat) == {"livenessProbe"}
    assert beat["livenessProbe"]["exec"]["command"] == SERVICES["beat"]["healthcheck"]["test"][1:]
    assert probes(ours(found)["migrate"]) == {}
    for each in of_kind(found, "Deployment"):
        asked = [probe.get("httpGet") or probe.get("tcpSocket") for probe in probes(each).values()]
        ports = {port["name"] for port in container(each).get("ports", [])}
        assert {where["port"] for where in asked if where} <= ports


def test_a_pod_has_the_time_memory_and_directories_that_its_container_has_in_compose(
    found: list[Object],
) -> None:
    in_memory = [entry.partition(":")[::2] for entry in SERVICES["web"]["tmpfs"]]
    for name, each in ours(found).items():
        pause = container(each).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        grace = pod(each)["terminationGracePeriodSeconds"] - pause
        assert grace == seconds(SERVICES[name]["stop_grace_period"]), name
        assert (name == "web") == (pause > 0)
        resources = container(each)["resources"]
        limit = SERVICES[name]["deploy"]["resources"]["limits"]["memory"]
        assert resources["limits"] == {"memory": f"{limit[:-1]}{limit[-1].upper()}i"}, name
        assert set(resources["requests"]) == {"cpu", "memory"}
        request, most = resources["requests"]["memory"], resources["limits"]["memory"]
        assert int(request.removesuffix("Mi")) < int(most[:-2]) * {"Mi": 1, "Gi": 1024}[most[-2:]]
        asked, at_most = (f"{size[:-2]} {size[-2:]}B" for size in (request, most))
        if name != "migrate":  # the page's table
            assert re.search(rf"^\| {name}\b.*\| {asked}, .*\| {at_most} \|$", PAGE, re.MULTILINE), name
        mounts = {mount["name"]: mount["mountPath"] for mount in container(each)["volumeMounts"]}
        empty = {
            mounts[volume["name"]]: volume["emptyDir"]["sizeLimit"]
            for volume in pod(each)["volumes"]
            if "emptyDir" in volume
        }
        assert empty == {path: re.search(r"size=(\d+)m", options)[1] + "Mi" for path, options in in_memory}  # type: ignore[index]
    assert pod(ours(found)["web"])["terminationGracePeriodSeconds"] > KILL_TIMEOUT + 5


def test_every_pod_is_hardened(found: list[Object]) -> None:
    """As the level "restricted" wants it, which the namespace enforces; and the file system is read-only."""
    [namespace] = of_kind(found, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    [account] = of_kind(found, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    [user] = [word for kind, word in stages()[-1] if kind == "USER"]
    for each in of_kind(found, "Deployment", "Job"):
        security = pod(each)["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == (int(user) if each in ours(found).values() else 999)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container(each)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod(each)["automountServiceAccountToken"] is False
        assert pod(each)["enableServiceLinks"] is False
        assert pod(each).get("serviceAccountName", name_of(account)) == name_of(account)


# --- What they name exists --------------------------------------------------------------------------------------------


def templates(found: list[Object]) -> list[tuple[str, dict[str, str], set[str]]]:
    """Return the kinds of pods: a name, labels, and the names of ports. Those of the database are its operator's."""
    own = [
        (
            name_of(each),
            each["spec"]["template"]["metadata"]["labels"],
            {port["name"] for port in container(each).get("ports", [])},
        )
        for each in of_kind(found, "Deployment", "Job")
    ]
    made: list[tuple[str, dict[str, str]]] = []
    for each in of_kind(found, "Cluster"):
        labels = {"cnpg.io/cluster": name_of(each)}
        made += [
            (name_of(each), labels | {"cnpg.io/podRole": "instance"}),
            (f"{name_of(each)}-initdb", labels | {"cnpg.io/jobRole": "initdb"}),
        ]
    for each in of_kind(found, "Pooler"):
        labels = {"cnpg.io/cluster": each["spec"]["cluster"]["name"], "cnpg.io/poolerName": name_of(each)}
        made.append((name_of(each), labels | {"cnpg.io/podRole": "pooler"}))
    return own + [(name, labels, {"metrics"}) for name, labels in made]


def selected(found: list[Object], selector: Object) -> set[str]:
    return {name for name, labels, _ in templates(found) if selects(selector, labels)}


def ports_of(found: list[Object], names: set[str]) -> set[str]:
    return {port for name, _, ports in templates(found) if name in names for port in ports}


def test_every_selector_takes_the_pods_that_it_means(found: list[Object]) -> None:
    for each in of_kind(found, "Deployment"):
        assert selected(found, each["spec"]["selector"]) == {name_of(each)}
        for spread in pod(each).get("topologySpreadConstraints", []):
            assert name_of(each) in selected(found, spread["labelSelector"])
            assert spread["topologyKey"] in {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    for each in of_kind(found, "PodDisruptionBudget"):
        assert selected(found, each["spec"]["selector"]) == {name_of(each)}
        assert each["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert each["spec"]["maxUnavailable"] == 1  # with 0 no node can be drained
    for each in of_kind(found, "Service"):
        names = selected(found, {"matchLabels": each["spec"]["selector"]})
        assert names == {name_of(each)}
        assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports_of(found, names)
    for each in of_kind(found, "HorizontalPodAutoscaler"):
        target = each["spec"]["scaleTargetRef"]
        assert "replicas" not in the(found, target["kind"], target["name"])["spec"]
        assert 1 <= each["spec"]["minReplicas"] < each["spec"]["maxReplicas"]
        [metric] = each["spec"]["metrics"]
        assert metric["resource"]["target"]["averageUtilization"] == Machines.utilisation * 100


def test_every_pod_leaves_a_node_that_is_gone(found: list[Object]) -> None:
    [pooler] = of_kind(found, "Pooler")
    for each in (*of_kind(found, "Deployment"), pooler):
        left = {(one["key"], one["effect"], one["tolerationSeconds"]) for one in pod(each)["tolerations"]}
        assert left == {
            (f"node.kubernetes.io/{word}", "NoExecute", 30) for word in ("not-ready", "unreachable")
        }


def test_prometheus_asks_every_process_that_has_metrics_and_calls_the_job_fundapi(
    found: list[Object],
) -> None:
    asked = set()
    for each in (
        each for each in of_kind(found, "ServiceMonitor", "PodMonitor") if "jobLabel" in each["spec"]
    ):
        services = [
            service
            for service in of_kind(found, "Service")
            if selects(each["spec"]["selector"], service["metadata"]["labels"])
        ]
        if each["kind"] == "ServiceMonitor":
            [service] = services
            names, labels = {name_of(service)}, [service["metadata"]["labels"]]
            [port] = [port["name"] for port in service["spec"]["ports"]]
        else:
            names = selected(found, each["spec"]["selector"])
            labels = [labels for name, labels, _ in templates(found) if name in names]
            [port] = ports_of(found, names)
        [endpoint] = each["spec"].get("endpoints") or each["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] == port
        assert resolve(endpoint["path"])
        assert {each["spec"]["jobLabel"], *labels[0].items()} >= {
            "app.kubernetes.io/name",
            ("app.kubernetes.io/name", "fundapi"),
        }
        asked |= names
    assert asked == {"fundapi-web", "fundapi-worker", "fundapi-checks"}
    for name in ("worker", "checks"):
        port = container(ours(found)[name])["ports"][0]["containerPort"]
        assert variables(found, name)["WORKER_METRICS_PORT"] == str(port)
        assert port == int(SERVICES[name]["environment"]["WORKER_METRICS_PORT"])
    assert container(ours(found)["web"])["ports"][0]["containerPort"] == int(image_environment()["PORT"])


def test_the_alert_rules_are_those_of_prometheus(found: list[Object]) -> None:
    rules = yaml.safe_load((PROJECT / "deploy" / "prometheus-rules.yml").read_text())
    file = KUBERNETES / "components" / "prometheus-operator" / "prometheus-rule.yaml"
    assert the(found, "PrometheusRule", "fundapi")["spec"] == rules, f"write {file} anew: its head says how"


def test_prometheus_asks_the_database_too_and_has_rules_for_it(found: list[Object]) -> None:
    monitors = [each for each in of_kind(found, "PodMonitor") if "jobLabel" not in each["spec"]]
    assert [selected(found, each["spec"]["selector"]) for each in monitors] == [
        *({"fundapi-database"}, {"fundapi-pooler"})
    ]
    for each in of_kind(found, "ServiceMonitor", "PodMonitor"):
        [endpoint] = each["spec"].get("endpoints") or each["spec"]["podMetricsEndpoints"]
        assert (endpoint["interval"], endpoint["scrapeTimeout"]) == ("15s", "10s")
        if each in monitors:
            assert (endpoint["port"], endpoint["path"]) == ("metrics", "/metrics")
    metrics = set()
    for group in the(found, "PrometheusRule", "fundapi-database")["spec"]["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"warning", "critical"}
            assert rule["annotations"].keys() == {"summary", "description"}
            metrics |= set(re.findall(r"\w*cnpg_\w+|barman_\w+", rule["expr"]))
    # Of CloudNativePG's queries for monitoring (default-monitoring.yaml), and of its plugin.
    assert metrics == {
        "barman_cloud_cloudnative_pg_io_last_available_backup_timestamp",
        *("cnpg_pg_replication_in_recovery", "cnpg_pg_replication_streaming_replicas"),
        *("cnpg_pg_stat_archiver_last_archived_time", "cnpg_pg_stat_archiver_last_failed_time"),
    }


# A database without a primary, one that nothing answers for, and one that is well; a backup that is a day too old.
DATABASE_RULES = """
rule_files: [fundapi-database]
tests:
  - interval: 1m
    input_series:
      - {series: 'up{job="a/fundapi-database", namespace="a", pod="1"}', values: 1x2000}
      - {series: 'cnpg_pg_replication_in_recovery{namespace="a", pod="1"}', values: 1x2000}
      - {series: 'up{job="b/fundapi-database", namespace="b", pod="1"}', values: 0x2000}
      - {series: 'up{job="c/fundapi-database", namespace="c", pod="1"}', values: 1x2000}
      - {series: 'up{job="c/fundapi-database", namespace="c", pod="2"}', values: 0x2000}
      - {series: 'cnpg_pg_replication_in_recovery{namespace="c", pod="1"}', values: 0x2000}
      - {series: 'barman_cloud_cloudnative_pg_io_last_available_backup_timestamp{namespace="a"}', values: 60x2000}
      - {series: 'barman_cloud_cloudnative_pg_io_last_available_backup_timestamp{namespace="c"}', values: 60000x2000}
    promql_expr_test:
      - expr: 'count by (namespace, alertname) (ALERTS{alertname=~"PrimaryGone|BackupOld", alertstate="firing"})'
        eval_time: 30h
        exp_samples:
          - {labels: '{namespace="a", alertname="PrimaryGone"}', value: 1}
          - {labels: '{namespace="b", alertname="PrimaryGone"}', value: 1}
          - {labels: '{namespace="a", alertname="BackupOld"}', value: 1}
"""


def test_prometheus_understands_the_rules(production: list[Object], tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is missing: apt-get install prometheus")
    for each in of_kind(production, "PrometheusRule"):
        (tmp_path / name_of(each)).write_text(yaml.safe_dump(each["spec"]))
    files = [str(path) for path in tmp_path.iterdir()]
    (tmp_path / "tests").write_text(DATABASE_RULES)
    for command in (["check", "rules", *files], ["test", "rules", str(tmp_path / "tests")]):
        run = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr


def test_every_variable_is_read_by_somebody(found: list[Object]) -> None:
    documented = set(re.findall(r"^#([A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE))
    libpq = {option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar}
    for name in ours(found):
        names = set(variables(found, name))
        assert {each.removesuffix("_FILE") for each in names} <= documented | libpq
        assert {each.removesuffix("_FILE") for each in names if each.endswith("_FILE")} >= {
            "SECRET_KEY",
            "DATABASE_URL",
        }
        assert ("DATABASE_TRANSACTION_POOLING" in names) == (name != "migrate")
        assert variables(found, name)["PGSSLMODE"] == "verify-full"
    alerts = re.search(r"`fundapi-alerts`, optional \| variables: (.*?), \.\.\.", PAGE)
    assert alerts
    assert set(re.findall(r"`(\w+)`", alerts[1])) <= documented


def test_the_environments_have_different_names(production: list[Object]) -> None:
    values = [variables(objects(overlay), "web") for overlay in OVERLAYS]
    assert sorted(each["ENVIRONMENT"] for each in values) == ["prod", "staging"]
    for each in values:
        assert (each["HTTPS"], each["TRUSTED_PROXIES"]) == ("on", "1")
    namespaces = {name_of(of_kind(objects(overlay), "Namespace")[0]) for overlay in OVERLAYS}
    assert namespaces == {"fundapi", "fundapi-staging"}


@cache
def made_secrets() -> dict[str, dict[str, str]]:
    """Return the secrets that the page's own commands make, and those of operators in its table."""
    made: dict[str, dict[str, str]] = {}
    for line in "".join(BLOCKS).replace("\\\n", " ").splitlines():
        if " create secret " in line:
            script = f"WEB=a; WORKER=b; {line} --dry-run=client --output=yaml"
            secret = yaml.safe_load(subprocess.check_output(["sh", "-euc", script], text=True))
            made[name_of(secret)] = {key: b64decode(value).decode() for key, value in secret["data"].items()}
    for row in re.findall(r"^\| (`fundapi-database-app`, .*?) \| (.*?) \|", PAGE, re.MULTILINE):
        names, keys = (re.findall(r"`(.*?)`", cell) for cell in row)
        made |= {name: {key: ""} for name, key in zip(names, keys, strict=True)}
    return made


def test_every_secret_is_one_that_somebody_makes_and_every_file_of_one_is_there(found: list[Object]) -> None:
    made = made_secrets()
    for name, each in ours(found).items():
        for secret, key, _ in secrets_of(each):
            assert key in made[secret], (name, secret, key)
        files = {path for _, _, path in secrets_of(each)}
        named = {
            value
            for variable, value in variables(found, name).items()
            if variable.endswith("_FILE") or variable == "PGSSLROOTCERT"
        }
        assert named == files, name
    store = the(found, "ObjectStore", "fundapi-database")["spec"]["configuration"]["s3Credentials"]
    assert {each["key"] for each in store.values()} == set(made[store["accessKeyId"]["name"]])
    for each in of_kind(found, "Ingress"):
        assert {f"`{tls['secretName']}`" for tls in each["spec"]["tls"]} <= set(PAGE.split())


def test_the_addresses_of_the_page_are_those_of_the_overlay(production: list[Object]) -> None:
    """Of Valkey, and of the pooler, with the roles that the cluster has and their passwords."""
    cluster = the(production, "Cluster", "fundapi-database")["spec"]
    made = made_secrets()
    [labelled] = re.findall(r"label secret (.*) cnpg.io/reload=true$", PAGE, re.MULTILINE)
    roles = {role["name"]: role["passwordSecret"]["name"] for role in cluster["managed"]["roles"]}
    assert set(labelled.split()) == set(roles.values())
    for name, key in (("fundapi_web", "database_url_web"), ("fundapi_worker", "database_url_worker")):
        url = urlsplit(made["fundapi"][key])
        assert {"username": url.username, "password": url.password} == made[roles[name]]
        assert (url.username, url.port, url.path) == (
            *(name, 5432),
            f"/{cluster['bootstrap']['initdb']['database']}",
        )
        assert the(production, "Pooler", url.hostname or "")["spec"]["type"] == "rw"
        assert cluster["certificates"]["serverAltDNSNames"] == [url.hostname]
    valkey = urlsplit(made["fundapi"]["redis_url"])
    [port] = the(production, "Service", valkey.hostname or "")["spec"]["ports"]
    assert valkey.port == port["port"]
    assert made["fundapi"]["redis_url"] in (KUBERNETES / "components/valkey/kustomization.yaml").read_text()


def test_no_process_has_another_ones_role(found: list[Object]) -> None:
    for name, each in ours(found).items():
        keys = {key for _, key, _ in secrets_of(each)}
        url = "uri" if name == "migrate" else f"database_url_{ROLES[name]}"
        assert keys == {"secret_key", "redis_url", url, "ca.crt"}


def test_the_site_is_open_to_the_outside_but_probes_and_metrics_are_not(found: list[Object]) -> None:
    [ingress] = of_kind(found, "Ingress")
    [rule] = ingress["spec"]["rules"]
    assert rule["host"] == variables(found, "web")["ALLOWED_HOSTS"]
    assert [each["hosts"] for each in ingress["spec"]["tls"]] == [[rule["host"]]]
    for path in rule["http"]["paths"]:
        service = path["backend"]["service"]
        [port] = the(found, "Service", service["name"])["spec"]["ports"]
        assert service["port"] == {"name": port["name"]}
    open_paths = {path["path"]: path["pathType"] for path in rule["http"]["paths"]}
    patterns = [*get_resolver().url_patterns, *get_resolver("rollout.urls").url_patterns]
    addresses = {re.sub(r"[^\w/-].*", "", str(each.pattern)) for each in patterns} - {""}
    roots = {"/" + address.partition("/")[0] for address in addresses}
    inside = {"/livez", "/readyz", "/metrics"}
    assert roots - inside == set(open_paths) - {"/", "/static"}
    assert not inside & set(open_paths)
    several = {root for root in roots if any(address.startswith(f"{root[1:]}/") for address in addresses)}
    assert {path for path, kind in open_paths.items() if kind == "Prefix"} == several | {"/static"}


# --- Who reaches whom -------------------------------------------------------------------------------------------------


def reached(found: list[Object], name: str, direction: str) -> set[tuple[str, Any]]:
    """Return what pods of a kind may reach, or are reached by: a kind of pod, a namespace or "anybody", and a port."""
    [labels] = [labels for each, labels, _ in templates(found) if each == name]
    allowed: set[tuple[str, Any]] = set()
    for policy in of_kind(found, "NetworkPolicy"):
        if not selects(policy["spec"]["podSelector"], labels):
            continue
        for rule in policy["spec"].get(direction.lower(), []):
            peers: set[str] = set()
            for peer in rule.get("from" if direction == "Ingress" else "to", []):
                if "namespaceSelector" in peer:
                    words = [selector["matchLabels"].values() for selector in peer.values()]
                    peers.add(" ".join(word for values in words for word in values))
                else:
                    peers |= selected(found, peer["podSelector"])
            ports = {(each["port"], each["protocol"]) for each in rule["ports"]}
            allowed |= {
                (peer, port if protocol == "TCP" else f"{port}/{protocol}")
                for peer in peers or {"anybody"}
                for port, protocol in ports
            }
    return allowed


def test_nothing_is_reached_that_no_policy_names(found: list[Object]) -> None:
    denied = the(found, "NetworkPolicy", "default-deny")["spec"]
    assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in of_kind(found, "NetworkPolicy"):
        kinds = {kind for kind in ("Ingress", "Egress") if kind.lower() in policy["spec"]}
        assert (
            policy is the(found, "NetworkPolicy", "default-deny")
            or set(policy["spec"]["policyTypes"]) == kinds
        )
        assert selected(found, policy["spec"]["podSelector"])
    names, pooler, database, valkey = (
        {("kube-system kube-dns", 53), ("kube-system kube-dns", "53/UDP")},
        {("fundapi-pooler", 5432)},
        {("fundapi-database", 5432)},
        {("fundapi-valkey", 6379)},
    )
    world = {("anybody", port) for port in (443, 465, 587)}
    kubernetes = {("anybody", 443), ("anybody", 6443)}
    own = ("fundapi-database", "fundapi-database-initdb")
    assert {name: reached(found, name, "Egress") for name, *_ in templates(found)} == {
        **{f"fundapi-{name}": names | pooler | valkey for name in ("web", "checks", "beat")},
        "fundapi-worker": names | pooler | valkey | world,
        "fundapi-migrate": names | database,
        "fundapi-valkey": names,
        "fundapi-pooler": names | database | kubernetes,
        **{name: names | database | {("fundapi-database", 8000)} | kubernetes for name in own},
    }
    everybody = {f"fundapi-{name}" for name in (*PROCESSES, "migrate")}
    to_database = {
        *((peer, port) for peer in (*own, "cnpg-system") for port in (5432, 8000)),
        *{("fundapi-pooler", 5432), ("fundapi-migrate", 5432), ("monitoring", 9187)},
    }
    assert {name: reached(found, name, "Ingress") for name, *_ in templates(found)} == {
        "fundapi-web": {("ingress", "http"), ("monitoring", "http")},
        "fundapi-worker": {("monitoring", "metrics")},
        "fundapi-checks": {("monitoring", "metrics")},
        "fundapi-beat": set(),
        "fundapi-migrate": set(),
        "fundapi-valkey": {(name, "valkey") for name in everybody},
        "fundapi-pooler": {(name, 5432) for name in everybody} | {("monitoring", 9127)},
        **dict.fromkeys(own, to_database),
    }


# --- Deployments and fail-overs ---------------------------------------------------------------------------------------


def test_there_is_one_beat_and_never_fewer_web_pods_than_before(found: list[Object]) -> None:
    beat, web = ours(found)["beat"]["spec"], ours(found)["web"]["spec"]
    assert (beat["replicas"], beat["strategy"]) == (1, {"type": "Recreate"})
    assert web["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    for name in ("worker", "checks"):
        assert ours(found)[name]["spec"]["strategy"] == web["strategy"]
        assert ours(found)[name]["spec"]["replicas"] >= 1
    migrate = ours(found)["migrate"]
    assert pod(migrate)["restartPolicy"] == "Never"
    # Kubernetes tries again after 10 s, 20 s, 40 s, ...: as long as the page says.
    assert sum(10 * 2**attempt for attempt in range(migrate["spec"]["backoffLimit"])) == 630


def test_the_first_step_of_a_deployment_leaves_the_processes_out_and_nothing_that_migrations_need(
    found: list[Object],
) -> None:
    """The selector of the page; and Argo CD's waves, which say the same."""
    [words] = re.findall(r"component notin \((.*?)\)", PAGE)
    later = {component(each) for each in ours(found).values()} - {"migrate"}
    assert set(words.split(", ")) == later
    for each in found:
        labels, notes = (each["metadata"].get(key, {}) for key in ("labels", "annotations"))
        wave = int(notes.get("argocd.argoproj.io/sync-wave", 0))
        first = labels.get("app.kubernetes.io/component") not in later
        if each["kind"] in {"Namespace", "ServiceAccount", "ConfigMap", "NetworkPolicy", "Cluster", "Pooler"}:
            assert first
            assert wave <= -2, name_of(each)
        if each["kind"] == "Deployment" and labels["app.kubernetes.io/name"] == "fundapi":
            assert not first
            assert wave == 0
    notes = ours(found)["migrate"]["metadata"]["annotations"]
    assert notes["argocd.argoproj.io/sync-wave"] == "-1"
    assert notes["argocd.argoproj.io/hook-delete-policy"] == "BeforeHookCreation"
    assert notes["kustomize.toolkit.fluxcd.io/force"] == "enabled"


def test_the_database_keeps_what_it_acknowledged_and_has_room_for_the_pooler(found: list[Object]) -> None:
    cluster, pooler = (the(found, kind, name)["spec"] for kind, name in DATABASE)
    assert cluster["postgresql"]["synchronous"] == {
        "method": "any",
        "number": 1,
        "dataDurability": "required",
        "failoverQuorum": True,
    }
    assert cluster["instances"] >= 3
    assert cluster["affinity"]["podAntiAffinityType"] == "required"
    assert pooler["cluster"]["name"] == "fundapi-database"
    assert pooler["pgbouncer"]["poolMode"] == "transaction"
    # With another name it would be one more container beside it.
    assert pooler["template"]["spec"]["containers"][0]["name"] == "pgbouncer"
    roles = {role["name"] for role in cluster["managed"]["roles"]}
    assert roles == set(container(ours(found)["migrate"])["args"][-1].split()[-2:])
    most = (
        (pooler["instances"] + 1) * len(roles) * int(pooler["pgbouncer"]["parameters"]["default_pool_size"])
    )
    assert most + 15 <= int(cluster["postgresql"]["parameters"]["max_connections"])
    options = SERVICES["postgres"]["command"][2::2]
    shared = {name: value for name, _, value in (option.partition("=") for option in options)}
    assert shared.items() <= cluster["postgresql"]["parameters"].items()
    made = SERVICES["postgres"]["environment"]["POSTGRES_INITDB_ARGS"]
    initdb = cluster["bootstrap"]["initdb"]
    names = ("encoding", "locale", "localeProvider", "builtinLocale")
    assert [option.partition("=")[2] for option in made.split()] == [initdb[name] for name in names]


def test_the_database_is_backed_up_to_its_store(found: list[Object]) -> None:
    [cluster], [backup], [store] = (
        of_kind(found, kind) for kind in ("Cluster", "ScheduledBackup", "ObjectStore")
    )
    [plugin] = cluster["spec"]["plugins"]
    assert plugin == {
        "name": "barman-cloud.cloudnative-pg.io",
        "isWALArchiver": True,
        "parameters": {"barmanObjectName": name_of(store)},
    }
    assert backup["spec"]["cluster"] == {"name": name_of(cluster)}
    assert backup["spec"]["pluginConfiguration"] == {"name": plugin["name"]}
    assert backup["spec"]["method"] == "plugin"
    assert len(backup["spec"]["schedule"].split()) == 6  # the first is the second


DATABASE = [("Cluster", "fundapi-database"), ("Pooler", "fundapi-pooler")]


# --- The page ---------------------------------------------------------------------------------------------------------


def kubectl_commands() -> list[str]:
    text = "".join(BLOCKS).replace("\\\n", " ")
    text = re.sub(r"^for each in (.*?); do (.*); done$", r"\2", text, flags=re.MULTILINE).replace(
        "$each", "web"
    )
    return [line.partition(" | ")[0] for line in text.splitlines() if line.startswith("kubectl ")]


def test_the_page_has_commands_that_kubectl_understands(production: list[Object], tmp_path: Path) -> None:
    """They all fail, because no server is there, and none by a word that kubectl does not know."""
    away = tmp_path / "config"
    away.write_text(
        "{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: x}}],"
        " clusters: [{name: x, cluster: {server: 'http://127.0.0.1:9'}}]}"
    )
    commands = [line for line in kubectl_commands() if " create secret " not in line]
    assert len(commands) > 15
    for line in commands:
        run = subprocess.run(
            ["sh", "-c", f"exec {line}"],
            cwd=PROJECT,
            env=os.environ | {"KUBECONFIG": str(away)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        understood = run.returncode == 0 or "127.0.0.1:9" in run.stderr
        assert understood, f"{line}\n{run.stderr}"


def test_what_the_page_names_exists(production: list[Object]) -> None:
    [namespace] = of_kind(production, "Namespace")
    assert set(re.findall(r"kubectl -n (\S+)", PAGE)) == {name_of(namespace)}
    for kind, name in re.findall(r"\b(deployment|job)/([a-z-]+\w)", "\n".join(kubectl_commands())):
        assert the(production, kind.title(), name)
    for kind, name in re.findall(r"^\| (Deployment|Job) `(.*?)`", PAGE, re.MULTILINE):
        assert the(production, kind, name)
    components = set(re.findall(r"^\| component `(.*?)`", PAGE, re.MULTILINE))
    assert components == {path.name for path in (KUBERNETES / "components").iterdir()}
    for path in re.findall(r"deploy/kubernetes/[\w/.-]+\w", PAGE):
        assert (PROJECT / path).exists(), path


def changed(directory: Path, more: dict[str, list[Any]]) -> list[Object]:
    """Return the objects of `production` with more in its lists."""
    shutil.copytree(KUBERNETES, directory / "kubernetes")
    overlay = directory / "kubernetes" / "overlays" / "production" / "kustomization.yaml"
    written = yaml.safe_load(overlay.read_text())
    for name, entries in more.items():
        written[name] += entries
    overlay.write_text(yaml.safe_dump(written))
    return objects("production", directory / "kubernetes")


def test_every_process_can_reach_a_collector_of_traces(production: list[Object], tmp_path: Path) -> None:
    found = changed(tmp_path, {"components": ["../../components/opentelemetry"]})
    for name in ours(found):
        more = variables(found, name).items() - variables(production, name).items()
        assert more == {("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.monitoring:4318")}
        ways = (reached(each, f"fundapi-{name}", "Egress") for each in (found, production))
        assert set.difference(*ways) == {("monitoring", 4318)}
    [policy] = [each for each in found if name_of(each) == "fundapi-to-collector"]
    kubernetes_validate.validate(policy, NEWEST, strict=True)


def test_the_patch_of_a_restore_makes_a_cluster_from_a_backup(
    production: list[Object], tmp_path: Path
) -> None:
    """The new one archives under another name, and is the old one in all else."""
    [patches] = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "recovery" in block]
    restored, before = (
        copy.deepcopy(the(found, "Cluster", "fundapi-database"))
        for found in (changed(tmp_path, yaml.safe_load(patches)), production)
    )
    assert wrong_fields(restored) == []
    made = restored["spec"].pop("bootstrap")["recovery"]
    [source] = restored["spec"].pop("externalClusters")
    assert made["source"] == source["name"]
    assert made["database"] == made["owner"] == before["spec"].pop("bootstrap")["initdb"]["database"]
    [plugin], [archive] = restored["spec"]["plugins"], before["spec"]["plugins"]
    assert source["plugin"]["parameters"] == archive["parameters"] | {"serverName": name_of(before)}
    assert plugin["parameters"].pop("serverName") != name_of(before)
    assert restored == before
