"""Hashes of packages, where their own metadata gives one."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from image_builder import Tar, put_image
from tidewaiter.inspection.catalogers import apk, conda, npm
from tidewaiter.inspection.catalogers.python import installs
from tidewaiter.inspection.image import inspect
from tidewaiter.inspection.layer_facts import Collector
from tidewaiter.oci.layout import Layout

SHA256 = "ab" * 32


def hashes(module: ModuleType, path: str, data: str) -> tuple[str, ...]:
    collector = Collector()
    module.CATALOGER.read(path, data.encode(), collector)
    (package,) = collector.packages[path]
    return package.hashes


@pytest.mark.parametrize(
    ("checksum", "found"),
    [
        ("Q1n5b0+RLZrTnzwHwqmn3BmOWQ6Wc=", ("sha1:9f96f4f912d9ad39f3c07c2a9a7dc198e590e967",)),
        ("Q1n5b0", ()),
        ("Q1****", ()),
        ("X1n5b0+RLZrTnzwHwqmn3BmOWQ6Wc=", ()),
        ("", ()),
    ],
)
def test_apk_gives_the_sha1_of_the_control_part(checksum: str, found: tuple[str, ...]) -> None:
    """`C:` counts when it is `Q1` and the base64 of 20 bytes; anything else is no hash."""
    assert hashes(apk, "lib/apk/db/installed", f"C:{checksum}\nP:musl\nV:1.2.5-r0\n") == found


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        ({"sha256": SHA256, "md5": "cd" * 16}, (f"md5:{'cd' * 16}", f"sha256:{SHA256}")),
        ({"sha256": SHA256[:-1], "md5": "not hexadecimal digits, but 32.."}, ()),
        ({"sha256": 3, "md5": None}, ()),
    ],
)
def test_conda_gives_hashes_of_the_archive(stated: dict[str, Any], found: tuple[str, ...]) -> None:
    """Hashes of a record count when they have the digits of their algorithm."""
    record = {"name": "numpy", "version": "1.26.4", **stated}
    assert hashes(conda, "opt/conda-meta/numpy-1.26.4-0.json", json.dumps(record)) == found


@pytest.mark.parametrize(
    ("integrity", "found"),
    [
        ("sha1-n5b0+RLZrTnzwHwqmn3BmOWQ6Wc=", ("sha1:9f96f4f912d9ad39f3c07c2a9a7dc198e590e967",)),
        ("sha512-n5b0+RLZrTnzwHwqmn3BmOWQ6Wc=", ()),
        ("sha1-****", ()),
        ("sha1-" + "A" * 1000, ()),
        ("crc-AAAA", ()),
        ("", ()),
        (7, ()),
    ],
)
def test_old_npm_left_the_integrity_of_the_archive(integrity: object, found: tuple[str, ...]) -> None:
    """`_integrity` counts when algorithm and length fit."""
    package = {"name": "a", "version": "1.0.0", "_integrity": integrity}
    assert hashes(npm, "node_modules/a/package.json", json.dumps(package)) == found


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"archive_info": {"hashes": {"sha256": SHA256, "x": "00"}}}, (f"sha256:{SHA256}",)),
        ({"archive_info": {"hash": f"sha256={SHA256}"}}, (f"sha256:{SHA256}",)),
        ({"archive_info": {"hash": f"sha256={SHA256}", "hashes": {"md5": "ab" * 16}}}, (f"md5:{'ab' * 16}",)),
        ({"archive_info": {"hash": "sha256"}}, ()),
        ({"archive_info": {"hashes": {"sha256": [SHA256]}}}, ()),
        ({"archive_info": []}, ()),
        ({"dir_info": {"editable": True}}, ()),
        ([], ()),
    ],
)
def test_a_direct_url_names_the_archive(document: object, found: tuple[str, ...]) -> None:
    """PEP 610: `hashes`, else `hash`; only well-formed ones."""
    collector = Collector()
    path = "s/demo-0.1.dist-info/direct_url.json"
    assert installs.wants(path)
    installs.read(path, json.dumps(document).encode(), collector)
    assert collector.archives == ({path: found} if found else {})


def test_the_hash_of_an_archive_reaches_its_distribution(tmp_path: Path) -> None:
    """A component carries the hash of its own `direct_url.json`, unless a later layer has deleted that."""
    folder = "usr/lib/python3/dist-packages/demo-1.0.dist-info"
    tar = Tar().file(f"{folder}/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
    tar.file(f"{folder}/direct_url.json", json.dumps({"url": "u", "archive_info": {"hashes": {"sha256": SHA256}}}))
    data = tar.bytes()
    gone = Tar().file(f"{folder}/.wh.direct_url.json").bytes()
    for layers, found in (([data], (f"sha256:{SHA256}",)), ([data, gone], ())):
        image = put_image(Layout(tmp_path / str(len(layers))), layers)
        (component,) = inspect(image, reference="it:1").components
        assert component.hashes == found
