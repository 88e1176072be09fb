"""`signing.keyring`: whom a home trusts, since when, until when, and for what."""

import datetime as dt
import shutil
from pathlib import Path

import msgspec
import pytest

from tidewaiter.core.errors import InputError, NotFoundError, RefusedError
from tidewaiter.signing import key_changes, keyring, keys, predicates
from tidewaiter.signing.key_changes import Terms
from tidewaiter.signing.keyring import Marks, Scope, State, TrustedKey

NOON = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
PUBLIC = keys.create().public


def placed(folder: Path, name: str, **marks: object) -> keys.PublicKey:
    """A public key and its marks, written by hand."""
    public = keys.create().public
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.pub").write_bytes(public.pem)
    written = {"builder": "local", "created": "2026-01-01T00:00:00Z", "fingerprint": public.fingerprint, **marks}
    (folder / f"{name}.json").write_bytes(msgspec.json.encode(written))
    return public


@pytest.mark.parametrize(
    ("key", "at", "state"),
    [
        (TrustedKey(public=PUBLIC, name="k"), NOON, "in_force"),
        (TrustedKey(public=PUBLIC, name="k", valid_from=NOON), NOON - HOUR, "not_yet"),
        (TrustedKey(public=PUBLIC, name="k", valid_from=NOON), NOON, "in_force"),
        (TrustedKey(public=PUBLIC, name="k", valid_until=NOON), NOON - HOUR, "in_force"),
        (TrustedKey(public=PUBLIC, name="k", valid_until=NOON), NOON, "expired"),
        (TrustedKey(public=PUBLIC, name="k", revoked_at=NOON), NOON - HOUR, "revoked"),
        (TrustedKey(public=PUBLIC, name="k", valid_until=NOON - HOUR, revoked_at=NOON), NOON, "revoked"),
    ],
)
def test_a_key_signs_only_while_it_is_in_force(key: TrustedKey, at: dt.datetime, state: State) -> None:
    """From its beginning until just before its end, and never once it is revoked; the reason names the key."""
    assert key.state(at) == state
    assert ("" if state == "in_force" else "the key k") == key.not_in_force(at)[:9]
    if state == "in_force":
        keyring.require_may_sign(key, predicates.SIGNATURE, at=at)
        return
    with pytest.raises(RefusedError) as caught:
        keyring.require_may_sign(key, predicates.SIGNATURE, at=at)
    assert (caught.value.code, caught.value.exit_code) == ("key_not_in_force", 1)


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (Scope(), True),
        (Scope(repositories=("reg.example/team/*",)), True),
        (Scope(repositories=("reg.example/other/*", "*/app")), True),
        (Scope(repositories=("reg.example/team",)), False),
        (Scope(environments=("staging", "research")), True),
        (Scope(environments=("production",)), False),
        (Scope(predicates=(predicates.SPDX, predicates.SIGNATURE)), True),
        (Scope(predicates=(predicates.VERDICT,)), False),
        (Scope(("reg.example/*",), ("staging",), (predicates.SPDX,)), False),
    ],
)
def test_a_key_signs_only_within_its_scope(scope: Scope, allowed: bool) -> None:
    """Repository, environment and predicate type must each be in the list, where there is one."""
    key = TrustedKey(public=PUBLIC, name="k", scope=scope)

    def sign() -> None:
        keyring.require_may_sign(
            key, predicates.SIGNATURE, at=NOON, repository="reg.example/team/app", environment="staging"
        )

    if allowed:
        sign()
        return
    with pytest.raises(RefusedError, match="the key k may not sign") as caught:
        sign()
    assert caught.value.code == "key_out_of_scope"


def test_what_is_not_named_is_not_compared() -> None:
    """A signature in the store has no repository and no environment yet; its predicate type is always compared."""
    key = TrustedKey(public=PUBLIC, name="k", scope=Scope(("reg.example/*",), ("staging",), (predicates.SIGNATURE,)))
    keyring.require_may_sign(key, predicates.SIGNATURE, at=NOON)
    with pytest.raises(RefusedError):
        keyring.require_may_sign(key, predicates.SPDX, at=NOON)


