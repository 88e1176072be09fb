import io
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from image_builder import Tar, put_image
from tidewaiter.core import limits
from tidewaiter.inspection.catalogers import framework_binaries
from tidewaiter.inspection.image import inspect
from tidewaiter.inspection.layer_facts import Collector, FoundBuild
from tidewaiter.oci.layout import Layout

SERVER = "usr/bin/tensorflow_model_server"
HEAD = b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", 62) + bytes(44)
# As the published source of tensorflow/serving has them (model_servers/main.cc, version.h).
AROUND = b"\0TensorFlow ModelServer: \0TensorFlow Library: \0unknown argument: \0"


def read(path: str, data: bytes) -> list[FoundBuild]:
    assert framework_binaries.wants(path)
    collector = Collector()
    framework_binaries.read(path, io.BytesIO(data), collector)
    return list(collector.builds.values())


def runtime(*versions: int) -> bytes:
    """A library that stores each number as the CUDA runtime stores its version."""
    return HEAD + b"\x90".join(b"\xc7\x07" + struct.pack("<I", one) + b"\x31\xc0\xc3" for one in versions)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (b"2.15.1+dev.sha.c0ffee12", "2.15.1"),
        (b"2.8.0-rc1+dev.sha.9400ef1", "2.8.0-rc1"),
        (b"0.5.0+nightly.sha.a1b2c3d", "0.5.0"),
        (b"2.15.1", None),
        (b"2.15.1+dev", None),
        (b"x2.15.1+dev.sha.c0ffee12", None),
        (b"1.2.15.1+dev.sha.c0ffee12", None),
    ],
)
def test_a_model_server_says_its_version(text: bytes, version: str | None) -> None:
    """The version stands with the commit that it was built from; a bare number may be that of anything."""
    found = read(SERVER, HEAD + bytes(5000) + AROUND + text + b"\0" + AROUND)
    assert found == ([] if version is None else [FoundBuild(SERVER, "tensorflow-serving", version)])


@pytest.mark.parametrize("before", [*range((1 << 20) - 24, (1 << 20) + 2), 3 << 20])
def test_a_version_across_two_windows_is_read_whole(before: int) -> None:
    """Wherever the text stands, the version is neither lost nor cut."""
    data = HEAD.ljust(before, b"\0") + b"2.15.12+dev.sha.c0ffee12"
    assert [one.version for one in read(SERVER, data)] == ["2.15.12"]


def test_only_a_bounded_part_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies behind the bound is not looked at."""
    monkeypatch.setattr(limits, "FRAMEWORK_SCAN_BYTES", 4096)
    text = b"2.15.1+dev.sha.c0ffee12"
    assert read(SERVER, HEAD.ljust(4200, b"\0") + text) == []
    assert read(SERVER, HEAD.ljust(4000, b"\0") + text) != []
    assert read(SERVER, b"#!/bin/sh\n" + text) == []


@pytest.mark.parametrize(
    ("name", "data", "version"),
    [
        ("libcudart.so.12", runtime(12050, 12050), "12.5"),
        ("libcudart.so.11.0", runtime(11080), "11.8"),
        ("libcudart.so.13", runtime(13000, 12050, 13001), "13.0"),
        ("libcudart.so.12", runtime(12050, 12040), None),
        ("libcudart.so.12", runtime(11080), None),
        ("libcudart.so.12.5.82", runtime(12050), None),
        ("libcudart.so.12", HEAD, None),
        ("libcudart.so.12", HEAD[:10], None),
        ("libcudart.so.12", runtime(12050).replace(struct.pack("<H", 62), struct.pack("<H", 183), 1), None),
    ],
    ids=range(9),
)
def test_a_cuda_runtime_holds_its_version(name: str, data: bytes, version: str | None) -> None:
    """The constants that it returns count when they agree and fit the name; a longer name says more."""
    path = f"usr/lib/{name}"
    assert read(path, data) == ([] if version is None else [FoundBuild(path, "cuda", version)])


@pytest.mark.parametrize(
    ("name", "mark", "version"),
    [
        ("libcudnn_graph.so.9", b"\0cudnn_version_9_3_0_75_c34639703_e0\0", "9.3.0"),
        ("libcudnn_graph.so.9.10.2", b"\0cudnn_version_9_10_2_21_36061468_e0\0", "9.10.2"),
        ("libcudnn_ops_infer.so.8", b"\0cudnn_version_8_9_4_25_c33150885_e0\0", "8.9.4"),
        ("libcudnn_graph.so.9", b"\0cudnn_version_9_3\0", None),
        ("libcudnn_graph.so.9", b"\0cudnn_version\0", None),
    ],
)
def test_cudnn_holds_a_mark_with_its_version(name: str, mark: bytes, version: str | None) -> None:
    """The mark that keeps its libraries together names the version and the build."""
    path = f"usr/lib/{name}"
    found = read(path, HEAD + bytes(300_000) + mark)
    assert found == ([] if version is None else [FoundBuild(path, "cudnn", version)])


def test_names_that_are_read() -> None:
    """Only the few libraries whose marks are known are searched."""
    for name in ("libcudnn.so.9", "libcudnn_adv.so.9", "libcudart.so", "libcuda.so.1", "tensorflow_model_server.py"):
        assert not framework_binaries.wants(f"usr/lib/{name}")


def test_versions_inside_files_reach_the_record(tmp_path: Path) -> None:
    """A serving image without packages has versions, and the driver that they need."""
    tar = Tar().file(SERVER, HEAD + AROUND + b"2.15.1+dev.sha.c0ffee12\0" + bytes(5000), mode=0o755)
    tar.file("usr/local/cuda/lib64/libcudart.so.12", runtime(12020) + bytes(5000), mode=0o755)
    tar.file("usr/lib/libcudnn_ops_infer.so.8", HEAD + b"\0cudnn_version_8_9_4_25_c33150885_e0\0" + bytes(5000))
    tar.file("usr/lib/libcudnn.so.8", HEAD)
    record = inspect(put_image(Layout(tmp_path / "layout"), [tar.bytes()]), reference="it:1").framework
    assert record is not None
    assert (record.serving, record.cuda, record.cudnn) == ("2.15.1", "12.2", "8.9.4")
    assert (record.least_driver, record.toolkit_driver) == ("525.60.13", "535.54.03")
    assert (record.tested, record.tested_reason) == ("unknown", "there is no TensorFlow in it")


@pytest.mark.interop
@pytest.mark.parametrize(
    ("requirement", "version"),
    [("nvidia-cuda-runtime-cu11==11.8.89", "11.8"), ("nvidia-cuda-runtime-cu12==12.5.82", "12.5")],
)
def test_nvidias_own_runtime(tmp_path: Path, requirement: str, version: str) -> None:
    """The library in NVIDIA's wheel tells the version that the wheel has."""
    uv = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, "--target", str(tmp_path)]
    options = ["--no-deps", "--python-platform", "x86_64-manylinux2014", requirement]
    done = subprocess.run([*uv, *options], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"no index to fetch {requirement} from: {done.stderr[-200:]}")
    (library,) = tmp_path.rglob("libcudart.so.*")
    assert [one.version for one in read(f"usr/lib/{library.name}", library.read_bytes())] == [version]
