"""Debian packages of taken files, so that scanners still see them: entries of `status.d` and copyright files.

A package whose files are taken in part is recorded whole: what is known of it is true of every file of it.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping

from tidewaiter.assembly.debian.tree import STATUS
from tidewaiter.assembly.unpacked_image import UnpackedImage
from tidewaiter.core import limits

_DATABASE = "var/lib/dpkg"
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,199}")
_FIELD = re.compile(r"^(Package|Version|Architecture):[ \t]*(\S+)", re.MULTILINE)


def _paragraphs(image: UnpackedImage) -> Iterator[tuple[str, str, str]]:
    """Name, version and text of every package that the image records."""
    texts = [image.text(f"{_DATABASE}/status", limits.DPKG_STATUS_BYTES) or ""]
    names = [name for name in image.ground.names(STATUS) if not name.endswith(".md5sums")]
    texts += [image.text(f"{STATUS}/{name}", limits.DEB_CONTROL_BYTES) or "" for name in names]
    for text in texts:
        for paragraph in re.split(r"\n\s*\n", text):
            fields = dict(_FIELD.findall(paragraph))
            if _NAME.fullmatch(fields.get("Package", "")) and "Version" in fields:
                yield fields["Package"], fields["Version"], paragraph.strip("\n") + "\n"


def _lists(image: UnpackedImage) -> Iterator[tuple[str, list[str]]]:
    """Package name and paths, as the package names them, of every list of files; those of `status.d` are of sums."""
    for name in image.ground.names(f"{_DATABASE}/info"):
        if name.endswith(".list"):
            text = image.text(f"{_DATABASE}/info/{name}", limits.DPKG_STATUS_BYTES) or ""
            yield name.removesuffix(".list").partition(":")[0], [line.strip("/") for line in text.splitlines()]
    for name in image.ground.names(STATUS):
        if name.endswith(".md5sums"):
            text = image.text(f"{STATUS}/{name}", limits.DPKG_STATUS_BYTES) or ""
            yield name.removesuffix(".md5sums"), [line.partition("  ")[2].strip("/") for line in text.splitlines()]


def _sums(image: UnpackedImage, package: str) -> Mapping[str, str]:
    """MD5 by path as the package names it."""
    names = [f"{_DATABASE}/info/{name}" for name in image.ground.names(f"{_DATABASE}/info")]
    names = [name for name in names if name.endswith(".md5sums")]
    wanted = [name for name in names if posixpath.basename(name).removesuffix(".md5sums").split(":")[0] == package]
    found: dict[str, str] = {}
    for name in [*wanted, f"{STATUS}/{package}.md5sums"]:
        for line in (image.text(name, limits.DPKG_STATUS_BYTES) or "").splitlines():
            digest, _, path = line.partition("  ")
            found[path.strip("/")] = digest
    return found


def owners(image: UnpackedImage, taken: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Packages that the files belong to: by name, path in the result by path as the package names it.

    `taken` has the real path in the image by path in the result. dpkg's lists may name a file by another way than its
    real one (`/lib` that is a link to `/usr/lib`), so that every way is followed.
    """
    results = {real: path for path, real in taken.items()}
    names = {posixpath.basename(real) for real in results}
    found: dict[str, dict[str, str]] = {}
    for package, paths in _lists(image):
        for path in paths:
            if posixpath.basename(path) in names:
                real = image.ground.resolve(path)
                if real in results:
                    found.setdefault(package, {})[path] = results[real]
    return found


def records(image: UnpackedImage, base: UnpackedImage, taken: Mapping[str, str]) -> dict[str, bytes]:
    """Files to write beside those that were taken, by path."""
    known = {(name, version) for name, version, _ in _paragraphs(base)}
    owned = owners(image, taken)
    found: dict[str, bytes] = {}
    for name, version, text in _paragraphs(image):
        if name not in owned or (name, version) in known:
            continue
        # The base may have another version of the package; both are in the image then, and both are said.
        entry = f"{STATUS}/{name}"
        if base.ground.get(entry) is not None or entry in found:
            entry = f"{STATUS}/{name}_{re.sub(r'[^A-Za-z0-9.+~-]', '-', version)}"
        sums = _sums(image, name)
        lines = [f"{sums[path]}  {result}\n" for path, result in sorted(owned[name].items()) if path in sums]
        found[entry] = text.encode()
        found[f"{entry}.md5sums"] = "".join(lines).encode()
        terms = f"usr/share/doc/{name}/copyright"
        licence = image.text(terms, limits.METADATA_BYTES)
        if licence is not None and base.ground.resolve(terms) is None and terms not in taken:
            found[terms] = licence.encode()
    return found
