"""A Dockerfile as it is handed to the builder: every image it starts from pinned by digest, and no secret in it.

1. Parse it as BuildKit does; follow `ARG` as far as `FROM` needs it.
2. Refuse what looks like a secret in `ARG`, `ENV`, the arguments given, or anywhere in the text.
3. Find every image that is used (`FROM`, `COPY --from`, `RUN --mount=…from=`), ask once for the digests of those
   that are named by tag, and write `HOST/REPO@DIGEST` in their place. What is built is what was recorded.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from e2b_dockerfile_utils import DockerfileInstruction, DockerfileSyntaxError, ShellLex, parse_dockerfile_ast

from tidewaiter.assembly import dockerfile_secrets
from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError, ProjectError
from tidewaiter.core.files import open_regular
from tidewaiter.oci import reference as references
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.manifest import Platform
from tidewaiter.oci.reference import RegistryReference

EPOCH = "SOURCE_DATE_EPOCH"
_CODE = "bad_dockerfile"
_SECRET_STEP = (
    "Hand it over as a secret: name it in [build] secrets and use it in `RUN --mount=type=secret,id=…`; "  # noqa: S105  # advice
    "it is then there while the command runs and in no layer."
)
_SYNTAX = re.compile(r"#\s*syntax\s*=\s*(\S+)\s*", re.IGNORECASE)
_LITERAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

Resolve = Callable[[RegistryReference], Digest]
"""What a reference without digest means now."""


class Origin(msgspec.Struct, frozen=True):
    """An image that the Dockerfile takes files from."""

    name: str
    """As written, variables filled in, host added."""
    digest: Digest
    pinned: bool
    """Whether the Dockerfile itself names the digest."""


class Prepared(msgspec.Struct, frozen=True):
    """A Dockerfile ready for a builder."""

    text: str
    origins: tuple[Origin, ...]
    """In order of first use, each once."""
    wants_epoch: bool
    """Whether it declares `ARG SOURCE_DATE_EPOCH`."""


def read(path: Path) -> str:
    """The text of the Dockerfile.

    Raises:
        ProjectError: it is not there, no regular file, or not UTF-8.
        LimitError: it is over `limits.DOCKERFILE_BYTES`.
    """
    try:
        with open_regular(path) as file:
            data = file.read(limits.DOCKERFILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ProjectError(
            f"{path}: there is no such file", next_step="Name the Dockerfile in [build] dockerfile."
        ) from error
    if len(data) > limits.DOCKERFILE_BYTES:
        raise LimitError(f"{path} is over {limits.DOCKERFILE_BYTES} bytes", next_step="Shorten it.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path}: not UTF-8: {error}", next_step="Save the file as UTF-8.") from error


class _Reader:
    """Steps 1 to 3 over one Dockerfile."""

    def __init__(
        self,
        path: Path,
        text: str,
        *,
        arguments: Mapping[str, str],
        platform: Platform,
        resolve: Resolve,
        frontend: bool,
    ) -> None:
        self._frontend = frontend
        self._path = path
        self._lines = text.split("\n")  # as the builders cut it; a form feed ends no line
        self._arguments = arguments
        self._resolve = resolve
        self._stages: list[str] = []
        self._globals = {
            f"{side}{word}": value
            for side in ("TARGET", "BUILD")
            for word, value in (
                ("PLATFORM", f"{platform.os}/{platform.architecture}"),
                ("OS", platform.os),
                ("ARCH", platform.architecture),
            )
        }
        self._origins: dict[str, Origin] = {}
        self._wants_epoch = False
        try:
            parsed = parse_dockerfile_ast(text)
        except DockerfileSyntaxError as error:
            raise InputError(f"{path}:{error.line or 1}: {error}", next_step="Mend this line.", code=_CODE) from error
        self._instructions = parsed.instructions
        self._escape = parsed.escape_token

    def run(self) -> Prepared:
        if not any(one.name == "FROM" for one in self._instructions):
            raise InputError(f"{self._path}:1: there is no FROM", next_step="Begin with `FROM IMAGE`.", code=_CODE)
        if self._frontend:
            self._pin_frontend()
        for instruction in self._instructions:
            self._refuse_secrets(instruction)
            match instruction.name:
                case "ARG":
                    self._argument(instruction)
                case "FROM":
                    self._from(instruction)
                case "COPY" | "RUN":
                    self._other_images(instruction)
        return Prepared(
            text="\n".join(self._lines), origins=tuple(self._origins.values()), wants_epoch=self._wants_epoch
        )

    def _error(self, instruction: DockerfileInstruction, what: str, next_step: str, code: str = _CODE) -> InputError:
        return InputError(f"{self._path}:{instruction.start_line}: {what}", next_step=next_step, code=code)

    def _filled(self, instruction: DockerfileInstruction, word: str) -> str:
        """`word` without quotes, variables replaced by what is known before the first `FROM`."""
        try:
            return ShellLex(self._escape, env=self._globals, skip_unset_env=False).process_word(word)
        except ValueError as error:
            raise self._error(instruction, str(error), "Mend this line.") from error

    # Step 1

    def _argument(self, instruction: DockerfileInstruction) -> None:
        for word in instruction.args:
            name, given, default = word.partition("=")
            if name == EPOCH:
                self._wants_epoch = True
            if self._stages:
                continue  # inside a stage; `FROM` sees only those before the first
            if name in self._arguments:
                self._globals[name] = self._arguments[name]
            elif given:
                self._globals[name] = self._filled(instruction, default)

    # Step 2

    def _refuse_secrets(self, instruction: DockerfileInstruction) -> None:
        text = "\n".join([instruction.original, *(one.content for one in instruction.heredocs)])
        reason = dockerfile_secrets.token_in(text)
        if reason is not None:
            reason = f"{instruction.name} holds {reason}"
        if instruction.name == "ENV":
            triples = zip(instruction.args[::3], instruction.args[1::3], strict=False)
            reason = next(
                filter(None, (dockerfile_secrets.found_in(name, _bare(value)) for name, value in triples)), reason
            )
        elif instruction.name == "ARG":
            for word in instruction.args:
                name, _, default = word.partition("=")
                reason = reason or dockerfile_secrets.found_in(name, _bare(default))
        if reason is not None:
            raise self._error(
                instruction,
                f"{reason}, and would stay in the image for everyone to read",
                _SECRET_STEP,
                "secret_in_build",
            )

    # Step 3

    def _pin_frontend(self) -> None:
        """BuildKit reads the Dockerfile with the image that `# syntax=` names: an input like any other."""
        for number, line in enumerate(self._lines):
            named = _SYNTAX.fullmatch(line)
            if named is not None:
                self._lines[number] = f"# syntax={self._pinned(self._instructions[0], named[1])}"
            if named is not None or not line.startswith("#"):
                return

    def _from(self, instruction: DockerfileInstruction) -> None:
        words = instruction.args
        if len(words) not in {1, 3} or (len(words) == 3 and words[1].upper() != "AS"):
            raise self._error(
                instruction, f"{instruction.original[:200]!r} is no FROM", "Write `FROM IMAGE [AS NAME]`."
            )
        image = self._filled(instruction, words[0])
        pinned = self._pinned(instruction, image)
        if pinned is not None:
            line = " ".join(["FROM", *instruction.flags, pinned, *words[1:]])
            count = instruction.end_line - instruction.start_line
            # As many lines as before, so that the builder's messages name the right one.
            self._lines[instruction.start_line - 1 : instruction.end_line] = [line] + ["#"] * count
        self._stages.append(words[2].lower() if len(words) == 3 else "")

    def _other_images(self, instruction: DockerfileInstruction) -> None:
        for flag in instruction.flags:
            name, _, value = flag.partition("=")
            sources = [value] if name == "--from" else []
            if name == "--mount":
                sources = [item.removeprefix("from=") for item in value.split(",") if item.startswith("from=")]
            for source in sources:
                if source.isdecimal() or (_LITERAL.fullmatch(source) and source.lower() in self._stages):
                    continue
                if "$" in source:
                    raise self._error(
                        instruction, f"from={source} has a variable in it", "Write the image or stage out."
                    )
                pinned = self._pinned(instruction, source)
                if pinned is not None:
                    for number in range(instruction.start_line - 1, instruction.end_line):
                        if f"from={source}" in self._lines[number]:
                            self._lines[number] = self._lines[number].replace(f"from={source}", f"from={pinned}", 1)
                            break

    def _pinned(self, instruction: DockerfileInstruction, image: str) -> str | None:
        """`HOST/REPO@DIGEST`; None for a stage and for `scratch`."""
        if image == "scratch" or (image and image.lower() in self._stages):
            return None
        if not image or re.match(r"[a-z-]+:/|oci:|dir:", image):
            raise self._error(
                instruction,
                f"{image[:200]!r} is no image of a registry",
                "Name it as HOST/REPO:TAG or HOST/REPO@DIGEST.",
            )
        try:
            reference = references.parse_registry(image)
        except InputError as error:
            raise self._error(instruction, error.message, error.next_step) from error
        known = self._origins.get(str(reference))
        if known is None:
            digest = reference.digest or self._resolve(reference)
            known = Origin(name=str(reference), digest=digest, pinned=reference.digest is not None)
            self._origins[str(reference)] = known
        return f"{reference.host}/{reference.repository}@{known.digest}"


def _bare(value: str) -> str:
    return value.strip("\"'")


def prepare(
    path: Path,
    text: str,
    *,
    arguments: Mapping[str, str],
    platform: Platform,
    resolve: Resolve,
    frontend: bool = False,
) -> Prepared:
    """The Dockerfile in `text` with its images pinned; `path` is named in errors.

    With `frontend` the image of `# syntax=` is one of them: BuildKit obeys that line, buildah does not.

    Raises:
        InputError: it cannot be parsed, an image name is none, or it or an argument holds a secret.
        NotFoundError, NetworkError: a tag could not be resolved.
    """
    for name, value in arguments.items():
        reason = dockerfile_secrets.found_in(name, value)
        if reason is not None:
            raise InputError(
                f"[build] arguments: {reason}, and arguments stay in the history of the image",
                next_step=_SECRET_STEP,
                code="secret_in_build",
            )
    return _Reader(path, text, arguments=arguments, platform=platform, resolve=resolve, frontend=frontend).run()
