"""What is copied into the image, from where, and with which rights."""

import re
from collections.abc import Iterator

from tidewaiter.lint.dockerfile.parse import Dockerfile, Stage
from tidewaiter.lint.finding import Edit, Found
from tidewaiter.lint.purpose import for_tests
from tidewaiter.lint.rule import rule

_ARCHIVE = re.compile(r".*\.(?:tar|tar\.(?:gz|bz2|xz|zst)|tgz|tbz2?|txz)", re.IGNORECASE)
_PATTERN = re.compile(r"(?!.*\.(?:cfg|conf|css|html?|js|json|md|py|sh|toml|txt|ya?ml)$).*\*.*")
"""Names that may be those of archives, too."""
_REMOTE = re.compile(r"(?:https?|ftp)://|git@|.*\.git(?:#.*)?$")
_SECRET_FILE = re.compile(
    r"(?:.*/)?(?:\.env(?:\.\w+)?|id_(?:rsa|dsa|ecdsa|ed25519)|\.netrc|\.pypirc|\.aws|\.ssh|\.kube|kubeconfig"
    r"|credentials(?:\.json)?|.*\.(?:pem|p12|pfx|key))/?",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS?)(?:$|_(?:ID|KEY|VALUE)$)",
    re.IGNORECASE,
)
_SCRATCH = frozenset({"/tmp", "/var/tmp"})  # noqa: S108 - paths in an image, no files of ours
_NO_SECRET = re.compile(
    r"none|null|true|false|changeme|x+|\d{1,4}|(?:dummy|fake|mock|test|example|place[-_ ]?holder|your)\W?.*",
    re.IGNORECASE,
)


@rule("dockerfile/add-for-copy", "warning", hadolint=("DL3020",), mends=True)
def add_for_copy(file: Dockerfile) -> Iterator[Found]:
    """ADD is used where COPY is meant.

    ADD unpacks archives and downloads URLs, which a reader does not expect of a copy. Where neither is wanted, COPY
    says what happens.
    """
    for stage in file.stages:
        for one in stage.all_of("ADD"):
            sources = [one.expand(arg) for arg in one.args[:-1]]
            if (
                one.heredocs
                or not sources
                or any(
                    _ARCHIVE.fullmatch(source) or _REMOTE.match(source) or "$" in source or _PATTERN.fullmatch(source)
                    for source in sources
                )
            ):
                continue
            yield Found(
                span=one.span,
                message="Nothing here is unpacked or downloaded.",
                remedy="Write COPY.",
                edits=(Edit(one.keyword, "COPY"),),
            )


@rule("dockerfile/add-remote", "warning")
def add_remote(file: Dockerfile) -> Iterator[Found]:
    """ADD downloads a file without a checksum.

    What the URL answers tomorrow is another image, or somebody else's. `ADD --checksum=sha256:…` refuses that.
    """
    for stage in file.stages:
        for one in stage.all_of("ADD"):
            for arg in one.args[:-1]:
                url = one.expand(arg)
                if not re.match(r"(?:https?|ftp)://", url) or one.flags.get("checksum") or url.endswith(".git"):
                    continue
                yield Found(
                    span=one.find(arg),
                    message="Whatever this address answers on the day of the build goes into the image.",
                    remedy=f"Write `ADD --checksum=sha256:DIGEST {arg} …`.",
                )


@rule("dockerfile/relative-workdir", "warning", hadolint=("DL3000",))
def relative_workdir(file: Dockerfile) -> Iterator[Found]:
    """WORKDIR is relative.

    It then depends on the WORKDIR of the base, which may change with the next version.
    """
    for stage in file.stages:
        absolute = False
        for one in stage.inherited("WORKDIR"):
            value = one.expand(one.args[0]).strip("\"'") if one.args else ""
            if value.startswith("/") or re.match(r"[A-Za-z]:[\\/]", value):
                absolute = True
            elif value and "$" not in value and not absolute and one in stage.instructions:
                yield Found(
                    span=one.span,
                    message=f"{value} is below whatever the base says.",
                    remedy=f"Write the whole path, `WORKDIR /PATH/{value.removeprefix('./')}`."
                    if value.strip("./")
                    else "Delete it, or write the whole path.",
                )


_FOR_NOBODY = (".git", ".env", ".venv", "venv", "node_modules", ".ssh", ".aws", "__pycache__", ".ipynb_checkpoints")


@rule("dockerfile/no-dockerignore", "warning")
def no_dockerignore(file: Dockerfile) -> Iterator[Found]:
    """Everything is copied, and no .dockerignore leaves anything out.

    `COPY . .` takes `.git` with its whole history, virtual environments and `.env` with its passwords, and each commit
    makes a new layer even when no source changed. Said only where such things lie beside the Dockerfile.
    """
    beside = file.text.beside
    if ".dockerignore" in beside or f"{file.text.path.rpartition('/')[2]}.dockerignore" in beside:
        return
    found = [name for name in _FOR_NOBODY if name in beside]
    for stage in file.stages if found and not file.last.outside else ():  # another build sends another folder
        for one in stage.all_of("COPY", "ADD"):
            if not one.flags.get("from") and any(arg in {".", "./"} for arg in one.args[:-1]):
                yield Found(
                    span=one.span,
                    message=f"This copies {', '.join(found)}, too.",
                    remedy=f"Write a .dockerignore: one line each for {', '.join(found)}.",
                )
                return


