"""Fuzz targets: files of an image, each read as a layer's file at the path where its cataloger wants it."""

import importlib.metadata
import io
import json
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import msgspec
from fuzz_target import Target, nested_json

import rpm_databases
from tidewaiter.inspection import layer, listing, waste
from tidewaiter.inspection.catalogers.rpm import packages as rpm
from tidewaiter.inspection.layer_facts import Collector, LayerFacts
from tidewaiter.oci import digest
from tidewaiter.oci.layer import Entry
from tidewaiter.sbom import licenses

_DIFF_ID = digest.of(b"")
_SITE = "usr/lib/python3/dist-packages/a-1.dist-info"


def _understood(facts: LayerFacts, claims: bool) -> bool:  # beside the facts
    told = (
        facts.packages, facts.copyrights, facts.builds, facts.models, facts.editable, facts.develop, facts.archives,
        facts.os_releases, facts.users, facts.exposures, claims,
    )  # fmt: skip
    return any(told) and not facts.unread and not any(model.problem for model in facts.models)


def in_layer(name: str, path: str, *seeds: bytes, mode: int = 0o644) -> Target:
    """A target that reads its input as the file `path`. Whatever the file says, there are facts that can be stored."""

    def read(data: bytes) -> bool:
        collector = Collector()
        layer._take(Entry(path=path, kind="file", mode=mode, size=len(data)), io.BytesIO(data), collector)
        listed = collector.listing.finish()
        facts = collector.facts(_DIFF_ID, len(data), waste.measure(listed, collector.found()))
        again = msgspec.msgpack.decode(msgspec.msgpack.encode(facts), type=LayerFacts)
        if again != facts:
            raise AssertionError("the facts are other facts once they are stored")
        return _understood(facts, any(listing.claims(listed)))

    return Target(name, read, seeds, ())


def _zip(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def elf_file(data: bytes = b"", tail: bytes = b"") -> bytes:
    """A program of one writable segment with `data`; `tail` lies where nothing is loaded."""
    at = 4096
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, at + len(data) + len(tail), 0, 64, 56, 1, 64, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 6, at, 0, 0, len(data), len(data), 4096)
    return head.ljust(at, b"\0") + data + tail + b"sections"


def _go() -> bytes:
    modules = (
        b"x" * 16 + b"path\ta.b/c\nmod\ta.b/c\t(devel)\t\ndep\td.e/f\tv1.2.3\th1:=\n=>\tg.h/i\tv2.0.0\t\n" + b"y" * 16
    )
    return b"\xff Go buildinf:\x08\x02" + bytes(16) + b"\x08go1.22.1" + bytes([len(modules)]) + modules


def _rust(document: bytes) -> bytes:
    return elf_file(bytes(64), zlib.compress(document))


