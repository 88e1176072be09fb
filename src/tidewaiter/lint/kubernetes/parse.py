"""Manifests: the objects in a file, and the pods that they make, wherever a kind keeps its pod template."""

from collections.abc import Iterator
from functools import cached_property

from tidewaiter.lint import tree
from tidewaiter.lint.finding import Span
from tidewaiter.lint.image import Image
from tidewaiter.lint.text import Text
from tidewaiter.lint.tree import Map, Scalar, Tree

_TEMPLATES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "Notebook"),
        ("spec", "template"),
    ),
    "PodTemplate": ("template",),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Where these kinds keep their pod template."""
_REPLICATED = {
    "JobSet": ("spec", "replicatedJobs"),
    "TrainingRuntime": ("spec", "template", "spec", "replicatedJobs"),
    "ClusterTrainingRuntime": ("spec", "template", "spec", "replicatedJobs"),
}
"""Where these kinds keep their jobs, each with a template of its own."""
_REPLICAS = ("tfReplicaSpecs", "pytorchReplicaSpecs", "mpiReplicaSpecs", "xgbReplicaSpecs", "paddleReplicaSpecs")
_PREDICTING = ("predictor", "transformer", "explainer")
_RUNTIME = "runtime"
_FRAMEWORKS = ("model", "tensorflow", "pytorch", "sklearn", "xgboost", "lightgbm", "triton", "onnx", "huggingface")
_OF_THE_CLUSTER = frozenset(
    {"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master", "CriticalAddonsOnly"}
)
"""Taints that only parts of the cluster tolerate."""
SELECTING = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"})
"""Kinds of `apps/v1` that must have a selector."""


class Container:
    """One container of a pod."""

    def __init__(self, pod: "Pod", body: Map, *, init: bool) -> None:
        self.pod = pod
        self.body = body
        self.init = init
        self.name = body.string("name")
        self.image = Image(body.string("image"))

    @property
    def span(self) -> Span:
        """What a reader knows it by: its name, or its first entry."""
        return self.body.span_of("name") if self.name else self.body.opening

    @cached_property
    def words(self) -> list[str]:
        """Its command and arguments."""
        found = [*self.body.list("command"), *self.body.list("args")]
        return [one.raw for one in found if isinstance(one, Scalar)]

    @cached_property
    def env(self) -> dict[str, Map]:
        return {one.string("name"): one for one in self.body.maps("env")}

    @property
    def model_server(self) -> bool:
        """Whether it is TensorFlow Serving."""
        return not self.init and (self.image.serving or any("tensorflow_model_server" in word for word in self.words))

    @property
    def model_name(self) -> str:
        """The model that the server is told to serve; `MODEL` when the manifest does not say."""
        for word in " ".join(self.words).split():
            if word.startswith("--model_name="):
                return word.partition("=")[2].strip("\"'")
        named = self.env.get("MODEL_NAME")
        return (named.string("value") if named else "") or ("MODEL" if self.words else "model")

    @property
    def resources(self) -> Map:
        return self.body.map("resourcesPerNode" if self.pod.role == "trainer" else "resources")

    @property
    def gpus(self) -> Scalar | None:
        """How many of NVIDIA's GPUs its limits ask for."""
        return self.resources.scalar("limits", "nvidia.com/gpu")

    def secured(self, *keys: str, pod: bool = True) -> object:
        """What its security context says, else (for what a pod may say, too) the pod's; None when neither does."""
        own = self.body.map("securityContext").value(*keys)
        return self.pod.spec.map("securityContext").value(*keys) if own is None and pod else own

    @property
    def ports(self) -> list[Map]:
        return self.body.maps("ports")


class Pod:
    """A pod, or what pods are made from."""

    def __init__(self, resource: "Resource", spec: Map, metadata: Map, role: str = "") -> None:
        self.resource = resource
        self.spec = spec
        self.metadata = metadata
        self.role = role
        """Which replicas of a training job it is for, as in `Worker`; empty elsewhere."""
        models = [spec.map(one) for one in _FRAMEWORKS] if role in _PREDICTING else []
        models += [spec] if role == "trainer" else []
        self.containers = [
            *(Container(self, one, init=False) for one in spec.maps("containers")),
            *(Container(self, one, init=False) for one in models if one.entries),
        ]
        self.prepared_by = [Container(self, one, init=True) for one in spec.maps("initContainers")]

    @cached_property
    def labels(self) -> dict[str, str]:
        return self.metadata.map("labels").strings()

    @property
    def span(self) -> Span:
        return self.spec.opening

    @property
    def whole(self) -> bool:
        """Whether it says all: a patch names only what it changes, and what is missing there proves nothing."""
        resource = self.resource
        named = bool(self.containers) and all(one.name and one.image.text for one in self.containers)
        return (
            named
            and "$patch" not in self.spec.entries
            and (resource.kind not in SELECTING or resource.body.get("spec", "selector") is not None)
        )

    @property
    def of_the_cluster(self) -> bool:
        """Whether it is a part of the cluster itself: an agent of every node, or what runs beside the control plane."""
        if self.resource.kind == "DaemonSet" or self.resource.namespace == "kube-system":
            return True
        keys = {one.string("key") for one in self.spec.maps("tolerations")}
        return bool(keys & _OF_THE_CLUSTER)

    @property
    def serves(self) -> bool:
        """Whether it is to run until it is told to stop."""
        return self.resource.kind in {*SELECTING, "ReplicationController", "InferenceService", "Service"}


