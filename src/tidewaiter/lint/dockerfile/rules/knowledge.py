"""What is known of TensorFlow's images, server and converter, asked about a Dockerfile."""

import re
from collections.abc import Iterator

from tidewaiter.frameworks import images
from tidewaiter.lint import serving, serving_rules
from tidewaiter.lint.dockerfile.parse import Dockerfile, Instruction, Stage
from tidewaiter.lint.dockerfile.rules.base import named, place
from tidewaiter.lint.finding import Edit, Found, Span
from tidewaiter.lint.rule import rule
from tidewaiter.lint.serving import EVERYWHERE, About, Problem
from tidewaiter.lint.shell import Word

_OFFICIAL = re.compile(r"tensorflow/(?:tensorflow|serving)$|(?<![\w-])nvidia/cuda$|pytorch/pytorch$")
_MIRRORS = re.compile(
    r"(?:^|\.)(?:aliyuncs\.com|tencentyun\.com|tencentcloudcr\.com|myhuaweicloud\.com|daocloud\.io|baidubce\.com|163\.com"
    r"|ustc\.edu\.cn|docker-cn\.com|dockerproxy\.\w+|azk8s\.cn|1ms\.run|nju\.edu\.cn)$"
)
"""Public registries that keep copies of others' images."""
_STARTS = ("ENTRYPOINT", "CMD")


@rule("dockerfile/unpublished-tag", "error", mends=True)
def unpublished_tag(file: Dockerfile) -> Iterator[Found]:
    """The base image's tag was never published.

    `2.13.0-gpu-cuda11.8` and `serving-2.13.0` are in many articles and in no registry; patch releases often have wheels
    and no image. The build fails, or takes what a mirror of somebody else calls by that name.
    """
    for stage in file.stages:
        found = named(stage)
        if found is None or not (repository := images.repository_of(found[0])):
            continue
        why = images.why_unpublished(repository, found[1])
        if not why:
            continue
        serves = found[1].lower().startswith("serving")
        repository = images.SERVING if serves else repository
        instead = images.nearest(repository, found[1])
        span = place(stage)
        written = stage.start.args[0]
        plain = written == stage.base and not found[2] and instead
        yield Found(
            span=span,
            message=f"{found[0]}:{found[1]} was not published: {why}.",
            remedy=f"Use {repository}:{instead}." if instead else f"See the tags of {repository}.",
            edits=(Edit(span, f"{repository}:{instead}"),) if plain and serves else (),
            left="which published image is meant is for a person to say",
        )


@rule("dockerfile/copy-of-official", "info")
def copy_of_official(file: Dockerfile) -> Iterator[Found]:
    """The base is what somebody else's registry calls the official image.

    A mirror can lag behind, keep what was withdrawn, or put something else there; articles call such copies official.
    The bytes are the official ones when the digest is the same, and only then.
    """
    for stage in file.stages:
        found = named(stage)
        host, _, rest = found[0].partition("/") if found is not None else ("", "", "")
        official = _OFFICIAL.search(rest)
        if found is None or found[2] or official is None or not _MIRRORS.search(host.partition(":")[0]):
            continue
        tag = f":{found[1]}" if found[1] else ""
        yield Found(
            span=place(stage),
            message=f"{host} keeps a copy of {official[0]}; nothing here says that it is the same.",
            remedy=f"Compare the digests that `tidewaiter inspect docker://{official[0]}{tag}` and "
            f"`tidewaiter inspect docker://{found[0]}{tag}` show, and write it: `FROM {found[0]}{tag}@sha256:…`.",
        )


@rule("dockerfile/gpu-image-without-cudnn", "warning")
def gpu_image_without_cudnn(file: Dockerfile) -> Iterator[Found]:
    """TensorFlow finds no GPU in its own GPU image.

    The `-gpu` images of TensorFlow 2.18 and newer come with cuDNN 8, and TensorFlow loads cuDNN 9: it logs that it
    cannot load some libraries, and trains on the CPU.
    """
    bottom = list(file.last.lineage())[-1]
    found = named(bottom)
    if found is None or images.repository_of(found[0]) != images.TENSORFLOW:
        return
    why = images.lacks_cudnn(found[1])
    runs = " ".join(" ".join(one.args) for stage in file.runtime for one in stage.all_of("RUN"))
    if why and not any(word in runs for word in ("cudnn", "and-cuda", "requirements", "conda")):
        yield Found(
            span=place(bottom),
            message=f"{bottom.base} trains on the CPU: {why}.",
            remedy="Stand on an image without CUDA and install `tensorflow[and-cuda]==VERSION`, or add cuDNN 9: "
            "`RUN pip install --no-cache-dir 'nvidia-cudnn-cu12>=9.3,<10'`.",
        )