def _proto(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def _saved_model() -> bytes:
    info = _proto(4, b"serve") + _proto(5, b"2.18.0")
    return b"\x08\x01" + _proto(2, _proto(1, info) + _proto(5, _proto(1, b"serving_default") + _proto(2, b"")))


def _of_this_python(name: str) -> bytes:
    """A metadata file of a package that is installed here."""
    return (importlib.metadata.distribution("pytest").read_text(name) or "").encode()


def of_this_machine(path: str, longest: int = 8192) -> tuple[bytes, ...]:
    """The beginning of a file, where this machine has it."""
    return (Path(path).read_bytes()[:longest],) if Path(path).is_file() else ()


def _damaged_rpm(data: bytes) -> bool:
    """A database of any of the formats, as its beginning says."""
    collector = Collector()
    rpm.CATALOGERS[0].read("var/lib/rpm/Packages", data, collector)
    return bool(collector.packages.get("var/lib/rpm/Packages")) and not collector.unread


_STATUS = (
    b"Package: libc6\nStatus: install ok installed\nSource: glibc (2.36-9)\nVersion: 2.36-9+b1\nArchitecture: amd64\n"
    b"Maintainer: A <a@b>\nDepends: libgcc-s1, libcrypt1 (>= 1) | x:any\nProvides: a (= 1)\nDescription: C\n more\n\n"
)
_COPYRIGHT = (
    b"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nCopyright: x\n"
    b"License: GPL-2+ or Expat, and BSD-3-clause\n text\n .\n text\n\nLicense: perl\n"
)
_APK = (
    b"C:Q1SLkS9hBidUbPwwrw+XR0Whv3ww8=\nP:ssl_client\nV:1.36.1-r29\nA:x86_64\nT:x\nL:GPL-2.0-only\no:busybox\n"
    b"D:so:libc.musl-x86_64.so.1 !x\np:cmd:a=1\nF:usr/bin\nR:ssl_client\na:0:0:755\n\n"
)
_METADATA = (
    b"Metadata-Version: 2.1\nName: a\nVersion: 1\nLicense: MIT\nRequires-Dist: b>=1; extra == 'x'\n"
    b"Classifier: License :: OSI Approved :: BSD License\nAuthor: x\nSummary: y\n\nbody\n"
)
_NPM = {
    "name": "@a/b", "version": "1.2.3", "license": {"type": "MIT"}, "author": {"name": "x"},
    "dependencies": {"c": "^1"}, "description": "d", "_integrity": "sha1-" + "A" * 27 + "=",
}  # fmt: skip
_CONDA = {
    "name": "numpy", "version": "1.26.4", "license": "BSD-3-Clause", "depends": ["python >=3.11"], "subdir": "linux-64",
    "channel": "https://c/x", "sha256": "ab" * 32, "md5": "cd" * 16, "files": ["lib/a.py", "../out"],
}  # fmt: skip
_CRATES = {
    "packages": [
        {"name": "demo", "version": "0.1.0", "source": "local", "root": True, "dependencies": [1, 99, -1]},
        {"name": "itoa", "version": "1.0.18", "source": "crates.io"},
    ]
}
_POM = ("META-INF/maven/a.b/c/pom.properties", b"version=1\ngroupId=a.b\nartifactId=c\n")
_MANIFEST = ("META-INF/MANIFEST.MF", b"Implementation-Title: x\r\nImplementation-Version: 1\r\n .2\r\n\r\n")
_GEM = (
    b'Gem::Specification.new do |s|\n  s.name = "rake".freeze\n  s.version = "13.0.6"\n  s.licenses = ["MIT".freeze]\n'
    b'  s.summary = "x"\n  s.authors = ["A"]\n  s.add_runtime_dependency(%q<json>.freeze, ["~> 1"])\nend\n'
)
_DIRECT_URL = {"url": "https://a/b.whl", "archive_info": {"hashes": {"sha256": "ab" * 32}, "hash": "md5=x"}}
_BUILD_INFO = b"build_info = d([('cuda_version', '12.5.1'), ('c', ['sm_60', 'sm_70']), ('is_cuda_build', True)])"
_PACKAGES = [rpm_databases.package(files=[("/usr/bin/", "demo")], requires=["libc.so.6"], provides=["demo"])]
_KEY = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n" + b"A" * 64 + b"\n"
_JAVA = _zip(_POM, _MANIFEST)
_CUDNN = elf_file(b"\0cudnn_version_9_3_0_75_c34639703_e0\0")

TARGETS = (
    in_layer("dpkg-status", "var/lib/dpkg/status", _STATUS, *of_this_machine("/var/lib/dpkg/status")),
    in_layer("dpkg-status-d", "var/lib/dpkg/status.d/libc6", _STATUS),
    in_layer("dpkg-list", "var/lib/dpkg/info/libc6.list", b"/.\n/lib\n/lib/a.so\n\n/x\xff\n"),
    in_layer(
        "debian-copyright", "usr/share/doc/a/copyright", _COPYRIGHT, *of_this_machine("/usr/share/doc/bash/copyright")
    ),
    in_layer("apk", "lib/apk/db/installed", _APK),
    Target("rpm-sqlite", _damaged_rpm, (rpm_databases.sqlite_of(_PACKAGES, page=1024),), ()),
    Target("rpm-ndb", _damaged_rpm, (rpm_databases.ndb_of(_PACKAGES),), ()),
    Target(
        "rpm-bdb",
        _damaged_rpm,
        (rpm_databases.bdb_of(_PACKAGES, page=512), rpm_databases.bdb_of(_PACKAGES, order=">")),
        (),
    ),
    in_layer(
        "rpm-manifest",
        "var/lib/rpmmanifest/container-manifest-2",
        b"\t".join((b"bash", b"5.1-2", b"1", b"2", b"V", b"(none)", b"9", b"x86_64", b"0", b"bash-5.1-2.src.rpm"))
        + b"\n",
    ),
    in_layer("python-metadata", f"{_SITE}/METADATA", _METADATA, _of_this_python("METADATA")),
    in_layer(
        "python-record",
        f"{_SITE}/RECORD",
        b'a.py,sha256=x,1\n"b,""c.py",,\n../../../bin/a,,\n',
        _of_this_python("RECORD"),
    ),
    in_layer(
        "python-direct-url",
        f"{_SITE}/direct_url.json",
        json.dumps(_DIRECT_URL).encode(),
        b'{"dir_info": {"editable": true}}',
        nested_json(),
        nested_json(b'{"archive_info": '),
    ),
    in_layer("python-develop", "usr/lib/python3/easy-install.pth", b"/src/a\nimport x\n./b.egg\n../c\n"),
    in_layer("python-egg", "usr/lib/python3/a-1-py3.11.egg", _zip(("EGG-INFO/PKG-INFO", _METADATA))),
    in_layer(
        "conda",
        "opt/conda/conda-meta/numpy-1.json",
        json.dumps(_CONDA).encode(),
        nested_json(),
        nested_json(b'{"name": "a", "version": "1", "files": '),
    ),
    in_layer(
        "npm",
        "app/node_modules/@a/b/package.json",
        json.dumps(_NPM).encode(),
        nested_json(),
        nested_json(b'{"name": "a", "license": '),
    ),
    in_layer("gem", "usr/lib/ruby/gems/3.1/specifications/rake-13.0.6.gemspec", _GEM),
    in_layer("jar", "app/lib.jar", _JAVA, _zip(("BOOT-INF/lib/x-1.0.jar", _JAVA), _POM, method=zipfile.ZIP_STORED)),
    in_layer("go", "app/server", elf_file(_go()), mode=0o755),
    in_layer(
        "rust",
        "app/tool",
        _rust(json.dumps(_CRATES).encode()),
        _rust(nested_json(b'{"packages":[{"name":"a","version":"1","x":')),
        mode=0o755,
    ),
    in_layer("elf", "app/python", elf_file(_go()), *of_this_machine(sys.executable, 65536), mode=0o755),
    in_layer("cudart", "usr/lib/libcudart.so.12", elf_file(b"\xc7\x07" + struct.pack("<I", 12050))),
    in_layer("cudnn", "usr/lib/libcudnn_graph.so.9", _CUDNN),
    in_layer("tensorflow-serving", "usr/bin/tensorflow_model_server", elf_file(b"\x002.15.1+dev.sha.c0ffee12\0")),
    in_layer("tensorflow-build", "s/tensorflow/python/platform/build_info.py", _BUILD_INFO),
    in_layer(
        "cuda-header",
        "usr/include/cudnn_version.h",
        b"#define CUDNN_MAJOR 9\n#define CUDNN_MINOR 3\n #define CUDNN_PATCHLEVEL 0\n",
    ),
    in_layer("cuda-toolkit", "usr/local/cuda/version.json", b'{"cuda": {"version": "12.5.1"}}', nested_json()),
    in_layer("saved-model", "models/mnist/3/saved_model.pb", _saved_model()),
    in_layer("tflite", "models/a.tflite", struct.pack("<I", 28) + b"TFL3" + bytes(20)),
    in_layer(
        "os-release",
        "etc/os-release",
        b'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian \\"12\\""\n',
        *of_this_machine("/etc/os-release"),
    ),
    in_layer("passwd", "etc/passwd", b"root:x:0:0::/root:/bin/sh\na:x:1000:1:::\n", *of_this_machine("/etc/passwd")),
    in_layer("secrets", "app/config.txt", _KEY, b"x=AKIAABCDEFGHIJKLMNOP\n", b"ghp_" + b"a" * 36),
    Target(
        "licence",
        lambda data: licenses.expression(data.decode("utf-8", "replace")),
        (b"MIT AND (GPL-2.0-only OR Apache-2.0 WITH LLVM-exception)", b"(" * 3000 + b"MIT"),
        (),
    ),
)
