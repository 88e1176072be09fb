"""Which image runs."""

from collections.abc import Iterator

from tidewaiter.lint.finding import Found
from tidewaiter.lint.kubernetes.parse import Manifest
from tidewaiter.lint.rule import rule


@rule("kubernetes/moving-tag", "warning")
def moving_tag(manifest: Manifest) -> Iterator[Found]:
    """The image has no tag, or one that moves.

    `latest` is another image next month. Pods of one Deployment then run different ones, a restart is an upgrade, and
    nobody can go back to what ran yesterday.
    """
    for container in manifest.all_containers:
        image = container.image
        if image.known and image.moves:
            said = f"The tag {image.tag} of {image.repository} is moved" if image.tag else f"{image.text} names no tag"
            yield Found(
                span=container.body.span_of("image"),
                message=f"{said}: which image runs depends on the day and the node.",
                remedy=f"Name a version with its digest: `image: {image.repository}:VERSION@sha256:…`.",
            )


@rule("kubernetes/image-without-digest", "info")
def without_digest(manifest: Manifest) -> Iterator[Found]:
    """The image is named by a tag alone.

    A tag can be pushed again, and what was scanned and signed is then not what runs. A digest names bytes.
    """
    for container in manifest.all_containers:
        image = container.image
        if image.known and not image.moves and not image.digest:
            yield Found(
                span=container.body.span_of("image"),
                message=f"{image.text} can be pushed again under the same tag.",
                remedy=f"Add the digest: `image: {image.text}@sha256:…`; "
                f"`tidewaiter inspect docker://{image.text}` shows it.",
            )


@rule("kubernetes/pull-policy", "warning")
def pull_policy(manifest: Manifest) -> Iterator[Found]:
    """A tag that moves is not pulled again.

    Each node keeps the image that the tag meant when it first ran there: two pods of one Deployment run different
    programs, and a fix that was pushed arrives on new nodes only.
    """
    for container in manifest.all_containers:
        policy = container.body.string("imagePullPolicy")
        if container.image.known and container.image.moves and policy in {"IfNotPresent", "Never"}:
            yield Found(
                span=container.body.span_of("imagePullPolicy"),
                message=f"With {policy}, each node runs the {container.image.text} that it happens to have.",
                remedy="Name a version with its digest; IfNotPresent is right then.",
            )


@rule("kubernetes/jupyter-image", "warning")
def jupyter_image(manifest: Manifest) -> Iterator[Found]:
    """An image made for notebooks runs as a service or job.

    The `-jupyter` images add Jupyter, its many dependencies and a server that runs whatever code it is sent: right for
    a notebook, wrong below a training job or a service.
    """
    for container in manifest.containers:
        if container.image.tensorflow and "jupyter" in container.image.tag and container.words:
            if any("jupyter" in word for word in container.words):
                continue
            yield Found(
                span=container.body.span_of("image"),
                message=f"{container.image.text} brings a notebook server.",
                remedy=f"Use {container.image.repository}:{container.image.tag.replace('-jupyter', '')}.",
            )
