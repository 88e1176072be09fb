"""The data files: well-formed, consistent with each other, and as the documentation page shows them."""

import importlib.util
import re
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tidewaiter.frameworks import tables
from tidewaiter.frameworks.versions import numbers, series

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    """`tools/knowledge` as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        yield _loaded()


def _loaded() -> ModuleType:
    loader = SourceFileLoader("knowledge_tool", str(ROOT / "tools" / "knowledge"))
    spec = importlib.util.spec_from_loader("knowledge_tool", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_rows_are_newest_first_and_once() -> None:
    """Look-ups take the first row that fits, so the order is part of the data."""
    here, cuda = tables.tensorflow(), tables.cuda()
    columns = (
        [one.release for one in here.cpu],
        [one.release for one in here.gpu],
        [one.release for one in here.wheel],
        [str(one.major) for one in cuda.family],
        [one.cuda for one in cuda.toolkit],
        [one.series for one in cuda.cudnn],
    )
    for column in columns:
        assert len(column) == len(set(column)) > 2
        assert column == sorted(column, key=Version, reverse=True)


def test_the_table_of_the_requirements_is_in_the_data() -> None:
    """CUDA, cuDNN and the ends of the Python range of every release since 2.10, as TensorFlow's page has them."""
    found = {
        series(one.release): (one.cuda, one.cudnn, one.python[0], one.python[-1]) for one in tables.tensorflow().gpu
    }
    for releases, row in {
        "2.21": ("12.5", "9.3", "3.10", "3.13"),
        "2.20": ("12.5", "9.3", "3.9", "3.13"),
        "2.19 2.18": ("12.5", "9.3", "3.9", "3.12"),
        "2.17 2.16": ("12.3", "8.9", "3.9", "3.12"),
        "2.15": ("12.2", "8.9", "3.9", "3.11"),
        "2.14": ("11.8", "8.7", "3.9", "3.11"),
        "2.13 2.12": ("11.8", "8.6", "3.8", "3.11"),
        "2.11 2.10": ("11.2", "8.1", "3.7", "3.10"),
    }.items():
        assert [found[release] for release in releases.split()] == [row] * len(releases.split())


def test_builds_with_and_without_gpu_have_the_same_python() -> None:
    """The documentation page shows one column for both."""
    here = tables.tensorflow()
    assert {one.release: one.python for one in here.cpu} == {one.release: one.python for one in here.gpu}
    assert all(one.cuda and one.cudnn for one in here.gpu)
    assert not any(one.cuda or one.cudnn for one in here.cpu)


def test_wheels_agree_with_the_tested_builds() -> None:
    """Two sources say for which CUDA a release is built; the extra asks for the tested cuDNN, or allows it."""
    tested = {series(one.release): one for one in tables.tensorflow().gpu}
    for wheel in tables.tensorflow().wheel:
        row = tested[series(wheel.release)]
        assert series(wheel.cuda) == row.cuda
        assert numbers(wheel.cudnn)[0] == numbers(row.cudnn)[0]
        assert set(wheel.python) <= set(row.python)
        for package, specifier in wheel.and_cuda.items():
            if package.startswith("nvidia-cuda-runtime"):
                assert series(specifier.rpartition("=")[2]) == row.cuda
            if package.startswith("nvidia-cudnn"):
                assert any(
                    SpecifierSet(specifier).contains(f"{row.cudnn}.{patch}")
                    for patch in ("0.75", "4.25", "7.29", "0.84")
                )


def test_drivers_of_toolkits_are_no_older_than_the_least() -> None:
    """A least driver that were newer than the toolkit's own would be a mistake in one of the tables."""
    least = {one.major: numbers(one.driver) for one in tables.cuda().family}
    for one in tables.cuda().toolkit:
        if one.cuda == "11.0":  # released with an earlier driver; NVIDIA asks for the later one
            continue
        if numbers(one.cuda)[0] in least:
            assert numbers(one.driver) >= least[numbers(one.cuda)[0]], one