@rule("dockerfile/copy-without-workdir", "info", hadolint=("DL3045",))
def copy_without_workdir(file: Dockerfile) -> Iterator[Found]:
    """A relative destination, and nothing sets WORKDIR.

    Where the files end up is then the choice of the base image, which may change with its next version; without one it
    is `/`.
    """
    for stage in file.stages:
        if "$" in stage.image or stage.image == "scratch":
            continue
        for one in stage.instructions:
            if one.name == "WORKDIR":
                break
            if one.name not in {"COPY", "ADD"} or (stage.parent and stage.parent.inherited("WORKDIR")):
                continue
            target = one.expand(one.args[-1]).strip("\"'")
            if target.startswith(("/", "$", "%")) or re.match(r"[A-Za-z]:[\\/]", target):
                continue
            yield Found(
                span=one.span,
                message=f"{target} is below whatever WORKDIR {stage.image} has.",
                remedy="Set WORKDIR above, or write the whole path.",
            )
            break


@rule("dockerfile/copy-many-to-file", "error", hadolint=("DL3021",))
def copy_many_to_file(file: Dockerfile) -> Iterator[Found]:
    """Several sources are copied to what is no folder.

    BuildKit takes a destination for a folder only when it ends with a slash; with several sources the build fails.
    """
    for stage in file.stages:
        for one in stage.all_of("COPY", "ADD"):
            target = one.expand(one.args[-1]).strip("\"'")
            if len(one.args) < 3 or one.heredocs or target.endswith(("/", "\\", ".")) or "$" in target:
                continue
            yield Found(
                span=one.span,
                message=f"{len(one.args) - 1} sources go to {target}, which does not end with a slash.",
                remedy=f"Write {target}/.",
            )


@rule("dockerfile/secret-in-image", "error", hadolint=("DL3064",))
def secret_in_image(file: Dockerfile) -> Iterator[Found]:
    """A secret is written into the image.

    ENV and ARG are in the image's config and history, copied files in its layers: whoever can pull it can read them,
    also when a later step deletes them. `RUN --mount=type=secret,id=…` shows a secret to one command and keeps nothing.
    """
    for stage in file.stages:
        for one in () if for_tests(file.text.path) else stage.all_of("ENV"):
            for key, value in zip(one.args[::3], one.args[1::3], strict=False):
                text = value.strip("\"'")
                if _SECRET_NAME.search(key) and len(text) >= 4 and "$" not in text and not _harmless(text):
                    yield Found(
                        span=one.find(key),
                        message=f"The value of {key} is in the config of every image made from this.",
                        remedy="Set it where the container starts, or mount it: `RUN --mount=type=secret,id=NAME …`.",
                    )
        if stage in file.runtime:
            yield from _asked_for(stage)
        for one in stage.all_of("COPY", "ADD"):
            if one.flags.get("from"):
                continue
            for arg in one.args[:-1]:
                if _SECRET_FILE.fullmatch(arg) and not arg.endswith((".pub", ".crt")):
                    yield Found(
                        span=one.find(arg),
                        message=f"{arg} looks like credentials, and stays in this layer.",
                        remedy="Take it out, put it into .dockerignore, and mount it as a secret where it is needed.",
                    )


def _asked_for(stage: Stage) -> Iterator[Found]:
    """Secrets that a build is given as its arguments."""
    for one in stage.all_of("ARG"):
        for arg in one.args:
            key, _, value = arg.partition("=")
            if _SECRET_NAME.search(key) and not _harmless(one.expand(value)):
                yield Found(
                    span=one.find(arg),
                    message=f"What {key} is given stands in the history of the image.",
                    remedy="Mount it: `RUN --mount=type=secret,id=NAME …`, and build with `--secret id=NAME`.",
                )


def _harmless(value: str) -> bool:
    """Whether it only says where a secret lies, or that there is none."""
    return value.startswith("/") or _NO_SECRET.fullmatch(value) is not None


@rule("dockerfile/open-rights", "warning")
def open_rights(file: Dockerfile) -> Iterator[Found]:
    """Everyone may write files of the image.

    `chmod 777` lets any process in the container change programs that others run.
    """
    for stage in file.runtime:
        for one in stage.all_of("RUN"):
            for command in one.commands:
                if command.program != "chmod":
                    continue
                word = next((w for w in command.words[1:] if re.fullmatch(r"0?777|a\+rwx", w.value)), None)
                if word is None:
                    continue
                paths = {one.value.rstrip("/") for one in command.words[command.words.index(word) + 1 :]}
                scratch = bool(paths) and paths <= _SCRATCH
                yield Found(
                    span=one.span_of(command.start, command.end),
                    message=f"{word.value} lets every user delete and replace the files of others."
                    if scratch
                    else f"{word.value} lets every user change these files.",
                    remedy=f"Write 1777 in the place of {word.value}, as /tmp has it in every base image."
                    if scratch
                    else "Give them to the user that runs: `COPY --chown=65532:65532 …`, or `chmod -R g=u,o=rX`.",
                )


@rule("dockerfile/maintainer", "info", hadolint=("DL4000",), mends=True)
def maintainer(file: Dockerfile) -> Iterator[Found]:
    """MAINTAINER is used.

    Docker has called it outdated since 2016; tools read the label `org.opencontainers.image.authors`.
    """
    for stage in file.stages:
        for one in stage.all_of("MAINTAINER"):
            name = " ".join(one.args).strip("\"'")
            quoted = name.replace("\\", "\\\\").replace('"', '\\"')
            line = f'LABEL org.opencontainers.image.authors="{quoted}"'
            yield Found(
                span=one.span,
                message="MAINTAINER is outdated.",
                remedy=f"Write `{line}`.",
                edits=(Edit(one.span, line),) if "$" not in line and one.span.line == one.span.end_line else (),
                left="a label would fill in the variable, or it goes over several lines",
            )