class Resource:
    """One object."""

    def __init__(self, body: Map) -> None:
        self.body = body
        self.kind = body.string("kind")
        self.api = body.string("apiVersion")
        self.name = body.string("metadata", "name")
        self.namespace = body.string("metadata", "namespace")
        self.pods = tuple(self._pods())

    @property
    def group(self) -> str:
        """Of its API; empty for the core."""
        return self.api.rpartition("/")[0]

    def _pods(self) -> Iterator[Pod]:
        body = self.body
        if self.kind == "Pod":
            yield Pod(self, body.map("spec"), body.map("metadata"))
            return
        if self.kind in {"ServingRuntime", "ClusterServingRuntime"}:
            # Services fill in what it leaves out, the model's volume and their own resources among it.
            yield Pod(self, body.map("spec"), body.map("spec"), _RUNTIME)
            return
        if self.kind == "TrainJob" and (trainer := body.map("spec", "trainer")).entries:
            yield Pod(self, trainer, body.map("metadata"), "trainer")
            return
        if self.kind == "InferenceService":
            for one in _PREDICTING:
                if (spec := body.map("spec", one)).entries:
                    yield Pod(self, spec, body.map("metadata"), one)
            return
        for role, template in self._templates():
            if template.get("spec") is not None:
                yield Pod(self, template.map("spec"), template.map("metadata"), role)

    def _templates(self) -> Iterator[tuple[str, Map]]:
        """Roles and pod templates, wherever the kind keeps them."""
        body, volcano = self.body, self.group.startswith("batch.volcano")
        served = self.kind == "Service" and self.group.startswith("serving.knative")
        if served or (self.kind in _TEMPLATES and not volcano):
            yield "", body.map(*_TEMPLATES.get(self.kind, ("spec", "template")))
        elif self.kind in _REPLICATED or volcano:
            *path, jobs = ("spec", "tasks") if volcano else _REPLICATED[self.kind]
            for job in body.map(*path).maps(jobs):
                yield job.string("name"), job.map("template") if volcano else job.map("template", "spec", "template")
        elif self.kind == "LeaderWorkerSet":
            for role in ("leader", "worker"):
                yield role, body.map("spec", "leaderWorkerTemplate", f"{role}Template")
        elif self.kind.startswith("Ray"):
            yield from self._ray()
        else:
            for replicas in _REPLICAS:
                for role, (_, replica) in body.map("spec", replicas).entries.items():
                    if isinstance(replica, Map):
                        yield role, replica.map("template")

    def _ray(self) -> Iterator[tuple[str, Map]]:
        spec = self.body.map("spec")
        for cluster in (spec, spec.map("rayClusterSpec"), spec.map("rayClusterConfig")):
            yield "head", cluster.map("headGroupSpec", "template")
            for group in cluster.maps("workerGroupSpecs"):
                yield "worker", group.map("template")


class Manifest:
    """The objects of a file."""

    def __init__(self, read: Tree) -> None:
        self.tree = read
        self.resources = tuple(_resources(read))

    @property
    def text(self) -> Text:
        return self.tree.text

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        return tuple(pod for one in self.resources for pod in one.pods)

    @cached_property
    def containers(self) -> tuple[Container, ...]:
        """Those that run, of every pod."""
        return tuple(one for pod in self.pods for one in pod.containers)

    @cached_property
    def whole(self) -> tuple[Container, ...]:
        """Those that run, of every pod that is written whole, and name an image."""
        return tuple(one for one in self.containers if one.pod.whole)

    @cached_property
    def all_containers(self) -> tuple[Container, ...]:
        """Those that run and those that prepare."""
        return tuple(one for pod in self.pods for one in (*pod.prepared_by, *pod.containers))

    @cached_property
    def services(self) -> tuple[Resource, ...]:
        """The services of the core API."""
        return tuple(one for one in self.resources if one.kind == "Service" and not one.group)


def _resources(read: Tree) -> Iterator[Resource]:
    waiting = list(reversed(read.documents))
    while waiting:
        one = waiting.pop()
        if not isinstance(one, Map) or not one.string("apiVersion") or not one.string("kind"):
            continue
        if one.string("kind").endswith("List") and isinstance(one.get("items"), tree.Sequence):
            waiting += reversed(one.list("items"))
        else:
            yield Resource(one)


def parse(text: Text) -> Manifest:
    """The objects of a manifest, of several documents, or of a list.

    Raises:
        InputError: it is no YAML, or over a bound.
    """
    return Manifest(tree.read(text))
