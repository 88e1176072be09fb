"""`signing.key_hook`: a command that keeps the private key, as real programs that answer well, late or oddly."""

import base64
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from servers import Tool
from tidewaiter.core import limits
from tidewaiter.core.errors import DeadlineError, InputError, MissingToolError, NotFoundError, UndeterminedError
from tidewaiter.signing import key_hook, key_sources, keys
from tidewaiter.signing.key_hook import HookSigner

KEY = keys.create()


def script(folder: Path, name: str, *lines: str) -> str:
    """An executable shell script; its path."""
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return str(path)


def hook_file(folder: Path, **fields: object) -> str:
    """A hook file with these lines, strings quoted; its path."""
    lines = []
    for name, value in fields.items():
        words = [f'"{word}"' for word in value] if isinstance(value, list) else None
        lines.append(f"{name} = [{', '.join(words)}]" if words is not None else f"{name} = {value!r}")
    path = folder / "hook.toml"
    path.write_text("\n".join(lines).replace("'", '"'))
    return str(path)


@pytest.fixture
def public(tmp_path: Path) -> str:
    """Name of the public key's file beside the hook."""
    (tmp_path / "kms.pub").write_bytes(KEY.public.pem)
    return "kms.pub"


def made_by(openssl: str, path: Path) -> None:
    """A new private key in the file at `path`."""
    subprocess.run([openssl, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path], check=True)


def answering(folder: Path, answer: bytes) -> str:
    """A program that writes `answer`, whatever it is asked."""
    (folder / "answer").write_bytes(answer)
    return script(folder, "sign", f"cat {shlex.quote(str(folder / 'answer'))}")


def test_openssl_signs_a_digest_and_data(tmp_path: Path, tool: Tool) -> None:
    """A real signer in both ways of being asked, with its public key in PEM and as base64 of DER."""
    openssl = tool("openssl")
    private = tmp_path / "pkcs8.pem"
    made_by(openssl, private)
    pem = [openssl, "ec", "-in", str(private), "-pubout"]
    der = script(tmp_path, "der", f"{openssl} ec -in {private} -pubout -outform DER | base64 -w 60")
    digest = [openssl, "pkeyutl", "-sign", "-inkey", str(private)]
    encoded = script(tmp_path, "encoded", f"{openssl} dgst -sha256 -sign {private} | base64 -w 40")
    first = HookSigner(key_hook.parse(hook_file(tmp_path, sign=digest, public_key=pem)))
    second = HookSigner(key_hook.parse(hook_file(tmp_path, sign=[encoded], public_key=[der], stdin="data")))
    assert first.public == second.public
    for data in (b"data", b"x" * (1 << 20), b""):
        for signer in (first, second):
            assert signer.public.holds(signer.sign(data), data)


def test_a_command_is_asked_with_a_word(tmp_path: Path, tool: Tool) -> None:
    """`hook:COMMAND` is called with `public-key` and `sign` after its own words; the home's terms hold for its key."""
    openssl = tool("openssl")
    program = script(
        tmp_path,
        "kms tool",
        '[ "$1" = "two words" ] || exit 9',
        'case "$2" in',
        f'public-key) {openssl} ec -in "$0.pem" -pubout;;',
        f'sign) {openssl} pkeyutl -sign -inkey "$0.pem";;',
        "esac",
    )
    made_by(openssl, Path(f"{program}.pem"))
    text = f"hook:{shlex.quote(program)} 'two words'"

    def nobody_asks() -> bytes:
        raise AssertionError

    opened = key_sources.open_key(text, tmp_path / "keys", nobody_asks)
    assert opened.signer.public.holds(opened.signer.sign(b"data"), b"data")
    assert (opened.trusted.public, opened.trusted.builder) == (opened.signer.public, "local")
    assert key_sources.public_key(text) == opened.signer.public


@pytest.mark.parametrize("encode", [bytes, base64.b64encode, base64.encodebytes])
def test_a_signature_is_der_or_base64(tmp_path: Path, public: str, encode: type[bytes]) -> None:
    """Plain, in one line, or in lines."""
    program = answering(tmp_path, encode(KEY.sign(b"data")))
    assert KEY.public.holds(
        HookSigner(key_hook.parse(hook_file(tmp_path, sign=[program], public_key=public))).sign(b"data"), b"data"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"0",
        b"no base64!",
        base64.b64encode(b"no signature"),
        KEY.sign(b"other data"),
        keys.create().sign(b"data"),
        KEY.sign(b"data") + b"\0",
        b"vault:v1:" + base64.b64encode(KEY.sign(b"data")),
    ],
    # Signatures differ from run to run, and names of tests may not.
    ids=["nothing", "one letter", "no base64", "text", "other data", "another key", "a byte more", "vault's form"],
)
def test_an_answer_that_does_not_verify_is_never_used(tmp_path: Path, public: str, answer: bytes) -> None:
    """Nothing, rubbish, a signature of something else or by another key: could not find out, not a signature."""
    signer = HookSigner(key_hook.parse(hook_file(tmp_path, sign=[answering(tmp_path, answer)], public_key=public)))
    with pytest.raises(UndeterminedError, match="no signature by its public key") as caught:
        signer.sign(b"data")
    assert caught.value.code == "key_hook_failed"


