"""A whole Debian archive in memory, with packages and signatures of our own, served over HTTP."""

import gzip
import hashlib
import io
import lzma
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import zstandard

from servers import reply
from tidewaiter.assembly.recipe import Recipe, parse

KEY_NAME = "little"


class Keyring:
    """A signing key of our own, and the key folder that names it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "gnupg"
        self.home.mkdir(mode=0o700)
        self.folder = folder / "keys"
        self.folder.mkdir()
        self._gpg("--quick-generate-key", "--passphrase", "", "Little Archive <little@example.org>", "ed25519", "sign")
        listing = self._gpg("--list-keys", "--with-colons").decode().splitlines()
        self.fingerprint = next(line for line in listing if line.startswith("fpr:")).split(":")[9]
        (self.folder / f"{KEY_NAME}.gpg").write_bytes(self._gpg("--export"))
        (self.folder / "keys.toml").write_text(f'[{KEY_NAME}]\nfingerprint = "{self.fingerprint}"\nowner = "test"\n')

    def _gpg(self, *arguments: str, data: bytes = b"") -> bytes:
        command = ["gpg", f"--homedir={self.home}", "--batch", "--pinentry-mode=loopback", "--quiet", *arguments]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    def sign(self, text: bytes) -> bytes:
        """`text` with a clear signature."""
        return self._gpg("--clearsign", "--digest-algo", "SHA256", data=text)

    def close(self) -> None:
        """Stop the agent that gpg has started."""
        subprocess.run(["gpgconf", f"--homedir={self.home}", "--kill", "gpg-agent"], check=False, capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)


def tar(members: Sequence[tarfile.TarInfo | tuple[str, bytes]]) -> bytes:
    """A tar of files (name and content) and of members as given."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size, info.mode = len(member[1]), 0o644
                archive.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def special(name: str, kind: bytes, *, target: str = "", mode: int = 0o755) -> tarfile.TarInfo:
    """A tar member without content."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


def ar(members: Sequence[tuple[str, bytes]]) -> bytes:
    """An ar archive."""
    out = b"!<arch>\n"
    for name, content in members:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        out += b"\n" * (len(content) % 2)
    return out


def packed(kind: str, data: bytes) -> bytes:
    """`data` compressed as a member named `*.tar{kind}` is."""
    if kind == ".xz":
        return lzma.compress(data)
    if kind == ".gz":
        return gzip.compress(data)
    return zstandard.ZstdCompressor().compress(data) if kind == ".zst" else data


def deb(
    name: str,
    version: str = "1.0-1",
    *,
    files: Mapping[str, bytes] | None = None,
    members: Sequence[tarfile.TarInfo | tuple[str, bytes]] = (),
    scripts: Mapping[str, bytes] | None = None,
    fields: Mapping[str, str] | None = None,
    architecture: str = "amd64",
    pack: str = ".xz",
) -> bytes:
    """A `.deb`; `fields` go into its control paragraph, `members` into its data as they are."""
    content = {"usr/share/doc/" + name + "/copyright": b"License: MIT\n", **(files or {})}
    control = f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: Test <t@example.org>\n"
    control += "".join(f"{key}: {value}\n" for key, value in (fields or {}).items())
    control += f"Description: {name}\n for tests\n"
    sums = "".join(
        f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}  {path}\n" for path, data in content.items()
    )
    control_tar = tar([("./control", control.encode()), ("./md5sums", sums.encode()), *(scripts or {}).items()])
    data_tar = tar([*((f"./{path}", data) for path, data in content.items()), *members])
    return ar(
        [
            ("debian-binary", b"2.0\n"),
            (f"control.tar{pack}", packed(pack, control_tar)),
            (f"data.tar{pack}", packed(pack, data_tar)),
        ]
    )


class Archive:
    """Serves suites of packages; every file can be replaced or removed by its path."""

    def __init__(self, keyring: Keyring) -> None:
        self.keyring = keyring
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one HTTP request."""
        self.requests.append(handler.path)
        body = self.files.get(handler.path)
        reply(handler, 404 if body is None else 200, body or b"")

    def publish(
        self,
        suite: str,
        packages: Mapping[str, bytes],
        *,
        archive: str = "debian",
        release: Mapping[str, str] | None = None,
        by_hash: bool = False,
        extra: str = "",
        architecture: str = "amd64",
    ) -> None:
        """Publish `.deb` files by name as `suite`; `extra` is appended to the index."""
        index = extra
        for name, data in packages.items():
            path = f"pool/main/{name}.deb"
            self.files[f"/{archive}/{path}"] = data
            index += control_of(data) + f"Filename: {path}\nSize: {len(data)}\nSHA256: {_sha256(data)}\n\n"
        compressed = lzma.compress(index.encode())
        place = f"main/binary-{architecture}"
        fields = {
            "Origin": "Little",
            "Codename": suite,
            "Date": "Sat, 11 Jul 2026 10:16:37 UTC",
            "Acquire-By-Hash": "yes" if by_hash else "no",
            **(release or {}),
        }
        text = "".join(f"{key}: {value}\n" for key, value in fields.items())
        text += f"SHA256:\n {_sha256(compressed)} {len(compressed)} {place}/Packages.xz\n"
        self.files[f"/{archive}/dists/{suite}/InRelease"] = self.keyring.sign(text.encode())
        index_path = f"by-hash/SHA256/{_sha256(compressed)}" if by_hash else "Packages.xz"
        self.files[f"/{archive}/dists/{suite}/{place}/{index_path}"] = compressed


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def control_of(data: bytes) -> str:
    """The control paragraph inside a `.deb` that `deb` made with xz."""
    start = data.index(b"control.tar.xz")
    size = int(data[start + 48 : start + 58])
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress(data[start + 60 : start + 60 + size]))) as archive:
        file = archive.extractfile("./control")
        assert file is not None
        return file.read().decode()


RECIPE = """
name = "little"
title = "Little base"
python = "3.11"
architecture = "amd64"
environment = ["LANG=C.UTF-8"]
exclude = ["usr/share/doc/*", "usr/share/man/*"]
keep = ["usr/share/doc/*/copyright"]

[[suites]]
name = "stable"
archive = "debian"
keys = ["little"]

[[groups]]
name = "system"
title = "System"
packages = ["libone"]
directories = ["tmp", "home/nonroot"]
links = [{ path = "lib", target = "usr/lib" }]

[[groups]]
name = "tools"
title = "Tools"
packages = ["two"]

[[drops]]
package = "dpkg"
reason = "not in an image"

[[accounts]]
name = "nonroot"
id = 65532
home = "/home/nonroot"
comment = "nonroot"
group = "nonroot"
"""


def little_recipe(more: str = "", **replace: str) -> Recipe:
    """The recipe of the little archive, with texts replaced and more TOML at its end."""
    text = RECIPE
    for old, new in replace.items():
        text = text.replace(old, new)
    return parse((text + more).encode(), name="little", source="recipe little")


def little_packages() -> dict[str, bytes]:
    """Packages that satisfy the little recipe."""
    return {
        "libone": deb(
            "libone",
            files={"lib/x86_64-linux-gnu/libone.so.1": b"\x7fELF one", "usr/share/man/man1/one.1": b"manual"},
            members=[special("./lib/x86_64-linux-gnu/libone.so", tarfile.SYMTYPE, target="libone.so.1")],
            fields={"Depends": "dpkg (>= 1.15)"},
        ),
        "two": deb("two", files={"usr/bin/two": b"two"}, fields={"Depends": "libone (>= 1.0)"}),
    }
