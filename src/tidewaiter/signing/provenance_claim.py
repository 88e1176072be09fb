"""What a SLSA provenance (predicate v1) claims of a build: who built, from which commit of which repository.

Ours names the source in `externalParameters.source`; GitHub's names it in `externalParameters.workflow`. Either way
the commit must stand among the dependencies too, and every dependency must have a digest.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import msgspec

from tidewaiter.core.errors import InputError

BUILDER: Final = "urn:tidewaiter:builder:"
"""Before the name of whoever holds the key (`TrustedKey.builder`)."""

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# RFC 3986 without what nobody needs to name a repository: percent signs, brackets, and user names but those of SSH.
_SOURCE = re.compile(r"(?:ssh://(?:[a-z0-9_-]+@)?|[a-z][a-z0-9+.-]*://)[A-Za-z0-9.:-]+(?:/[A-Za-z0-9._~+-]+)*/?")
_REFUSE = "Refuse this provenance: it does not say what was built from what."
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Resource(msgspec.Struct, frozen=True):
    digest: dict[str, str]
    uri: str = ""
    annotations: dict[str, Any] = {}


class _Definition(msgspec.Struct, frozen=True, rename="camel"):
    build_type: _Text
    external_parameters: dict[str, Any]
    resolved_dependencies: tuple[_Resource, ...]


class _Builder(msgspec.Struct, frozen=True):
    id: _Text


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    invocation_id: str = ""


class _Run(msgspec.Struct, frozen=True):
    builder: _Builder
    metadata: _Metadata = _Metadata()


class _Predicate(msgspec.Struct, frozen=True, rename="camel"):
    build_definition: _Definition
    run_details: _Run


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a provenance says, believed by nobody yet."""

    builder: str
    """URI of who built."""
    source: str
    """URL of the repository, without a commit; empty when it has none, as a repository without a remote."""
    commit: str
    """Hexadecimal."""
    dirty: bool
    """Whether files differed from the commit."""
    run: str
    """Which run of the pipeline."""

    def is_by(self, builder: str) -> bool:
        """Whether the claim is made in the name of `builder` (`TrustedKey.builder`, a name or a URI)."""
        return self.builder in {builder, f"{BUILDER}{builder}"}


def parse(predicate: Mapping[str, Any]) -> Claim:
    """The claim in a predicate; raises `InputError` when it names no commit, or anything without a digest."""
    try:
        found = msgspec.convert(predicate, _Predicate)
    except msgspec.ValidationError as error:
        raise InputError(f"the provenance is malformed: {error}", next_step=_REFUSE) from error
    definition = found.build_definition
    for dependency in definition.resolved_dependencies:
        if not any(dependency.digest.values()):
            raise InputError(f"the dependency {dependency.uri[:200]!a} has no digest", next_step=_REFUSE)
    source, commit = _stated(definition.external_parameters)
    source = _repository(source, commit)
    origins = [one for one in _commits(definition, source) if not commit or one.digest["gitCommit"] == commit]
    if len({one.digest["gitCommit"] for one in origins}) != 1:
        raise InputError("the provenance does not name one commit of its source", next_step=_REFUSE)
    return Claim(
        builder=found.run_details.builder.id,
        source=source,
        commit=origins[0].digest["gitCommit"],
        dirty=any(one.annotations.get("dirty", False) is not False for one in origins),
        run=found.run_details.metadata.invocation_id,
    )


def _stated(parameters: Mapping[str, Any]) -> tuple[str, str]:
    """URI and commit of the source as whoever asked for the build named it; each empty when it is not said."""
    source, workflow = parameters.get("source"), parameters.get("workflow")
    if isinstance(source, dict):
        uri, digest = source.get("uri", ""), source.get("digest", {})
        commit = digest.get("gitCommit", "") if isinstance(digest, dict) else None
    else:
        uri, commit = (workflow.get("repository", "") if isinstance(workflow, dict) else ""), ""
    if not isinstance(uri, str) or not isinstance(commit, str):
        raise InputError("the provenance names its source in an unknown way", next_step=_REFUSE)
    return uri, commit


def _commits(definition: _Definition, source: str) -> Iterator[_Resource]:
    """Dependencies that are commits of the repository `source`."""
    for one in definition.resolved_dependencies:
        commit = one.digest.get("gitCommit", "")
        if _COMMIT.fullmatch(commit) and _repository(one.uri, commit) == source:
            yield one


def _repository(uri: str, commit: str) -> str:
    """The repository's URL in `git+URL@REVISION`; raises `InputError` when two readers could see two places in it."""
    scheme, separator, rest = uri.removeprefix("git+").partition("://")
    host, slash, path = rest.partition("/")
    path, _, revision = path.partition("@")
    if commit and _COMMIT.fullmatch(revision) and revision != commit:
        raise InputError("the provenance names two commits of its source", next_step=_REFUSE)
    url = f"{scheme}{separator}{host}{slash}{path}"
    if url and (not _SOURCE.fullmatch(url) or {".", ".."} & set(url.split("/"))):
        raise InputError(f"{url[:200]!a} is not the plain URL of a repository", next_step=_REFUSE)
    return url
