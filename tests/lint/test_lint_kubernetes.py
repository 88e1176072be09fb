"""Pods wherever a kind keeps them, what the field gets wrong about them, and edits that mend it."""

import json

import pytest

from tidewaiter.core.project import LintSection
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Source, kind_of
from tidewaiter.lint.finding import Finding
from tidewaiter.lint.kubernetes.parse import parse
from tidewaiter.lint.text import Text, edited


def found(content: str) -> dict[str, Finding]:
    return {one.rule.partition("/")[2]: one for one in check(Source("x.yaml", "kubernetes", content), LintSection())}


def mended(content: str, *rules: str) -> str:
    findings = check(Source("x.yaml", "kubernetes", content), LintSection())
    wanted = [edit for one in findings if one.rule.partition("/")[2] in rules for edit in one.edits]
    return edited(Text("x.yaml", content), wanted)[0]


POD = "containers: [{name: c, image: a/b:1}]"
TEMPLATE = f"template: {{spec: {{{POD}}}}}"


@pytest.mark.parametrize(
    ("kind", "api", "spec"),
    [
        ("Pod", "v1", POD),
        *((kind, "apps/v1", TEMPLATE) for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")),
        ("Job", "batch/v1", TEMPLATE),
        ("CronJob", "batch/v1", f"jobTemplate: {{spec: {{{TEMPLATE}}}}}"),
        ("TFJob", "kubeflow.org/v1", f"tfReplicaSpecs: {{Worker: {{{TEMPLATE}}}}}"),
        ("PyTorchJob", "kubeflow.org/v1", f"pytorchReplicaSpecs: {{Master: {{{TEMPLATE}}}}}"),
        ("MPIJob", "kubeflow.org/v2beta1", f"mpiReplicaSpecs: {{Launcher: {{{TEMPLATE}}}}}"),
        ("Service", "serving.knative.dev/v1", TEMPLATE),
        ("InferenceService", "serving.kserve.io/v1beta1", f"predictor: {{{POD}}}"),
        ("RayCluster", "ray.io/v1", f"headGroupSpec: {{{TEMPLATE}}}"),
        ("RayJob", "ray.io/v1", f"rayClusterSpec: {{workerGroupSpecs: [{{{TEMPLATE}}}]}}"),
    ],
)
def test_pods_are_found_in_every_kind(kind: str, api: str, spec: str) -> None:
    """Also in a List, and in JSON."""
    one = f"{{apiVersion: {api}, kind: {kind}, spec: {{{spec}}}}}"
    for content in (one, f"{{apiVersion: v1, kind: List, items: [{one}]}}"):
        assert [c.name for c in parse(Text("x.yaml", content)).containers] == ["c"]


def test_only_objects_are_looked_at() -> None:
    """Values, lists and documents without a kind say nothing."""
    for content in ("", "---\n---\n", "- a\n", "a: 1\n", "apiVersion: v1\nkind: [Pod]\n", "kind: Pod\nspec: 3\n"):
        assert found(content) == {}


SERVER = """apiVersion: apps/v1
kind: Deployment
metadata:
  name: resnet
spec:
  selector: {matchLabels: {app: resnet}}
  template:
    metadata:
      labels: {app: resnet}
    spec:
      containers:
        - name: serving  # the model server
          image: tensorflow/serving:2.15.0
"""


def test_a_probe_that_greps_is_caught_and_mended() -> None:
    """Exec is no shell, nothing there has `ps`; liveness becomes a connection, readiness asks for the model."""
    words = 'exec:\n              command: ["ps", "aux", "|", "grep", "model_server"]\n'
    content = f"{SERVER}          livenessProbe:\n            {words}          readinessProbe:\n            {words}"
    assert {"probe-without-shell", "probe-of-processes", "serving-pre-stop"} <= set(found(content))
    new = mended(content, "probe-without-shell")
    assert "livenessProbe:\n            tcpSocket: {port: 8500}\n" in new
    assert "readinessProbe:\n            httpGet: {path: /v1/models/model/metadata, port: 8501}\n" in new
    assert not {"probe-without-shell", "probe-of-processes", "serving-readiness", "syntax"} & set(found(new))


@pytest.mark.parametrize(
    ("probe", "rules"),
    [
        ("readinessProbe: {httpGet: {path: /v1/models/model, port: 8501}}", set()),
        ("readinessProbe: {tcpSocket: {port: 8500}}", {"serving-readiness"}),
        ("readinessProbe: {httpGet: {path: /, port: 8501}}", {"serving-readiness"}),
        ("livenessProbe: {httpGet: {path: /v1/models/model, port: 8501}}", {"serving-liveness", "serving-readiness"}),
        (
            "livenessProbe: {grpc: {port: 8500, service: PredictionService}}",
            {"serving-grpc-probe", "serving-readiness"},
        ),
        ("readinessProbe: {httpGet: {path: /v1/models/model, port: 8500}}", {"serving-ports"}),
    ],
)
def test_probes_of_a_model_server(probe: str, rules: set[str]) -> None:
    """Readiness asks for the model, liveness whether it answers, gRPC what is switched on."""
    mine = {"serving-readiness", "serving-liveness", "serving-grpc-probe", "serving-ports"}
    assert set(found(f"{SERVER}          {probe}\n")) & mine == rules


def gpu(resources: str, tolerations: str = "") -> str:
    head = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n"
    body = f"  containers:\n    - name: c\n      image: a/b:1\n      resources:\n{resources}"
    return head + (f"  tolerations: [{tolerations}]\n" if tolerations else "") + body


LIMIT = "        limits: {nvidia.com/gpu: 2}\n"
TAINT = "{key: nvidia.com/gpu, operator: Exists}"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (gpu("        limits: {cpu: 1}\n", TAINT), "gpu-toleration-only"),
        (gpu("        limits: {nvidia.com/gpu: 1}\n"), "gpu-without-toleration"),
        (gpu("        requests: {nvidia.com/gpu: 1}\n", TAINT), "gpu-request-only"),
        (gpu("        limits: {nvidia.com/gpu: 0.5}\n", TAINT), "gpu-fraction"),
        (gpu("        limits: {nvidia.com/gpu: 500m}\n", TAINT), "gpu-fraction"),
        (
            gpu("        limits: {nvidia.com/gpu: 2}\n        requests: {nvidia.com/gpu: 1}\n", TAINT),
            "gpu-request-differs",
        ),
    ],
)
def test_gpus_are_taken_by_limits(content: str, rule: str) -> None:
    """Toleration without limit, limit without toleration, requests alone, parts of a GPU, two numbers."""
    rules = {name for name in found(content) if name.startswith("gpu-")}
    assert rules == {rule}
    assert not {name for name in found(gpu(LIMIT, TAINT)) if name.startswith("gpu-")}