def test_marks_of_earlier_releases_mean_no_limits(tmp_path: Path) -> None:
    """A home that an earlier release wrote, to the byte, is read: in force for everything."""
    public = placed(tmp_path, "old")
    (tmp_path / "old.json").write_text(
        '{\n  "builder": "local",\n  "created": "2026-01-01T00:00:00Z",\n'
        f'  "fingerprint": "{public.fingerprint}"\n}}\n'
    )
    assert keyring.home(tmp_path) == (TrustedKey(public=public, name="old"),)
    assert keyring.home(tmp_path)[0].state(NOON) == "in_force"


def test_all_keys_of_a_home_are_read_by_name(tmp_path: Path) -> None:
    """Also those that are over or revoked, so that a verifier can say so; a name stands before its numbers."""
    placed(tmp_path, "b")
    placed(tmp_path, "a.1", valid_until="2026-01-02T00:00:00Z", retired=True)
    placed(tmp_path, "a", revoked_at="2026-01-02T00:00:00+01:00", reason="lost")
    ring = keyring.home(tmp_path)
    assert [(key.name, key.state(NOON)) for key in ring] == [("a", "revoked"), ("a.1", "expired"), ("b", "in_force")]
    assert ring[0].revoked_at == dt.datetime(2026, 1, 1, 23, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "marks",
    [
        {"valid_untill": "2026-01-01T00:00:00Z"},
        {"valid_until": "2026-01-01T00:00:00"},
        {"valid_until": "tomorrow"},
        {"revoked_at": 7},
        {"scope": {"repository": ["x"]}},
        {"scope": {"repositories": "x"}},
        {"scope": None},
        {"builder": None},
    ],
)
def test_marks_that_may_hold_a_limit_are_not_passed_over(tmp_path: Path, marks: dict[str, object]) -> None:
    """A misspelt, unknown or malformed field is refused: read past it, a limit would be lost."""
    placed(tmp_path, "a", **marks)
    with pytest.raises(InputError, match=r"a\.json"):
        keyring.home(tmp_path)
    with pytest.raises(InputError, match=r"a\.json"):
        keyring.of_files([tmp_path / "a.pub"])


def test_a_key_without_marks_is_not_trusted(tmp_path: Path) -> None:
    """A public key that somebody put beside the others is refused, with what to do; marks alone are none."""
    placed(tmp_path, "a")
    (tmp_path / "a.json").unlink()
    with pytest.raises(InputError, match="no marks") as caught:
        keyring.home(tmp_path)
    assert "key import" in caught.value.next_step
    placed(tmp_path, "a")
    (tmp_path / "a.pub").unlink()
    assert keyring.home(tmp_path) == ()


def test_marks_of_another_key_are_refused(tmp_path: Path) -> None:
    """Otherwise whoever swaps two files gives one key the other's rights."""
    placed(tmp_path, "a")
    placed(tmp_path, "b", builder="server")
    shutil.copy(tmp_path / "b.json", tmp_path / "a.json")
    with pytest.raises(InputError, match="another key"):
        keyring.home(tmp_path)
    with pytest.raises(InputError, match="not the marks"):
        keyring.of_files([tmp_path / "a.pub"])


def test_one_key_under_two_names_is_refused(tmp_path: Path) -> None:
    """A copy made before a revocation would go on counting."""
    placed(tmp_path, "a")
    for ending in (".pub", ".json"):
        shutil.copy(tmp_path / f"a{ending}", tmp_path / f"copy{ending}")
    with pytest.raises(InputError, match="the same key"):
        keyring.home(tmp_path)


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    """The log's key, hidden files and folders are no keys of this ring."""
    public = placed(tmp_path, "a")
    (tmp_path / "audit.key").write_text("PRIVATE+KEY+x")
    (tmp_path / "audit.vkey").write_text("x")
    (tmp_path / ".b.pub").write_text("half")
    (tmp_path / "notes").mkdir()
    assert [key.public for key in keyring.home(tmp_path)] == [public]


def test_a_folder_of_links_is_read(tmp_path: Path) -> None:
    """As Kubernetes mounts a secret: every name is a link into a folder that is swapped."""
    public = placed(tmp_path / "..data", "a")
    for ending in (".pub", ".json"):
        (tmp_path / f"a{ending}").symlink_to(tmp_path / "..data" / f"a{ending}")
    (tmp_path / "gone.pub").symlink_to(tmp_path / "nowhere")
    assert [key.public for key in keyring.home(tmp_path)] == [public]