def test_every_source_is_named() -> None:
    """Each table has an address, a day and terms."""
    for source in (*tables.tensorflow().source, *tables.cuda().source):
        assert source.url.startswith("https://")
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", source.as_of)
        assert source.terms
    named = {name for source in tables.tensorflow().source for name in source.table.split(", ")}
    assert named == {"cpu", "gpu", "wheel"}
    assert {source.table for source in tables.cuda().source} == {"family", "toolkit", "cudnn", "gpu"}


def test_the_documentation_page_shows_the_data(tool: ModuleType) -> None:
    """The page's tables are those that `tools/knowledge page` writes."""
    text = (ROOT / "docs/reference/framework-tables.md").read_text()
    assert text.partition(f"## {tool.FIRST_TABLE}\n")[2] == tool.page_tables().partition("\n")[2]


PAGE = """
## Tested build configurations
### Linux
#### CPU
<table>
<tr><th>Version</th><th>Python version</th><th>Compiler</th><th>Build tools</th></tr>
<tr><td>tensorflow-2.21.0</td><td>3.10-3.13</td><td>Clang 18.1.8</td><td>Bazel 7.4.1</td></tr>
<tr><td>tensorflow-1.15.0</td><td>2.7, 3.3-3.7</td><td>GCC 7.3.1</td><td>Bazel 0.26.1</td></tr>
</table>
#### GPU
<tr><td>tensorflow-2.1.0</td><td>2.7, 3.5-3.6</td><td>GCC 7.3.1</td><td>Bazel 0.27.1</td><td>7.6</td><td>10.1</td></tr>
### macOS
#### CPU
<tr><td>tensorflow-2.16.1</td><td>3.9-3.12</td><td>Clang from Xcode 13.6</td><td>Bazel 6.5.0</td></tr>
"""


def test_the_tool_reads_tensorflows_page(tool: ModuleType) -> None:
    """Rows of TensorFlow 2 on Linux, each table for itself."""
    (cpu,) = tool.sources.tested(PAGE, "CPU")
    (gpu,) = tool.sources.tested(PAGE, "GPU")
    assert (cpu.release, cpu.python, cpu.bazel, cpu.cuda) == ("2.21.0", ("3.10", "3.11", "3.12", "3.13"), "7.4.1", "")
    assert (gpu.release, gpu.python, gpu.cuda, gpu.cudnn) == ("2.1.0", ("2.7", "3.5", "3.6"), "10.1", "7.6")


HTML = """<tr><td><p>CUDA 12.5 GA</p></td><td><p>&gt;=555.42.02</p></td><td>&gt;=555.85</td></tr>
<tr><td>CUDA 11.4.0 GA</td><td>&gt;=470.42.01</td></tr><tr><td>CUDA 12.5 Update 1</td><td>&gt;=555.42.06</td></tr>"""
TEXT = """CUDA 12.5 Update 1 |
>=555.42.06 |
CUDA 12.5 GA |
>=555.42.02 |
>=555.85 |
CUDA 11.4.0 GA |
>=470.42.01 |"""


@pytest.mark.parametrize("notes", [HTML, TEXT], ids=["html", "text"])
def test_the_tool_reads_nvidias_notes(tool: ModuleType, notes: str) -> None:
    """The Linux driver of the first release of a minor version, from the page or a saved text of it."""
    assert tool.sources.drivers(notes) == {"12.5": "555.42.02", "11.4": "470.42.01"}


def test_the_tool_tells_differences_from_what_it_could_not_read(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3 when a source is out of reach, 1 when one says something else."""

    def away(*_: object, **__: object) -> bytes:
        raise OSError("no network")

    monkeypatch.setattr(tool.sources, "fetch", away)
    notes = tmp_path / "notes"
    notes.write_text("CUDA 12.5 GA >=555.42.02")
    assert tool.check(str(tmp_path / "none"), str(notes)) == 3
    notes.write_text("CUDA 12.5 GA >=999.1")
    assert tool.check(str(tmp_path / "none"), str(notes)) == 1
    printed = capsys.readouterr().out
    assert "drivers: as the source says" in printed
    assert "drivers: differs" in printed
    assert "wheels of tensorflow: could not be read" in printed
