"""`signing.key_pkcs11`: URIs of keys in tokens, and what is said when there is no library, module or PIN."""

import sys
from pathlib import Path

import pytest

from tidewaiter.core.errors import InputError, MissingToolError, NotFoundError, TidewaiterError, UndeterminedError
from tidewaiter.signing import key_pkcs11, key_sources
from tidewaiter.signing.key_pkcs11 import Uri

WHOLE = (
    "pkcs11:token=image%20keys;serial=0a1b;manufacturer=Maker;model=M%2d1;object=rele%C3%A4se;id=%01%ff;type=private"
    "?module-path=/opt/vendor/lib%3B1.so&pin-source=file:/run/pin"
)
SHORT = "pkcs11:token=t;object=o"


def test_a_uri_says_token_key_module_and_pin() -> None:
    """Escapes are resolved once, after the parts were told apart."""
    assert key_pkcs11.parse(WHOLE) == Uri(
        module=Path("/opt/vendor/lib;1.so"),
        token={"label": "image keys", "serial": "0a1b", "manufacturer": "Maker", "model": "M-1"},
        label="releäse",
        id=b"\x01\xff",
        pin_source="file:/run/pin",
    )
    few = key_pkcs11.parse("pkcs11:serial=1;id=%00?module-path=/m.so")
    assert (few.token, few.label, few.id, few.pin_source) == ({"serial": "1"}, None, b"\0", "")


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:",
        "pkcs11:?module-path=/m.so",
        SHORT,
        f"{SHORT}?module-path=m.so",
        f"{SHORT}?module-path=",
        "pkcs11:object=o?module-path=/m.so",
        "pkcs11:model=m;object=o?module-path=/m.so",
        "pkcs11:token=t?module-path=/m.so",
        f"{SHORT};object=p?module-path=/m.so",
        f"{SHORT};type=public?module-path=/m.so",
        f"{SHORT};slot-id=1?module-path=/m.so",
        f"{SHORT};id?module-path=/m.so",
        f"{SHORT}?module-path=/m.so&module-path=/n.so",
        f"{SHORT}?module-path=/m.so&module-name=m",
        f"{SHORT}?module-path=/m.so%00",
        "pkcs11:token=%ff;object=o?module-path=/m.so",
        "pkcs11:token=%zz;object=o?module-path=/m.so",
        "pkcs11:token=a b;object=o?module-path=/m.so",
    ],
)
def test_an_unclear_uri_is_refused(text: str) -> None:
    """One that names no token, no key, no module, or says anything twice or that is not understood."""
    with pytest.raises(InputError, match="PKCS#11 URI"):
        key_pkcs11.parse(text)


def test_a_pin_in_the_uri_is_refused_and_not_shown() -> None:
    """A PIN on the command line stands in the list of processes; the error must not be its second place."""
    with pytest.raises(InputError, match="pin-source") as refused:
        key_pkcs11.parse(f"{SHORT}?module-path=/m.so&pin-value=271828")
    assert "271828" not in str(refused.value) + refused.value.next_step


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without python-pkcs11 the user learns what to install."""
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(MissingToolError) as missing:
        key_sources.public_key(f"{SHORT}?module-path=/m.so")
    assert "pip install tidewaiter[pkcs11]" in missing.value.next_step


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("module-path=/nowhere/m.so", NotFoundError),
        (f"module-path={sys.executable}", UndeterminedError),
        (f"module-path={sys.executable}&pin-source=env:TEST_PIN_THAT_IS_NOT_SET", NotFoundError),
        (f"module-path={sys.executable}&pin-source=/nowhere/pin", NotFoundError),
        (f"module-path={sys.executable}&pin-source=%7C/bin/cat", InputError),
        (f"module-path={sys.executable}&pin-source=pin.txt", InputError),
    ],
)
def test_what_is_missing_is_said(query: str, error: type[TidewaiterError]) -> None:
    """No module there, a program in its place, no PIN at its place, or a place that is none."""
    with pytest.raises(error):
        key_sources.public_key(f"{SHORT}?{query}")
