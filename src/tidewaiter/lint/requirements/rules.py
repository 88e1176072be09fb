"""Rules about requirements files."""

import re
from collections.abc import Iterator

from packaging.utils import canonicalize_name

from tidewaiter.core import urls
from tidewaiter.lint.finding import Found
from tidewaiter.lint.requirement import FOR_DEVELOPERS, TOOLS, is_pinned, newest, source_build
from tidewaiter.lint.requirements.parse import Line, RequirementsFile
from tidewaiter.lint.rule import rule

_TENSORFLOWS = frozenset(
    {
        *("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-rocm", "tensorflow-macos", "tf-nightly"),
        *("tf-nightly-gpu", "tf-nightly-cpu", "intel-tensorflow", "tensorflow-aarch64", "tensorflow-cpu-aws"),
    }
)
_PUBLIC = re.compile(
    r"(?:^|\.)(?:pypi\.org|pypi\.python\.org|pytorch\.org|nvidia\.com|vllm\.ai|anaconda\.org|storage\.googleapis\.com"
    r"|github\.io|intel\.com|openvinotoolkit\.org|jetson-ai-lab\.(?:io|dev)|amd\.com|flashinfer\.ai|pyg\.org"
    r"|huggingface\.co|tuna\.tsinghua\.edu\.cn|aliyun\.com|cloud\.tencent\.com|ustc\.edu\.cn)$"
)
"""Indexes and mirrors that serve the public: what they have is on PyPI, or has a local version, which PyPI refuses."""
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_BRANCH = re.compile(r"(?:main|master|head|develop|dev|trunk)", re.IGNORECASE)


def _wanted(file: RequirementsFile) -> Iterator[Line]:
    return (line for line in file.lines if line.requirement is not None)


@rule("requirements/bad-line", "error")
def bad_line(file: RequirementsFile) -> Iterator[Found]:
    """A line is nothing that pip reads.

    pip refuses the whole file for it, when it comes to the install and not before.
    """
    for line in file.lines:
        if line.broken:
            yield Found(
                span=line.span,
                message=f"pip refuses this: {line.broken}.",
                remedy="Write `NAME==VERSION`, an option, a path or an address.",
            )


@rule("requirements/unpinned", "warning")
def unpinned(file: RequirementsFile) -> Iterator[Found]:
    """A package is named without its version.

    Each build takes the newest that fits, so that two builds of one commit differ. Keep ranges in `requirements.in`,
    and let `uv pip compile --generate-hashes` or `tidewaiter lock` write the versions.
    """
    if file.is_input or file.is_constraints or file.for_people or file.of_library:
        return
    wanted = [(line, line.requirement) for line in _wanted(file) if line.requirement is not None]
    loose = [(line, one) for line, one in wanted if not is_pinned(one) and canonicalize_name(one.name) not in TOOLS]
    if len(loose) > 1 and len(loose) == len(wanted):  # one word about all, not one each
        yield Found(
            span=loose[0][0].span,
            message=f"None of the {len(loose)} requirements says its version: the newest are installed.",
            remedy="Call this file requirements.in, and let `uv pip compile --generate-hashes` or `tidewaiter lock` "
            "write the versions.",
        )
        return
    for line, one in loose:
        yield Found(
            span=line.span,
            message=newest(one),
            remedy=f"Write `{one.name}==VERSION`, or let a compiler write this file from `requirements.in`.",
        )


@rule("requirements/no-hashes", "info")
def no_hashes(file: RequirementsFile) -> Iterator[Found]:
    """Versions are pinned, and their files are not.

    A version can get further files, and an index or a proxy can answer with others. With `--hash` pip takes only the
    bytes that were locked.
    """
    wanted = list(_wanted(file))
    if file.is_constraints or file.is_input or file.for_people or file.hashed or len(wanted) < 2:
        return
    if all(line.requirement is not None and is_pinned(line.requirement) for line in wanted):
        yield Found(
            span=wanted[0].span,
            message=f"None of the {len(wanted)} requirements says which files it means.",
            remedy="Write them with `uv pip compile --generate-hashes requirements.in -o requirements.txt`.",
        )


@rule("requirements/some-hashes", "error")
def some_hashes(file: RequirementsFile) -> Iterator[Found]:
    """Some requirements have hashes and others have none.

    As soon as one has them pip asks for them of all, also of what they depend on, and refuses the install.
    """
    if not file.hashed:
        return
    for line in file.lines:
        if not line.option and not line.hashed and not line.broken:
            yield Found(
                span=line.span,
                message="pip refuses the file: this has no hash, and others have one.",
                remedy="Add `--hash=sha256:…`, or lock the whole file again.",
            )