def test_a_gpu_that_is_only_requested_gets_its_limit() -> None:
    """Comments stay where they are, and the rule is content."""
    content = gpu("        # for training\n        requests:\n          nvidia.com/gpu: 1  # one is enough\n", TAINT)
    new = mended(content, "gpu-request-only")
    assert new.count("#") == 2
    assert parse(Text("x", new)).containers[0].gpus is not None
    assert not {name for name in found(new) if name.startswith("gpu-")}


def test_privilege_escalation_is_switched_off_once() -> None:
    """The edit makes a security context or adds to it; sudo keeps it away; a second time changes nothing."""
    new = mended(SERVER, "privilege-escalation")
    assert "name: serving  # the model server\n          securityContext:\n            allowPrivilege" in new
    assert mended(new, "privilege-escalation") == new
    inside = SERVER + "          securityContext:\n            runAsUser: 65532\n"
    assert "runAsUser: 65532\n            allowPrivilegeEscalation: false\n" in mended(inside, "privilege-escalation")
    sudo = SERVER + "          command: [sudo, serve]\n"
    assert mended(sudo, "privilege-escalation") == sudo


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ("          args: [--model_base_path=/exports/models/v1]\n", "model-path"),
        ("          args: [--model_base_path=/models/resnet/1]\n", "model-path"),
        ("          args: [--use_xla]\n", "serving-flags"),
        ("          args: [--batch_timeout_micros=1000]\n", "serving-flags"),
        ("          ports: [{name: grpc, containerPort: 8501}]\n", "serving-ports"),
    ],
)
def test_what_articles_tell_model_servers(more: str, rule: str) -> None:
    """Paths without numeric folders, flags that do not exist, ports mixed up."""
    assert rule in found(SERVER + more)
    assert rule not in found(SERVER)


def test_metrics_need_a_file() -> None:
    """Annotations alone scrape nothing from TensorFlow Serving."""
    content = SERVER.replace("labels:", 'annotations: {prometheus.io/scrape: "true"}\n      labels:')
    findings = check(Source("x.yaml", "kubernetes", content), LintSection())
    remedies = [one.remedy for one in findings if one.rule == "kubernetes/serving-metrics"]
    assert len(remedies) == 2
    assert "--monitoring_config_file" in remedies[0] + remedies[1]
    assert "prometheus.io/path: /monitoring/prometheus/metrics" in remedies[0] + remedies[1]


