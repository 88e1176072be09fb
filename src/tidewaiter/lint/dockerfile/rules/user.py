"""Who the container runs as."""

import re
from collections.abc import Iterator

from tidewaiter.lint.dockerfile.parse import Dockerfile
from tidewaiter.lint.dockerfile.rules.base import named
from tidewaiter.lint.finding import Found
from tidewaiter.lint.rule import rule

_ROOT = frozenset({"root", "0"})
_OFFICIAL = (
    "alma(?:linux)?|alpine|amazonlinux|buildpack-deps|busybox|centos|debian|eclipse-temurin|fedora|golang|gradle|julia"
    "|maven|nginx|node|openjdk|oraclelinux|perl|php|pypy|python|r-base|rockylinux|ruby|rust|scratch|ubuntu"
)
_RUNS_AS_ROOT = re.compile(
    rf"(?:(?:docker\.io|public\.ecr\.aws/docker|mirror\.gcr\.io)/)?(?:library/)?(?:{_OFFICIAL})"
    r"|(?:docker\.io/)?(?:nvidia/cuda|tensorflow/(?:tensorflow|serving)|pytorch/pytorch|continuumio/(?:mini|ana)conda3"
    r"|condaforge/(?:miniforge3|mambaforge)|vllm/vllm-openai|rocm/[\w.-]+)"
    r"|nvcr\.io/nvidia/(?:pytorch|tensorflow|tensorrt|cuda|tritonserver|nemo|mxnet|paddlepaddle)"
    r"|gcr\.io/(?:distroless|deeplearning-platform-release)/[\w.-]+|quay\.io/centos/centos|quay\.io/pypa/[\w.-]+"
    r"|registry\.access\.redhat\.com/ubi\d+(?:/ubi(?:-minimal|-micro|-init)?)?|public\.ecr\.aws/amazonlinux/amazonlinux"
    r"|(?:\d{12}\.dkr\.ecr\.[\w-]+\.amazonaws\.com|public\.ecr\.aws/deep-learning-containers)/[\w-]+"
)
"""Images of public makers whose config names no user, or root. Of others nobody knows from the Dockerfile."""


def _as_root(file: Dockerfile) -> bool:
    bottom = list(file.last.lineage())[-1]
    if bottom.base == "scratch":
        return True
    found = named(bottom)
    return found is not None and "nonroot" not in found[1] and _RUNS_AS_ROOT.fullmatch(found[0]) is not None


@rule("dockerfile/root-user", "warning", hadolint=("DL3002",))
def root_user(file: Dockerfile) -> Iterator[Found]:
    """The container runs as root.

    Who breaks out of a process that is root in the container has root's rights on volumes and devices, and often on the
    host. The official TensorFlow images set no USER, whatever articles say about UID 1000: without a USER line they
    run as root.
    """
    users = file.last.inherited("USER")
    if not users and not _as_root(file):
        return
    if not users:
        yield Found(
            span=file.last.start.span,
            message=f"Nothing sets a USER, and {file.last.image} runs as root.",
            remedy="Add `USER 65532:65532`, or a user that the image has, before CMD and ENTRYPOINT.",
        )
        return
    last = users[-1]
    name = last.expand(last.args[0] if last.args else "").partition(":")[0]
    if name in _ROOT:
        yield Found(
            span=last.span,
            message="The last USER is root.",
            remedy="Go back to a user without rights after the steps that need root, for example `USER 65532:65532`.",
        )