@rule("requirements/needs-source-build", "error")
def needs_source_build(file: RequirementsFile) -> Iterator[Found]:
    """A pinned version cannot be installed from wheels.

    Some versions ask for packages that have no wheel: `tensorflow[and-cuda]==2.15.0` for parts of tensorrt,
    `wandb==0.15.0` for pathtools. The build then compiles, downloads from elsewhere, or fails.
    """
    for line in _wanted(file):
        if line.requirement is not None and (found := source_build(line.requirement)):
            yield Found(span=line.span, message=found[0], remedy=f"Write {found[1]}.")


@rule("requirements/test-packages", "info")
def test_packages(file: RequirementsFile) -> Iterator[Found]:
    """Packages for testing or formatting are among those that run.

    They bring their own dependencies and advisories into every image that installs this file.
    """
    if file.for_people or file.is_constraints or file.compiled or file.of_library:
        return  # a compiled file has what its input asks for, and what that asks for
    for line in _wanted(file):
        if line.requirement is not None and canonicalize_name(line.requirement.name) in FOR_DEVELOPERS:
            yield Found(
                span=line.span,
                message=f"{line.requirement.name} is not needed where the image runs.",
                remedy="Move it into requirements-dev.txt.",
            )


@rule("requirements/two-tensorflows", "error")
def two_tensorflows(file: RequirementsFile) -> Iterator[Found]:
    """Two distributions of TensorFlow are installed.

    They write the same files: the one that pip unpacks last wins, file by file, and uninstalling one breaks the other.
    """
    found: dict[str, Line] = {}
    for line in _wanted(file):
        if line.requirement is None or line.requirement.marker is not None:
            continue  # markers may rule each other out
        name = canonicalize_name(line.requirement.name)
        if name not in _TENSORFLOWS:
            continue
        other = next((one for one in found if one != name), None)
        if other is not None:
            yield Found(
                span=line.span,
                message=f"{name} and {other} (line {found[other].span.line}) write the same files.",
                remedy="Keep one: tensorflow-cpu for CPUs, tensorflow[and-cuda] for GPUs without CUDA in the base.",
            )
        found.setdefault(name, line)


@rule("requirements/extra-index", "warning")
def extra_index(file: RequirementsFile) -> Iterator[Found]:
    """A second index beside PyPI can be answered for by anybody.

    pip asks both and takes the highest version: whoever uploads your internal package's name to PyPI with a higher
    version is installed instead (dependency confusion). Hashes, or one index that passes PyPI on, rule that out.
    """
    for line in file.lines:
        host = urls.split(line.value).hostname or ""
        if line.option != "--extra-index-url" or file.hashed or "$" in line.value or _PUBLIC.search(host):
            continue
        yield Found(
            span=line.span,
            message=f"Names that {host or line.value} serves can be taken on PyPI, and pip takes the higher version.",
            remedy="Lock with hashes, or use one `--index-url` that passes PyPI on and prefers its own packages.",
        )


@rule("requirements/plain-http", "error")
def plain_http(file: RequirementsFile) -> Iterator[Found]:
    """Packages come over plain HTTP, or from a host whose certificate is not looked at.

    Whoever is on the way can put any code into the wheel, and pip runs it or installs it.
    """
    for line in file.lines:
        address = line.value if line.option or line.requirement is None else str(line.requirement.url or "")
        host = urls.split(address.removeprefix("git+")).hostname if "://" in address else None
        plain = address.removeprefix("git+").startswith("http://") and host not in _LOCAL and not line.hashed
        trusted = line.option == "--trusted-host" and address.partition(":")[0] not in _LOCAL
        if plain or trusted:
            yield Found(
                span=line.span,
                message=f"Nothing proves that {host or address} answered.",
                remedy="Use https, and give pip your authority with `PIP_CERT` when the certificate is your own.",
            )


@rule("requirements/git-without-commit", "warning")
def git_without_commit(file: RequirementsFile) -> Iterator[Found]:
    """A package is taken from a Git branch.

    Whatever is on the branch on the day of the build is installed, and nothing records which commit that was.
    """
    for line in file.lines:
        address = line.value if line.requirement is None else str(line.requirement.url or "")
        if not address.startswith("git+") or "$" in address or line.option not in {"", "-e", "--editable"}:
            continue
        path = urls.split(address.removeprefix("git+").partition("#")[0]).path
        revision = path.rpartition("@")[2] if "@" in path else ""
        if not revision or _BRANCH.fullmatch(revision):
            yield Found(
                span=line.span,
                message=f"This installs {revision or 'the default branch'} as it is on the day of the build.",
                remedy="Name the commit: `git+https://HOST/REPOSITORY@COMMIT`.",
            )
