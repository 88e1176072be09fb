"""Rules about shell scripts."""

from collections.abc import Iterator

from tidewaiter.lint import serving, serving_rules
from tidewaiter.lint.finding import Edit, Found, Span
from tidewaiter.lint.requirement import lost_to, pip_install, redirected
from tidewaiter.lint.rule import rule
from tidewaiter.lint.scripts.parse import Call, Script, behind
from tidewaiter.lint.serving import EVERYWHERE, About, Problem


def _found(script: Script, call: Call, problem: Problem) -> Found:
    word = call.arguments[problem.word]
    return Found(span=script.span(word), message=problem.message, remedy=problem.remedy)


def _servers(script: Script, about: About) -> Iterator[Found]:
    for call in script.servers():
        words = [word.value for word in call.arguments]
        if any(word in {"$@", "$*"} or word.startswith(("${@", "${*")) for word in words) and about != "flag":
            continue  # the rest of the arguments stands elsewhere
        for problem in serving.check_arguments(words, call.version or None, metrics=script.reads_metrics):
            if problem.about == about and words:
                yield _found(script, call, problem)


def _converters(script: Script) -> Iterator[Found]:
    for call in script.converters():
        for problem in serving.check_converter([word.value for word in call.arguments], call.version or None):
            yield _found(script, call, problem)


serving_rules.declare_for("shell", _servers, _converters)


@rule("shell/open-tensorboard", "warning")
def open_tensorboard(script: Script) -> Iterator[Found]:
    """TensorBoard listens on all addresses.

    It asks nobody who they are, and shows paths, parameters, samples of the training data and, with plug-ins, source
    code. Whoever reaches the port reads them.
    """
    for command in script.commands:
        if command.program != "tensorboard":
            continue
        words = behind(command)
        for index, word in enumerate(words):
            following = words[index + 1].value if index + 1 < len(words) else ""
            if word.value in {"--bind_all", f"--host={EVERYWHERE}"} or (word.value, following) == (
                "--host",
                EVERYWHERE,
            ):
                yield Found(
                    span=script.span(word),
                    message="Everybody who reaches this machine reads what TensorBoard shows.",
                    remedy="Listen on localhost, and come through `ssh -L` or `kubectl port-forward`.",
                )


@rule("shell/version-redirected", "error", mends=True)
def version_redirected(script: Script) -> Iterator[Found]:
    """The shell takes a version for the name of a file.

    Without quotes `pip install numba>=0.57` installs whatever version is newest and writes what pip prints into a file
    called `=0.57`. The condition that was meant is lost, and nothing says so.
    """
    for command in script.commands:
        found = pip_install(command)
        for word, requirement in found.wanted if found is not None else ():
            if lost := redirected(script.text.content, word):
                yield Found(
                    span=Span(*script.text.place(word.start), *script.text.place(word.end + len(lost))),
                    message=lost_to(requirement, lost),
                    remedy=f'Write `"{word.value}{lost}"`, in quotes.',
                    edits=(
                        Edit(
                            Span(*script.text.place(word.start), *script.text.place(word.end + len(lost))),
                            f'"{word.value}{lost}"',
                        ),
                    ),
                )


@rule("shell/cache-from", "warning")
def cache_from(script: Script) -> Iterator[Found]:
    """--cache-from names an image that holds no cache.

    BuildKit, which `docker build` uses since Docker 23, takes layers from an image only when that was built with inline
    cache metadata, or from a cache that somebody wrote with `--cache-to`. Without either it builds everything again.
    """
    content = script.text.content
    if any(word in content for word in ("BUILDKIT_INLINE_CACHE", "--cache-to", "DOCKER_BUILDKIT=0")):
        return
    for command in script.commands:
        if command.arguments[:2] != ("docker", "build") and command.arguments[:3] != ("docker", "buildx", "build"):
            continue
        words = behind(command)
        for index, word in enumerate(words):
            name, sign, value = word.value.partition("=")
            if not sign and index + 1 < len(words):
                value = words[index + 1].value
            if name == "--cache-from" and value and "=" not in value and "$" not in value:
                yield Found(
                    span=script.span(word),
                    message=f"BuildKit finds no cache in {value} unless it was built with inline cache metadata.",
                    remedy="Build with `--build-arg BUILDKIT_INLINE_CACHE=1`, or use a registry's cache: "
                    "`--cache-to type=registry,ref=REF,mode=max --cache-from type=registry,ref=REF`.",
                )