def _server_words(file: Dockerfile) -> Iterator[tuple[Instruction, tuple[Word, ...], str]]:
    """The arguments of the model server that the image starts, and its version."""
    bottom = list(file.last.lineage())[-1]
    version = serving.server_version(bottom.base)
    official = "$" not in bottom.base and serving.is_server(bottom.base)
    own = list(file.last.inherited("ENTRYPOINT"))
    for name in _STARTS:
        found = file.last.inherited(name)
        if not found:
            continue
        one = found[-1]
        for command in one.commands:
            at = next((i for i, word in enumerate(command.words) if _is_server(word.value)), None)
            if at is not None:
                yield one, command.words[at + 1 :], version
        if name == "CMD" and official and not own and one.json and one.args and not _is_server(one.args[0]):
            yield one, tuple(word for command in one.commands for word in command.words), version


def _is_server(word: str) -> bool:
    return word.rpartition("/")[2] == serving.SERVER


def _where(one: Instruction, word: Word) -> Span:
    return one.span_of(word.start, word.end)


def _servers(file: Dockerfile, about: About) -> Iterator[Found]:
    for one, words, version in _server_words(file):
        values = [one.expand(word.value) for word in words]
        for problem in serving.check_arguments(values, version or None, metrics=_reads_metrics(file)):
            if problem.about == about and words:
                yield _as_found(one, words, problem)


def _as_found(one: Instruction, words: tuple[Word, ...], problem: Problem) -> Found:
    return Found(span=_where(one, words[problem.word]), message=problem.message, remedy=problem.remedy)


def _reads_metrics(file: Dockerfile) -> bool:
    return any(
        "/monitoring/prometheus" in arg for one in file.last.inherited("LABEL", "HEALTHCHECK") for arg in one.args
    )


def _converters(file: Dockerfile) -> Iterator[Found]:
    for stage in file.stages:
        for one in stage.all_of("RUN", "CMD", "ENTRYPOINT"):
            for command in one.commands:
                if command.program == serving.CONVERTER:
                    words = command.words[len(command.words) - len(command.arguments) + 1 :]
                    version = _tensorflow(stage)
                    for problem in serving.check_converter([word.value for word in words], version or None):
                        yield _as_found(one, words, problem)


def _tensorflow(stage: Stage) -> str:
    """The version of TensorFlow that the image below a stage has; empty when its tag does not say."""
    found = named(list(stage.lineage())[-1])
    return images.version_of(found[1]) if found and images.repository_of(found[0]) == images.TENSORFLOW else ""


serving_rules.declare_for("dockerfile", _servers, _converters)


@rule("dockerfile/open-tensorboard", "warning")
def open_tensorboard(file: Dockerfile) -> Iterator[Found]:
    """TensorBoard listens on all addresses.

    It asks nobody who they are, and shows paths, parameters, samples of the training data and, with plug-ins, source
    code. Whoever reaches the port reads them.
    """
    for name in _STARTS:
        for one in file.last.inherited(name)[-1:]:
            for command in one.commands:
                words = [word.value for word in command.words]
                if not any(word.rpartition("/")[2] == "tensorboard" for word in words):
                    continue
                at = next(
                    (i for i, word in enumerate(words) if word in {"--bind_all", EVERYWHERE, f"--host={EVERYWHERE}"}),
                    None,
                )
                if at is not None:
                    yield Found(
                        span=_where(one, command.words[at]),
                        message="Everybody who reaches the port reads what TensorBoard shows.",
                        remedy="Listen on localhost; come through `kubectl port-forward`, or a proxy that asks "
                        "for a name.",
                    )
