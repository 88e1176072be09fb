"""What a container may do beyond its own work."""

from collections.abc import Iterator

from tidewaiter.lint.finding import Found
from tidewaiter.lint.kubernetes.parse import Container, Manifest, Pod
from tidewaiter.lint.mending import added
from tidewaiter.lint.rule import rule
from tidewaiter.lint.tree import Scalar

_SOCKETS = ("docker.sock", "containerd.sock", "crio.sock")
_OF_THE_NODE = ("/dev", "/sys", "/proc", "/lib/modules", "/boot", "/run", "/var/run", "/var/lib/kubelet")
_SAME_EVERYWHERE = (
    "/dev/shm",  # noqa: S108 - a path in a manifest, no file of ours
    "/etc/localtime",
    "/etc/timezone",
    "/etc/ssl/",
    "/etc/pki/",
    "/usr/share/ca-certificates",
)
"""What hardly differs from node to node."""
_TAKEN = frozenset({"SYS_ADMIN", "ALL", "NET_ADMIN", "SYS_PTRACE", "SYS_MODULE", "CAP_SYS_ADMIN"})


def _capabilities(container: Container, which: str) -> set[str]:
    found = container.body.map("securityContext").list("capabilities", which)
    return {one.raw.upper() for one in found if isinstance(one, Scalar)}


@rule("kubernetes/root-user", "warning")
def root_user(manifest: Manifest) -> Iterator[Found]:
    """The container is told to run as root.

    Who breaks out of a process that is root in the container has root's rights on volumes and devices, and often on
    the node.
    """
    for container in manifest.all_containers:
        for holder, who in ((container.body, container.name), (container.pod.spec, "every container")):
            context = holder.map("securityContext")
            if context.value("runAsUser") == 0 and not isinstance(context.value("runAsUser"), bool):
                key = "runAsUser"
            elif context.value("runAsNonRoot") is False and context.get("runAsUser") is None:
                key = "runAsNonRoot"
            else:
                continue
            if holder is container.pod.spec and _first(container) is not container:
                continue
            if (holder is container.body and _is_privileged(container)) or _tends_nodes(container.pod):
                continue  # what that is allowed says more
            yield Found(
                span=context.span_of(key),
                message=f"{who or 'The container'} runs as root.",
                remedy="Write `runAsNonRoot: true` and `runAsUser: 65532`, and give that user what it must write.",
            )


def _first(container: Container) -> Container:
    pod = container.pod
    return (pod.prepared_by + pod.containers)[0]


@rule("kubernetes/may-be-root", "warning")
def may_be_root(manifest: Manifest) -> Iterator[Found]:
    """Nothing keeps the container from running as root.

    The image decides, and most images of the field run as root: `tensorflow/tensorflow` and `tensorflow/serving` set no
    `USER`, whatever articles say about UID 1000. With `runAsNonRoot` the kubelet refuses to start such an image.
    """
    for container in manifest.whole:
        user = container.secured("runAsUser")
        if container.secured("runAsNonRoot") is None and not isinstance(user, int) and not _is_privileged(container):
            root = "tensorflow/serving and tensorflow/tensorflow run as root" if container.image.tensorflow else ""
            yield Found(
                span=container.span,
                message=f"{container.name} runs as whatever user its image names"
                + (f": {root}." if root else ", or as root."),
                remedy="Write `securityContext: {runAsNonRoot: true, runAsUser: 65532}`.",
            )


def _is_privileged(container: Container) -> bool:
    return container.secured("privileged", pod=False) is True


@rule("kubernetes/writable-root", "info")
def writable_root(manifest: Manifest) -> Iterator[Found]:
    """The container's root file system can be written.

    Whoever gets into the process can change its programs and leave others. What must be written belongs in a volume;
    for scratch files an `emptyDir` on `/tmp` is enough.
    """
    for container in manifest.whole:
        if container.secured("readOnlyRootFilesystem", pod=False) is not True:
            yield Found(
                span=container.span,
                message=f"{container.name} can write all of its own file system.",
                remedy="Write `readOnlyRootFilesystem: true` in its securityContext, and mount an emptyDir on /tmp.",
            )


@rule("kubernetes/privilege-escalation", "warning", mends=True)
def privilege_escalation(manifest: Manifest) -> Iterator[Found]:
    """A process may gain more rights than it started with.

    Without `allowPrivilegeEscalation: false` a program with the setuid bit, such as `su` or `mount`, gives root to
    whoever runs it, also where the container does not run as root.
    """
    for container in manifest.whole:
        if container.secured("allowPrivilegeEscalation", pod=False) is False or _is_privileged(container):
            continue
        context = container.body.get("securityContext")
        given = container.body.map("securityContext").entry("allowPrivilegeEscalation")
        line = "allowPrivilegeEscalation: false"
        edits = added(container.body, "securityContext:", f"  {line}") if context is None else ()
        if context is not None and given is None and not _capabilities(container, "add") & _TAKEN:
            edits = added(container.body.map("securityContext"), line)
        if any("sudo" in word for word in container.words) or "jupyter" in container.image.text:
            edits = ()
        yield Found(
            span=container.body.map("securityContext").span_of("allowPrivilegeEscalation") if given else container.span,
            message=f"Programs with the setuid bit give more rights to {container.name}.",
            remedy="Write `allowPrivilegeEscalation: false` in its securityContext.",
            edits=edits,
            left="somebody asked for it, or it runs sudo, a notebook, or with added rights, which may need it",
        )


