"""Pods are found wherever operators of AI workloads keep them; known taints decide about tolerations."""

import pytest

from tidewaiter.core.project import LintSection
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Source

POD = "containers: [{name: c, image: 'r.example/a:latest'}]"


@pytest.mark.parametrize(
    ("api", "kind", "spec"),
    [
        ("serving.kserve.io/v1alpha1", "ServingRuntime", POD),
        ("serving.kserve.io/v1alpha1", "ClusterServingRuntime", POD),
        ("serving.kserve.io/v1beta1", "InferenceService", f"predictor: {{{POD}}}"),
        ("kubeflow.org/v1", "TFJob", f"tfReplicaSpecs: {{Worker: {{template: {{spec: {{{POD}}}}}}}}}"),
        ("kubeflow.org/v1", "PyTorchJob", f"pytorchReplicaSpecs: {{Master: {{template: {{spec: {{{POD}}}}}}}}}"),
        ("kubeflow.org/v2beta1", "MPIJob", f"mpiReplicaSpecs: {{Launcher: {{template: {{spec: {{{POD}}}}}}}}}"),
        ("kubeflow.org/v1", "Notebook", f"template: {{spec: {{{POD}}}}}"),
        ("trainer.kubeflow.org/v1alpha1", "TrainJob", "trainer: {image: 'r.example/a:latest', numNodes: 2}"),
        (
            "trainer.kubeflow.org/v1alpha1",
            "ClusterTrainingRuntime",
            "template: {spec: {replicatedJobs: [{name: n, template: {spec: {template: {spec: {" + POD + "}}}}}]}}",
        ),
        (
            "jobset.x-k8s.io/v1alpha2",
            "JobSet",
            "replicatedJobs: [{name: n, template: {spec: {template: {spec: {" + POD + "}}}}}]",
        ),
        (
            "leaderworkerset.x-k8s.io/v1",
            "LeaderWorkerSet",
            f"leaderWorkerTemplate: {{workerTemplate: {{spec: {{{POD}}}}}}}",
        ),
        ("batch.volcano.sh/v1alpha1", "Job", f"tasks: [{{name: w, template: {{spec: {{{POD}}}}}}}]"),
        ("batch/v1", "CronJob", f"jobTemplate: {{spec: {{template: {{spec: {{{POD}}}}}}}}}"),
    ],
)
def test_the_pods_of_a_kind_are_looked_at(api: str, kind: str, spec: str) -> None:
    """The tag of the image in it moves, and that is found."""
    text = f"apiVersion: {api}\nkind: {kind}\nmetadata: {{name: n}}\nspec: {{{spec}}}\n"
    assert "kubernetes/moving-tag" in {one.rule for one in check(Source("a.yaml", "kubernetes", text), LintSection())}


def test_gpus_of_a_train_job_are_those_of_each_node() -> None:
    """`resourcesPerNode` is read as resources of a container."""
    text = (
        "apiVersion: trainer.kubeflow.org/v1alpha1\nkind: TrainJob\nmetadata: {name: n}\n"
        "spec: {trainer: {image: 'r.example/a:1', resourcesPerNode: {limits: {nvidia.com/gpu: 0.5}}}}\n"
    )
    found = {one.rule for one in check(Source("a.yaml", "kubernetes", text), LintSection())}
    assert "kubernetes/gpu-fraction" in found


@pytest.mark.parametrize(
    ("taints", "tolerations", "said"),
    [
        (None, "[]", "stays Pending where GPU nodes have it"),
        (("team/gpu",), "[{key: nvidia.com/gpu, operator: Exists}]", "have the taint team/gpu"),
        (("team/gpu",), "[{key: team/gpu, operator: Exists}]", ""),
        (("team/gpu",), "[{operator: Exists}]", ""),
        ((), "[]", ""),
    ],
)
def test_known_taints_decide(taints: tuple[str, ...] | None, tolerations: str, said: str) -> None:
    """Without them it is a warning about what may be; with them it says which taint is not tolerated, or nothing."""
    text = (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  tolerations: {tolerations}\n"
        "  containers: [{name: c, image: 'r.example/a:1', resources: {limits: {nvidia.com/gpu: 1}}}]\n"
    )
    found = [
        one.message
        for one in check(Source("a.yaml", "kubernetes", text), LintSection(taints=taints))
        if one.rule == "kubernetes/gpu-without-toleration"
    ]
    assert (said in found[0]) if said else not found
