"""Trust policies: what a file may say, what it may not, and what an environment demands without one."""

import datetime as dt
import re
from pathlib import Path

import pytest

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, NotFoundError
from tidewaiter.core.project import Environment
from tidewaiter.oci import digest as digests
from tidewaiter.signing import keys, predicates, trust
from tidewaiter.signing.keyring import Scope, TrustedKey

CI, SERVER = keys.create().public, keys.create().public
REVISION = digests.of(b"policy")

WHOLE = f'''
environment = "production"
require = ["signature", "spdx", "cyclonedx", "slsaprovenance1", "vsa", "https://models.example/evaluation/v1"]
sources = ["https://git.example/vision/*"]
builders = ["ci"]
origin = "https://tidewaiter.example/"
revisions = ["{REVISION}"]
verdict_hours = 6

[[key]]
name = "ci-2026"
path = "keys/ci.pub"
builder = "ci"
valid_from = 2026-01-01T00:00:00Z
valid_until = 2027-01-01T00:00:00+01:00
repositories = ["registry.example/vision/*"]
environments = ["staging", "production"]
predicates = ["signature", "spdx", "cyclonedx", "slsaprovenance1"]

[[key]]
name = "server"
pem = """
{SERVER.pem.decode()}"""
builder = "server"
revoked_at = "2026-06-01T00:00:00Z"
predicates = ["vsa"]
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a policy and the key file that it names."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "ci.pub").write_bytes(CI.pem)
    (tmp_path / "trust.toml").write_text(WHOLE)
    return tmp_path


def parse(text: str, directory: Path) -> trust.Trust:
    return trust.parse(text.encode(), source="trust.toml", directory=directory)


def test_a_whole_policy(folder: Path) -> None:
    """Every key of the file is read, times in UTC, short names as URIs, paths below the file's folder."""
    found = trust.load(folder / "trust.toml")
    assert found == trust.Trust(
        environment="production",
        demanded=(
            predicates.SIGNATURE,
            predicates.SPDX,
            predicates.CYCLONEDX,
            predicates.PROVENANCE,
            predicates.VERDICT,
            "https://models.example/evaluation/v1",
        ),
        sources=("https://git.example/vision/*",),
        builders=("ci",),
        origin="https://tidewaiter.example",
        revisions=(REVISION,),
        verdict_seconds=6 * 3600,
        ring=(
            TrustedKey(
                public=CI,
                name="ci-2026",
                builder="ci",
                valid_from=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
                valid_until=dt.datetime(2026, 12, 31, 23, tzinfo=dt.UTC),
                scope=Scope(
                    repositories=("registry.example/vision/*",),
                    environments=("staging", "production"),
                    predicates=(
                        predicates.SIGNATURE,
                        predicates.SPDX,
                        predicates.CYCLONEDX,
                        predicates.PROVENANCE,
                    ),
                ),
            ),
            TrustedKey(
                public=SERVER,
                name="server",
                builder="server",
                revoked_at=dt.datetime(2026, 6, 1, tzinfo=dt.UTC),
                scope=Scope(predicates=(predicates.VERDICT,)),
            ),
        ),
    )


def test_the_smallest_policy(folder: Path) -> None:
    """Environment, one demand, one key: everything else has a default, and the key is a developer's own."""
    found = parse(
        'environment = "research"\nrequire = ["signature"]\n[[key]]\nname = "a"\npath = "keys/ci.pub"', folder
    )
    assert found.ring == (TrustedKey(public=CI, name="a"),)
    assert found.verdict_seconds == limits.VERDICT_SECONDS
    assert (found.sources, found.builders, found.revisions, found.origin) == ((), (), (), "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('environment = "production"\n', ""),
        ('environment = "production"', 'environment = "Production"'),
        ("require = [", "requires = ["),
        ("require = [", "require = []\nmore = ["),
        ('"signature", "spdx", "cyclonedx", "slsaprovenance1", "vsa", "https://models.example/evaluation/v1"', ""),
        ('"spdx", "cyclonedx", "slsaprovenance1", "vsa"', '"SPDX"'),
        ('require = ["signature"', 'require = ["signature", 5'),
        ("require = [", 'require = "signature"\nx = ['),
        ('builders = ["ci"]', 'builders = "ci"'),
        ('builders = ["ci"]', 'builders = [""]'),
        (f'"{REVISION}"', f'"{REVISION[:-1]}"'),
        (f'"{REVISION}"', f'"{digests.hexadecimal(REVISION)}"'),
        ("verdict_hours = 6", "verdict_hours = 0"),
        ("verdict_hours = 6", "verdict_hours = 25"),
        ("verdict_hours = 6", "verdict_hours = 1.5"),
        ("verdict_hours = 6", "skip = true"),
        ('name = "ci-2026"\n', ""),
        ('name = "ci-2026"', 'name = ""'),
        ('name = "ci-2026"', 'name = "server"'),
        ('name = "ci-2026"', 'name = "ci-2026"\npurpose = "x"'),
        ('path = "keys/ci.pub"\n', ""),
        ('path = "keys/ci.pub"', 'path = "keys/ci.pub"\npem = "x"'),
        ('path = "keys/ci.pub"', 'pem = "x"'),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00"),
        ("2026-01-01T00:00:00Z", "2026-01-01"),
        ("2026-01-01T00:00:00Z", "1700000000"),
        ("2026-01-01T00:00:00Z", '"0001-01-01T00:00:00+23:59"'),
        ('environments = ["staging", "production"]', 'environments = ["Staging"]'),
        ('predicates = ["vsa"]', 'predicates = ["verdict"]'),
        ('predicates = ["vsa"]', 'predicates = "vsa"'),
        ("verdict_hours = 6", "verdict_hours = 6\nverdict_hours = 6"),
        ("[[key]]", "[[keys]]"),
        ("[[key]]", "[key]"),
        ('environment = "production"', "environment = \ud800".encode("utf-8", "surrogatepass").decode("latin-1")),
        ('environment = "production"', f"x = {'[' * 5000}{']' * 5000}"),
    ],
)
def test_what_is_not_exactly_a_policy_is_refused(folder: Path, old: str, new: str) -> None:
    """Unknown and doubled keys, other types, unknown names, empty demands: nothing is guessed."""
    assert old in WHOLE
    with pytest.raises(InputError) as caught:
        parse(WHOLE.replace(old, new), folder)
    assert caught.value.code == "bad_trust_policy" or "public key in PEM" in caught.value.message


def test_one_key_may_stand_once(folder: Path) -> None:
    """A key under two names could be revoked under one of them only."""
    twice = WHOLE + '[[key]]\nname = "ci-again"\npath = "keys/ci.pub"\n'
    with pytest.raises(InputError, match="the same key"):
        parse(twice, folder)


def test_a_policy_without_keys_is_refused() -> None:
    """It could never hold, and says so at once."""
    with pytest.raises(InputError, match="trusts no key"):
        parse('environment = "research"\nrequire = ["signature"]\nkey = []', Path())


def test_files_that_are_missing(folder: Path) -> None:
    """A policy or a key file that is not there is named."""
    with pytest.raises(NotFoundError, match=r"none\.toml"):
        trust.load(folder / "none.toml")
    with pytest.raises(InputError, match="a folder"):
        trust.load(folder)
    with pytest.raises(InputError, match="cannot be read"):
        trust.load(folder / ("long" * 100))
    (folder / "keys" / "ci.pub").unlink()
    with pytest.raises(NotFoundError, match=r"ci\.pub"):
        trust.load(folder / "trust.toml")


def test_the_file_is_bounded(folder: Path) -> None:
    """TRUST_POLICY_BYTES and TRUSTED_KEYS hold from both sides."""
    padded = WHOLE + "#" * (limits.TRUST_POLICY_BYTES - len(WHOLE))
    assert parse(padded, folder).environment == "production"
    with pytest.raises(InputError, match="over"):
        parse(padded + "#", folder)
    head = 'environment = "research"\nrequire = ["signature"]\n'
    sections = [
        f'[[key]]\nname = "{number}"\npem = """{keys.create().public.pem.decode()}"""\n'
        for number in range(limits.TRUSTED_KEYS + 1)
    ]
    assert len(parse(head + "".join(sections[1:]), folder).ring) == limits.TRUSTED_KEYS
    with pytest.raises(InputError, match="keys, over"):
        parse(head + "".join(sections), folder)


EVERYTHING = {
    predicates.SIGNATURE,
    predicates.SPDX,
    predicates.CYCLONEDX,
    predicates.PROVENANCE,
    predicates.VERDICT,
}


@pytest.mark.parametrize(
    ("environment", "demanded"),
    [
        ("research", {predicates.SIGNATURE}),
        ("staging", EVERYTHING),
        ("production", EVERYTHING),
    ],
)
def test_what_an_environment_demands(environment: Environment, demanded: set[str]) -> None:
    """Each environment demands all that the one before it does; only production refuses developers' own keys."""
    ring = (TrustedKey(public=CI, name="a"), TrustedKey(public=SERVER, name="b", builder="server"))
    found = trust.for_environment(environment, ring, sources=["https://git.example/*"], builders=["server"])
    assert set(found.demanded) == demanded
    assert found.ring == ring
    assert found.counting == (ring[1:] if environment == "production" else ring)
    assert (found.sources, found.builders) == (("https://git.example/*",), ("server",))


def test_sources_are_patterns_of_the_whole_url() -> None:
    """A pattern is anchored at both ends, and minds its case; no pattern at all allows every source."""
    ring = (TrustedKey(public=CI, name="a"),)
    found = trust.for_environment("staging", ring, sources=["https://git.example/vision/*", "https://x.example/one"])
    for url, allowed in (
        ("https://git.example/vision/a", True),
        ("https://git.example/vision/a/b", True),
        ("https://x.example/one", True),
        ("https://x.example/one/more", False),
        ("https://git.example/vision", False),
        ("https://git.example/Vision/a", False),
        ("https://evil.example/https://git.example/vision/a", False),
        ("", False),
    ):
        assert found.allows_source(url) is allowed, url
    assert trust.for_environment("staging", ring).allows_source("")


PAGE = Path(__file__).parents[2] / "docs" / "reference" / "trust-policy.md"


def test_the_reference_page_holds_a_true_example_and_every_key(folder: Path) -> None:
    """Its examples load, and its tables name every key of the file, of `[[key]]` and of `[[identity]]`."""
    text = PAGE.read_text()
    example, identity = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    for name in ("ci", "server"):
        (folder / "keys" / f"{name}.pub").write_bytes({"ci": CI, "server": SERVER}[name].pem)
    assert parse(example, folder).environment == "production"
    assert parse(example + identity, folder).ring[-1].name == "release"
    named = set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE))
    sections = (trust.PolicyFile, trust.KeySection, trust.IdentitySection)
    assert named == {field for one in sections for field in one.__struct_fields__} - {"key", "identity"}