def test_files_are_trusted_with_the_marks_beside_them(tmp_path: Path) -> None:
    """A bare public key has no limits and is nobody's but `local`; one of a home has its own, given once or twice."""
    bare = tmp_path / "cosign.pub"
    bare.write_bytes(PUBLIC.pem)
    key_changes.generate(tmp_path / "keys", "ci", b"", Terms(builder="gitlab"))
    key_changes.revoke(tmp_path / "keys", "ci", "lost")
    marked = tmp_path / "keys" / "ci.pub"
    first, second = keyring.of_files([bare, marked, bare, marked])
    assert first == TrustedKey(public=PUBLIC, name="cosign")
    assert second == keyring.home(tmp_path / "keys")[0]
    assert second.state(NOON) == "revoked"
    with pytest.raises(NotFoundError):
        keyring.of_files([tmp_path / "none.pub"])


def test_a_limit_wins_over_a_bare_copy(tmp_path: Path) -> None:
    """The same key given bare and with marks counts with its marks, in either order."""
    key_changes.generate(tmp_path / "keys", "ci", b"", Terms(builder="gitlab"))
    marked, bare = tmp_path / "keys" / "ci.pub", tmp_path / "bare.pub"
    shutil.copy(marked, bare)
    for paths in ([bare, marked], [marked, bare]):
        assert [key.builder for key in keyring.of_files(paths)] == ["gitlab"]


def test_a_revoked_key_is_not_taken_from_an_older_copy(tmp_path: Path) -> None:
    """The same key with two different marks is refused in either order: which of them counts, nobody knows."""
    key_changes.generate(tmp_path / "keys", "ci", b"", Terms(builder="gitlab"))
    shutil.copytree(tmp_path / "keys", tmp_path / "older")
    key_changes.revoke(tmp_path / "keys", "ci", "lost")
    paths = [tmp_path / "keys" / "ci.pub", tmp_path / "older" / "ci.pub"]
    for given in (paths, paths[::-1]):
        with pytest.raises(InputError, match="other marks"):
            keyring.of_files(given)
    shutil.copytree(tmp_path / "keys", tmp_path / "same")
    (key,) = keyring.of_files([paths[0], tmp_path / "same" / "ci.pub"])
    assert key.state(NOON) == "revoked"


def test_only_a_key_that_is_meant_for_verdicts_signs_them() -> None:
    """A scope that names no types is no leave to grade what one has built; a developer's own machine may."""
    named = Scope(predicates=(predicates.VERDICT,))
    for key, allowed in (
        (TrustedKey(public=PUBLIC, name="ci", builder="gitlab"), False),
        (TrustedKey(public=PUBLIC, name="server", builder="server", scope=named), True),
        (TrustedKey(public=PUBLIC, name="mine"), True),
    ):
        assert (key.out_of_scope(predicates.VERDICT) == "") is allowed
        assert key.out_of_scope(predicates.SPDX) == "" or key.scope == named


def test_malformed_marks_are_bad_input(tmp_path: Path) -> None:
    """Marks that were edited into nonsense are refused, and those that are not there are not found."""
    path = tmp_path / "x.json"
    path.write_bytes(msgspec.json.encode({"builder": "local"}))
    with pytest.raises(InputError):
        keyring.load_marks(path)
    path.write_bytes(b"[" * 60_000)
    with pytest.raises(InputError):
        keyring.load_marks(path)
    with pytest.raises(NotFoundError):
        keyring.load_marks(tmp_path / "y.json")


def test_marks_are_written_as_they_are_read(tmp_path: Path) -> None:
    """Every field survives the file."""
    scope = Scope(("a/*",), ("staging",), (predicates.SPDX,))
    marks = Marks("ci", "2026-01-01T00:00:00Z", PUBLIC.fingerprint, NOON, NOON + HOUR, NOON, "lost", True, scope)
    (tmp_path / "a.json").write_bytes(msgspec.json.encode(marks))
    assert keyring.load_marks(tmp_path / "a.json") == marks
