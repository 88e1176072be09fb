"""Objects as the API server reads them."""

import re
from collections.abc import Iterator

from tidewaiter.lint.finding import Found
from tidewaiter.lint.kubernetes.parse import SELECTING, Manifest
from tidewaiter.lint.mending import replaced
from tidewaiter.lint.purpose import for_tests
from tidewaiter.lint.rule import rule
from tidewaiter.lint.secrets import secret
from tidewaiter.lint.tree import Scalar

_REMOVED: dict[tuple[str, str], tuple[str, str]] = {
    **{
        (f"apps/v1beta{number}", kind): ("1.16", "apps/v1")
        for number in (1, 2)
        for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
    },
    **{("extensions/v1beta1", kind): ("1.16", "apps/v1") for kind in ("Deployment", "DaemonSet", "ReplicaSet")},
    ("extensions/v1beta1", "NetworkPolicy"): ("1.16", "networking.k8s.io/v1"),
    ("extensions/v1beta1", "PodSecurityPolicy"): ("1.16", ""),
    ("policy/v1beta1", "PodSecurityPolicy"): ("1.25", ""),
    ("extensions/v1beta1", "Ingress"): ("1.22", "networking.k8s.io/v1"),
    ("networking.k8s.io/v1beta1", "Ingress"): ("1.22", "networking.k8s.io/v1"),
    ("networking.k8s.io/v1beta1", "IngressClass"): ("1.22", "networking.k8s.io/v1"),
    ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition"): ("1.22", "apiextensions.k8s.io/v1"),
    ("scheduling.k8s.io/v1beta1", "PriorityClass"): ("1.22", "scheduling.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", "StorageClass"): ("1.22", "storage.k8s.io/v1"),
    **{
        (f"rbac.authorization.k8s.io/{version}", kind): ("1.22", "rbac.authorization.k8s.io/v1")
        for version in ("v1beta1", "v1alpha1")
        for kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    },
    **{
        ("admissionregistration.k8s.io/v1beta1", kind): ("1.22", "admissionregistration.k8s.io/v1")
        for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
    },
    ("batch/v1beta1", "CronJob"): ("1.25", "batch/v1"),
    ("policy/v1beta1", "PodDisruptionBudget"): ("1.25", "policy/v1"),
    ("autoscaling/v2beta1", "HorizontalPodAutoscaler"): ("1.25", "autoscaling/v2"),
    ("autoscaling/v2beta2", "HorizontalPodAutoscaler"): ("1.26", "autoscaling/v2"),
    **{
        (f"flowcontrol.apiserver.k8s.io/v1beta{number}", kind): (since, "flowcontrol.apiserver.k8s.io/v1")
        for number, since in ((1, "1.26"), (2, "1.29"), (3, "1.32"))
        for kind in ("FlowSchema", "PriorityLevelConfiguration")
    },
}
"""API version and kind, by the release that no longer serves them and where they are since; from Kubernetes'
"Deprecated API Migration Guide"."""
_SAME = frozenset({"PodDisruptionBudget", "PriorityClass", "StorageClass", "Role", "ClusterRole"})
"""Kinds whose newer version reads the same fields, so that the version alone can be written anew."""
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?")


@rule("kubernetes/duplicate-key", "error")
def duplicate_key(manifest: Manifest) -> Iterator[Found]:
    """A key is written twice in one map.

    YAML forbids it. Parsers that do not complain take the last one, others the first: half of what was written is
    dropped in silence, and reviewers see a file that is not what runs.
    """
    for one in manifest.tree.maps:
        for key in one.repeated:
            first = one.entries[key.raw][0]
            yield Found(
                span=key.span,
                message=f"{key.raw} stands in line {first.span.line} already; only one of them counts.",
                remedy="Write both values under one key, or delete one.",
            )