@rule("kubernetes/capabilities", "info")
def capabilities(manifest: Manifest) -> Iterator[Found]:
    """The container keeps capabilities that it does not need.

    A container starts with more than a dozen rights of root, such as forging network packets. A model server or a
    training job needs none of them.
    """
    for container in manifest.whole:
        if "ALL" not in _capabilities(container, "drop") and not _is_privileged(container):
            yield Found(
                span=container.span,
                message=f"{container.name} keeps the capabilities that the container runtime gives to all.",
                remedy="Write `capabilities: {drop: [ALL]}` in its securityContext, and add back what is needed.",
            )


@rule("kubernetes/privileged", "warning")
def privileged(manifest: Manifest) -> Iterator[Found]:
    """The container is privileged, or as good as that.

    It sees all devices and may do on the node what root may do. A GPU does not need it: the device plugin gives the
    container its devices.
    """
    for container in manifest.all_containers:
        context = container.body.map("securityContext")
        strong = _capabilities(container, "add") & {"SYS_ADMIN", "ALL", "CAP_SYS_ADMIN"}
        if _tends_nodes(container.pod):
            continue
        if _is_privileged(container) or strong:
            key = "privileged" if _is_privileged(container) else "capabilities"
            yield Found(
                span=context.span_of(key),
                message=f"{container.name} has root's rights on the node"
                + (f" through {', '.join(sorted(strong))}." if key == "capabilities" else "."),
                remedy="Set it on the nodes, in /etc/sysctl.d, or under `sysctls` in the pod's securityContext."
                if any("sysctl" in word for word in container.words)
                else "Delete it; ask for a GPU with `limits: {nvidia.com/gpu: 1}`, for a device through its plugin.",
            )


def _tends_nodes(pod: Pod) -> bool:
    """Whether it is an agent that works on its node: drivers, networks, devices."""
    spec = pod.spec
    reaches = any(one.get("hostPath") is not None for one in spec.maps("volumes")) or any(
        spec.value(key) is True for key in ("hostNetwork", "hostPID")
    )
    return pod.resource.kind == "DaemonSet" and reaches


@rule("kubernetes/host-namespace", "warning")
def host_namespace(manifest: Manifest) -> Iterator[Found]:
    """The pod shares a namespace of its node.

    With the node's network it listens on the node's addresses and reaches what only listens there; with its processes
    it sees and can signal those of all pods.
    """
    for pod in manifest.pods:
        if pod.of_the_cluster:
            continue
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.value(key) is True:
                yield Found(
                    span=pod.spec.span_of(key),
                    message=f"The pod uses its node's {key.removeprefix('host')}.",
                    remedy="Delete it, unless it has to speak for the node; reach the pod through a Service, and for "
                    "more shared memory mount an emptyDir with `medium: Memory` on /dev/shm.",
                )


@rule("kubernetes/host-path", "warning")
def host_path(manifest: Manifest) -> Iterator[Found]:
    """The pod mounts a folder of its node.

    It finds other files on every node, and a container that can write there changes the node; through the runtime's
    socket it owns the node. Agents of nodes (DaemonSets) are asked for that socket only.
    """
    for pod in manifest.pods:
        for one in pod.spec.maps("volumes"):
            path = one.string("hostPath", "path")
            agent = pod.resource.kind == "DaemonSet" and not path.endswith(_SOCKETS)
            scratch = one.string("name").startswith("spark-local-dir-")  # Spark's own way to a node's disks
            if path and not agent and not scratch and not path.startswith(_SAME_EVERYWHERE):
                message, remedy = _about_path(one.string("name"), path)
                yield Found(span=one.map("hostPath").span_of("path"), message=message, remedy=remedy)


def _about_path(volume: str, path: str) -> tuple[str, str]:
    """What a folder of the node means there, and what to write instead."""
    if path.endswith(_SOCKETS):
        said = f"{path} is the socket of the node's container runtime: who reaches it is root on the node."
        return said, "Build images without the node's runtime."
    said = f"The volume {volume} is {path} of whichever node the pod lands on."
    if path.startswith("/dev/"):
        return said, "Ask for the device by its plugin's resource, as with `nvidia.com/gpu: 1`."
    if path.startswith(_OF_THE_NODE):
        return said, "Only agents of nodes need that: make it a DaemonSet, or delete it."
    return said, (
        "Let scratch files lie in an emptyDir, and what must stay in a PersistentVolumeClaim; a model in one with "
        "`ReadOnlyMany`."
    )


@rule("kubernetes/seccomp", "info")
def seccomp(manifest: Manifest) -> Iterator[Found]:
    """No seccomp profile is set.

    Without one the container may use every system call of the node's kernel, most of which no program here needs.
    """
    for container in manifest.whole:
        if not container.secured("seccompProfile") and not _is_privileged(container):
            own = container.body.map("securityContext").get("seccompProfile")
            whole = container.pod.spec.map("securityContext").get("seccompProfile")
            if own is None and whole is None and not _annotated(container):
                yield Found(
                    span=container.span,
                    message=f"{container.name} may use every system call.",
                    remedy="Write `seccompProfile: {type: RuntimeDefault}` in the pod's securityContext.",
                )


def _annotated(container: Container) -> bool:
    return any("seccomp" in key for key in container.pod.metadata.map("annotations").entries)


@rule("kubernetes/service-account-token", "info")
def service_account_token(manifest: Manifest) -> Iterator[Found]:
    """The pod is given a token of the API server that it hardly needs.

    Each container finds it in its file system, and so does whoever gets in. A model server or a training script does
    not talk to the API server.
    """
    for pod in manifest.pods:
        named = pod.spec.string("serviceAccountName") or pod.spec.string("serviceAccount")
        if pod.whole and pod.spec.value("automountServiceAccountToken") is not False and named in {"", "default"}:
            yield Found(
                span=pod.span,
                message="A token of the default service account is mounted in the pod.",
                remedy="Write `automountServiceAccountToken: false` in the pod's spec.",
            )
