"""Documents that two readers would understand differently."""

import json
from typing import Any

import pytest

from tidewaiter.core.errors import InputError
from tidewaiter.oci import manifest as documents

_DIGEST = "sha256:" + "ab" * 32
_BLOB = f'{{"mediaType":"{documents.LAYER}","digest":"{_DIGEST}","size":1}}'
_CONFIG_BLOB = _BLOB.replace(documents.LAYER, documents.CONFIG)


def manifest(more: str = "", config: str = _CONFIG_BLOB, layers: str = f"[{_BLOB}]") -> bytes:
    return f'{{"schemaVersion":2,"config":{config},"layers":{layers}{more}}}'.encode()


def config(more: str = "", run: str = '"User":"1000"') -> bytes:
    rootfs = f'{{"type":"layers","diff_ids":["{_DIGEST}"]}}'
    return f'{{"architecture":"amd64","os":"linux","rootfs":{rootfs},"config":{{{run}}}{more}}}'.encode()


@pytest.mark.parametrize(
    "data",
    [
        manifest(',"layers":[]'),
        manifest(f',"config":{_CONFIG_BLOB}'),
        manifest(config=_CONFIG_BLOB.replace('"size":1', '"size":1,"size":2')),
        manifest(layers=f'[{_BLOB[:-1]},"digest":"{_DIGEST}"}}]'),
        manifest(',"annotations":{"a":"1","a":"2"}'),
        manifest(',"x":{"y":[{"a":1,"a":2}]}'),
        manifest(',"annotations":{"a":"1","\\u0061":"2"}'),
        manifest(',"annotations":{"a\\"":"\\\\","a\\"":"2"}'),
    ],
    ids=range(8),
)
def test_a_manifest_with_a_key_twice_is_refused(data: bytes) -> None:
    """The last of two keys counts for some readers, the first or both together for others."""
    with pytest.raises(InputError, match="stands twice"):
        documents.decode_manifest(data)


@pytest.mark.parametrize(
    "data",
    [
        manifest(',"Layers":[]'),
        manifest(',"layer\u017f":[]'),  # LATIN SMALL LETTER LONG S, which Go folds to s
        manifest(',"MEDIATYPE":"x"'),
        manifest(layers=f"[{_BLOB.replace('digest', 'Digest')}]"),
        manifest(config=_CONFIG_BLOB.replace('"size"', '"Size"')),
    ],
    ids=range(5),
)
def test_a_field_in_another_case_is_refused(data: bytes) -> None:
    """Go takes `Layers` for `layers`, and so the runtimes would run layers that were not inspected."""
    with pytest.raises(InputError, match="to some readers"):
        documents.decode_manifest(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (config(',"config":{"User":"0"}'), "stands twice"),
        (config(',"Config":{"User":"0"}'), "to some readers"),
        (config(run='"User":"1000","user":"0"'), "to some readers"),
        (config(run='"user":"0"'), "to some readers"),
        (config(run='"Env":["A=1"],"Env":[]'), "stands twice"),
        (config(',"RootFS":{}'), "to some readers"),
        (config(',"history":[{"Empty_Layer":true}]'), "to some readers"),
    ],
    ids=range(7),
)
def test_a_config_that_hides_its_user_is_refused(data: bytes, reason: str) -> None:
    """What a container runs as is read alike here and in the runtime."""
    with pytest.raises(InputError, match=reason):
        documents.decode_config(data)


@pytest.mark.parametrize("text", ["a:b", '":"', "\\", '\\"', '\\\\":"', '{"a":1,"a":1}', '\n"\\'])
def test_texts_may_hold_what_looks_like_keys(text: str) -> None:
    """Colons, quotes and backslashes within a name or a value are no keys."""
    more = json.dumps({"annotations": {text: text, f"{text}:": "", "x": text}, "y": [text, {text: [text]}]})[1:-1]
    assert documents.decode_manifest(manifest("," + more)).annotations == {text: text, f"{text}:": "", "x": text}


def test_maps_and_unknown_fields_may_differ_in_case() -> None:
    """Labels, annotations and fields that nobody here knows are what they are."""
    labels = json.dumps({"Labels": {"a": "1", "A": "2"}, "ExposedPorts": {"80/tcp": {}}, "X": 1, "x": 2})[1:-1]
    found = documents.decode_config(config(',"container_config":{"User":""},"id":"x"', run=labels))
    assert found.config.labels == {"a": "1", "A": "2"}
    read: Any = documents.decode_manifest(manifest(',"annotations":{"mediatype":"x","MediaType":"y"}'))
    assert read.annotations == {"mediatype": "x", "MediaType": "y"}


@pytest.mark.parametrize("value", ["{}", "[]", "1", "true"])
def test_a_media_type_that_is_no_text_is_refused(value: str) -> None:
    """A media type that cannot be looked up is bad input."""
    with pytest.raises(InputError):
        documents.decode_manifest(manifest(f',"mediaType":{value}'))


@pytest.mark.parametrize("decode", [documents.decode_manifest, documents.decode_config])
def test_text_that_is_no_utf_8_is_refused(decode: Any) -> None:
    """Bytes that are no UTF-8, inside a string, are bad input."""
    for data in (manifest(), config()):
        with pytest.raises(InputError):
            decode(data.replace(b"linux", b"l\xff").replace(b"vnd.oci", b"\xea"))