@pytest.mark.parametrize("answer", [b"", b"rubbish", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_an_answer_that_is_no_public_key_is_could_not_find_out(tmp_path: Path, answer: bytes) -> None:
    """The key service said something odd, which is not the user's bad input."""
    program = answering(tmp_path, answer)
    with pytest.raises(UndeterminedError) as caught:
        HookSigner(key_hook.parse(program))
    assert caught.value.code == "key_hook_failed"


def test_a_failing_command_says_why(tmp_path: Path, public: str) -> None:
    """Its status and the end of its complaint, without what could steer a terminal."""
    program = script(tmp_path, "sign", "printf 'no \\033[31mcredentials' >&2", "exit 3")
    signer = HookSigner(key_hook.parse(hook_file(tmp_path, sign=[program], public_key=public)))
    with pytest.raises(UndeterminedError, match=r"status 3: no .*credentials") as caught:
        signer.sign(b"data")
    assert "\033" not in caught.value.message


def test_a_missing_program_is_a_missing_tool(tmp_path: Path, public: str) -> None:
    """Not there, or not executable."""
    (tmp_path / "plain").write_text("x")
    for program in (str(tmp_path / "none"), "./plain", "no-such-program-anywhere"):
        signer = HookSigner(key_hook.parse(hook_file(tmp_path, sign=[program], public_key=public)))
        with pytest.raises(MissingToolError):
            signer.sign(b"data")


def test_a_late_command_is_ended_with_all_that_it_started(tmp_path: Path, public: str) -> None:
    """Also one that is done itself but left a child that holds its output."""
    marker = tmp_path / "alive"
    for last in ("sleep 60", "exit 0"):
        program = script(tmp_path, "sign", f"(sleep 1.5; touch {shlex.quote(str(marker))}; sleep 60) &", last)
        signer = HookSigner(key_hook.parse(hook_file(tmp_path, sign=[program], public_key=public, seconds=0.5)))
        began = time.monotonic()
        with pytest.raises(DeadlineError):
            signer.sign(b"data")
        assert time.monotonic() - began < 5
    time.sleep(1.5)
    assert not marker.exists()


@pytest.mark.parametrize("stream", ["1", "2"])
def test_what_a_command_writes_is_bounded(tmp_path: Path, public: str, stream: str) -> None:
    """An endless answer or complaint ends with an error, soon."""
    program = script(tmp_path, "sign", f"yes >&{stream}")
    signer = HookSigner(key_hook.parse(hook_file(tmp_path, sign=[program], public_key=public)))
    began = time.monotonic()
    with pytest.raises(UndeterminedError, match="over"):
        signer.sign(b"data")
    assert time.monotonic() - began < 10


def test_an_answer_at_the_bound_is_read(tmp_path: Path, public: str) -> None:
    """White space up to the bound does not hurt."""
    answer = base64.b64encode(KEY.sign(b"data")).ljust(limits.KEY_HOOK_BYTES, b"\n")
    signer = HookSigner(key_hook.parse(hook_file(tmp_path, sign=[answering(tmp_path, answer)], public_key=public)))
    assert KEY.public.holds(signer.sign(b"data"), b"data")


def test_a_command_gets_only_what_it_names(tmp_path: Path, public: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password of keys and other people's secrets are not in its environment; what the hook names is."""
    for name in ("COSIGN_PASSWORD", "TIDEWAITER_IDENTITY", "OTHER_SECRET", "AWS_PROFILE"):
        monkeypatch.setenv(name, "value")
    seen = tmp_path / "seen"
    program = script(tmp_path, "sign", f"env > {shlex.quote(str(seen))}", "exit 1")
    text = hook_file(tmp_path, sign=[program], public_key=public, environment=["AWS_PROFILE", "NOT_SET"])
    with pytest.raises(UndeterminedError):
        HookSigner(key_hook.parse(text)).sign(b"data")
    variables = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert "AWS_PROFILE" in variables
    assert variables.isdisjoint({"COSIGN_PASSWORD", "TIDEWAITER_IDENTITY", "OTHER_SECRET", "NOT_SET"})


@pytest.mark.parametrize("name", ["COSIGN_PASSWORD", "TIDEWAITER_HOME"])
def test_a_hook_may_not_ask_for_our_own_variables(tmp_path: Path, public: str, name: str) -> None:
    """A key service needs neither our password nor our settings."""
    text = hook_file(tmp_path, sign=["true"], public_key=public, environment=[name])
    with pytest.raises(InputError, match="own"):
        HookSigner(key_hook.parse(text)).sign(b"data")


def test_words_are_not_a_shell(tmp_path: Path, public: str) -> None:
    """What would be a redirection or a second command is a word."""
    marker = tmp_path / "marker"
    signer = HookSigner(
        key_hook.parse(hook_file(tmp_path, sign=["echo", f"; touch {marker}", f"> {marker}"], public_key=public))
    )
    with pytest.raises(UndeterminedError):
        signer.sign(b"data")
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "sign = 7",
        "sign = []\npublic_key = 'a'",
        "sign = ['a']",
        "sign = ['a']\npublic_key = []",
        "sign = 'a'\npublic_key = 'a'",
        "sign = ['a']\npublic_key = 'a'\nstdin = 'hash'",
        "sign = ['a']\npublic_key = 'a'\nseconds = 0",
        f"sign = ['a']\npublic_key = 'a'\nseconds = {limits.KEY_HOOK_SECONDS_AT_MOST + 1}",
        "sign = ['a']\npublic_key = 'a'\nsignn = ['b']",
        "sign = ['a",
        "\udcff",
    ],
)
def test_malformed_hook_files_are_bad_input(tmp_path: Path, content: str) -> None:
    """A missing, misspelt or impossible value is named."""
    path = tmp_path / "hook.toml"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"hook\.toml is no key hook"):
        key_hook.parse(str(path))


def test_a_hook_that_is_no_command_is_bad_input(tmp_path: Path) -> None:
    """Empty, an open quote, and a file that is not there."""
    for text in ("", "  ", "'open"):
        with pytest.raises(InputError):
            key_hook.parse(text)
    with pytest.raises(NotFoundError):
        key_hook.parse(str(tmp_path / "none.toml"))