@rule("kubernetes/removed-api", "error", mends=True)
def removed_api(manifest: Manifest) -> Iterator[Found]:
    """The API version is no longer served.

    The API server answers `no matches for kind`: the object cannot be applied to any cluster that still gets security
    updates.
    """
    for one in manifest.resources:
        found = _REMOVED.get((one.api, one.kind))
        named = one.body.scalar("apiVersion")
        if found is None or named is None:
            continue
        since, instead = found
        yield Found(
            span=one.body.span_of("apiVersion"),
            message=f"Kubernetes {since} and later do not know {one.kind} of {one.api}.",
            remedy=f"Write `apiVersion: {instead}`, and compare its fields."
            if instead
            else "Use Pod Security Standards: label the namespace with `pod-security.kubernetes.io/enforce`.",
            edits=replaced(named, instead) if instead and one.kind in _SAME else (),
            left="its fields are others in the new version" if instead else "there is nothing like it any more",
        )


@rule("kubernetes/selector-mismatch", "error")
def selector_mismatch(manifest: Manifest) -> Iterator[Found]:
    """A workload does not select the pods that it makes.

    The API server refuses it: `selector does not match template labels`.
    """
    for one in manifest.resources:
        if one.kind not in SELECTING or not one.pods or "v1" not in one.api.split("/"):
            continue
        wanted = one.body.map("spec", "selector", "matchLabels")
        labels = one.pods[0].labels
        for key, value in wanted.strings().items():
            if labels.get(key) != value and wanted.entries[key][1].start and labels:
                has = f"has {key}: {labels[key]}" if key in labels else f"has no label {key}"
                yield Found(
                    span=wanted.span_of(key),
                    message=f"The pod template {has}, and the selector wants {key}: {value}.",
                    remedy=f"Write `{key}: {value}` under `template.metadata.labels`.",
                )


@rule("kubernetes/env-not-string", "error", mends=True)
def env_not_string(manifest: Manifest) -> Iterator[Found]:
    """An environment variable's value is no string.

    YAML reads `true`, `yes`, `on` and numbers as what they look like. The API server refuses the whole object:
    `cannot unmarshal bool into Go struct field EnvVar.value of type string`.
    """
    for container in manifest.all_containers:
        for name, one in container.env.items():
            value = one.get("value")
            if not isinstance(value, Scalar) or isinstance(value.value, str | None) or value.filled_later:
                continue
            yield Found(
                span=value.span,
                message=f"{name} is {value.raw}, which YAML reads as "
                f"{'a truth value' if isinstance(value.value, bool) else 'a number'}.",
                remedy=f'Write `value: "{value.raw}"`.',
                edits=replaced(value, f'"{value.raw}"') if "\n" not in value.raw else (),
            )


@rule("kubernetes/secret-in-env", "error")
def secret_in_env(manifest: Manifest) -> Iterator[Found]:
    """A password or key stands in the manifest.

    It is in the repository's history for good, and everyone who may read pods reads it, in `kubectl describe` too.
    """
    for container in () if for_tests(manifest.text.path) else manifest.all_containers:
        for name, one in container.env.items():
            value = one.scalar("value")
            if value is not None and isinstance(value.value, str) and secret(name, value.raw):
                yield Found(
                    span=one.span_of("value"),
                    message=f"The value of {name} can be read by everyone who sees this file.",
                    remedy="Change it where it is used, keep it in a Secret, and write "
                    f"`valueFrom: {{secretKeyRef: {{name: NAME, key: {name}}}}}`.",
                )


@rule("kubernetes/mount-without-volume", "error")
def mount_without_volume(manifest: Manifest) -> Iterator[Found]:
    """A container mounts a volume that the pod does not have.

    The API server refuses the object: `volumeMounts[0].name: Not found`.
    """
    for container in manifest.all_containers:
        pod = container.pod
        if (
            not pod.whole
            or pod.resource.kind in {"InferenceService", "ServingRuntime", "ClusterServingRuntime"}
            or pod.resource.kind[:3] == "Ray"
        ):
            continue
        known = {one.string("name") for one in pod.spec.maps("volumes")}
        claims = pod.resource.body.maps("spec", "volumeClaimTemplates")
        known |= {one.string("metadata", "name") for one in claims}
        for one in container.body.maps("volumeMounts"):
            name = one.scalar("name")
            if name is not None and name.raw not in known and not name.filled_later and _NAME.fullmatch(name.raw):
                yield Found(
                    span=one.span_of("name"),
                    message=f"No volume of the pod is called {name.raw}.",
                    remedy=f"Add `- name: {name.raw}` with its source under `volumes`, or correct the name.",
                )