def config(addresses: list[str], task: str = "worker", index: object = 0, **more: list[str]) -> str:
    value = json.dumps({"cluster": {"worker": addresses, **more}, "task": {"type": task, "index": index}})
    head = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n    - name: c\n      image: a/b:1\n"
    return f"{head}      env:\n        - name: TF_CONFIG\n          value: '{value}'\n"


TWO = ["worker-0.worker:2222", "worker-1.worker:2222"]
SERVICE = "---\napiVersion: v1\nkind: Service\nmetadata: {name: worker}\nspec:\n  selector: {app: w}\n"
HEADLESS = SERVICE + "  clusterIP: None\n"
SET = (
    "---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: worker}\n"
    "spec: {serviceName: worker, replicas: 1, selector: {matchLabels: {app: w}}, "
    "template: {metadata: {labels: {app: w}}, spec: {}}}\n"
)


@pytest.mark.parametrize(
    ("content", "rules"),
    [
        (config(TWO), set()),
        (config(TWO) + HEADLESS, set()),
        (config(TWO) + SERVICE, {"tf-config-name"}),
        (config(TWO) + HEADLESS + SET, {"tf-config-name"}),
        (config(["a-0.other:1", "a-1.other:1"]) + HEADLESS, {"tf-config-name"}),
        (config(["w0.example.com:1", "10.0.0.2:1"]) + HEADLESS, set()),
        (config(TWO, index=2), {"tf-config-task"}),
        (config(TWO, index="x"), {"tf-config-task"}),
        (config(TWO, task="ps"), {"tf-config-task"}),
        (config(TWO, task="evaluator"), set()),
        (config(TWO, chief=["c:1"], master=["d:1"]), {"tf-config-task"}),
        (config(TWO, chief=TWO[:1]), {"tf-config-address"}),
        (config(["worker-0.worker"]), {"tf-config-address"}),
        (config(["a:1", "a:70000"]), {"tf-config-address"}),
        (config(["localhost:1", "localhost:2"]), {"tf-config-address"}),
        (config(["localhost:1"]), set()),
        (config(TWO) + "---\n" + config(TWO, index=0), {"tf-config-duplicate"}),
        (config(TWO) + "---\n" + config(TWO, index=1) + HEADLESS, set()),
        (config(TWO).replace('"cluster"', "cluster"), {"tf-config-json"}),
        (config(TWO).replace('"index": 0', '"index": $(INDEX)'), set()),
    ],
)
def test_mistakes_in_tf_config(content: str, rules: set[str]) -> None:
    """Indexes, types, addresses and names are compared with the cluster and with the Services of the file."""
    names = {name for name in found(content) if name.startswith("tf-config")}
    if "tf-config-duplicate" in rules:
        names.discard("tf-config-name")
    assert names == rules


def test_a_patch_is_not_asked_for_what_it_leaves_alone() -> None:
    """Without a selector or an image it is what kustomize lays over something else."""
    patch = SERVER.replace("  selector: {matchLabels: {app: resnet}}\n", "")
    assert set(found(patch)) == {"image-without-digest"}
    assert found(SERVER.replace("          image: tensorflow/serving:2.15.0\n", "")) == {}


def test_json_is_looked_at_where_it_is_named() -> None:
    """Not below folders, where most JSON is data."""
    assert kind_of("pod.json", '{"apiVersion": "v1", "kind": "Pod"}') == "kubernetes"
    assert kind_of("package.json", '{"kind": "x"}') is None


@pytest.mark.parametrize(
    "content",
    [
        "apiVersion: v1\nkind: Pod\nspec: {containers: [null, 3, [], {}], volumes: x, tolerations: 3}\n",
        "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n    - {name: [], image: {}, env: [1], ports: a}\n",
        "apiVersion: v1\nkind: Service\nspec: {selector: [], ports: [{port: {}}, 1]}\n",
        "apiVersion: apps/v1\nkind: Deployment\nspec: {selector: 3, template: {metadata: 1, spec: {}}}\n",
        "apiVersion: kubeflow.org/v1\nkind: TFJob\nspec: {tfReplicaSpecs: {Worker: 3}}\n",
        config(["a", "b"]).replace('["a", "b"]', "3"),
        config([]).replace("[]", "[1, {}]"),
    ],
)
def test_shapes_that_no_manifest_has_are_survived(content: str) -> None:
    """What stands where something else belongs is passed over."""
    assert "syntax" not in found(content)
