"""What counts as a secret in a Dockerfile."""

import pytest

from tidewaiter.assembly import dockerfile_secrets


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_PASSWORD", "hunter22"),
        ("API_TOKEN", "abcdefghij"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMIK7MDENG"),
        ("OPENAI_API_KEY", "abcdef0123456789"),
        ("SOMETHING", "ghp_" + "a" * 36),
        ("SOMETHING", "hf_" + "b" * 34),
        ("SOMETHING", "AKIA" + "ABCDEFGH12345678"),
        ("PIP_INDEX_URL", "https://user:pass@pypi.example.com/simple"),
        ("KEYFILE", "-----BEGIN RSA PRIVATE KEY-----"),
    ],
)
def test_secrets_are_recognised(name: str, value: str) -> None:
    """Plain values under telling names, and tokens of a known form under any name."""
    assert dockerfile_secrets.found_in(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "false"),
        ("GPG_KEY", "A035C8C19219BA821ECEA86B64E628F8D684696D"),
        ("PASSWORD", ""),
        ("DB_PASSWORD_FILE", "/run/secrets/db"),
        ("API_TOKEN", "/run/secrets/token"),
        ("API_TOKEN", "$OTHER"),
        ("MAX_TOKENS", "4096"),
        ("PASSWORD_MIN", "12"),
        ("SECRET_NAME", "database"),
        ("PIP_INDEX_URL", "https://pypi.example.com/simple"),
        ("REPOSITORY", "git+ssh://git@git.example.com/x"),
        ("MONKEY", "banana"),
    ],
)
def test_what_is_common_and_harmless_is_let_through(name: str, value: str) -> None:
    """Names that only sound like secrets, and values that point to one or hold none."""
    assert dockerfile_secrets.found_in(name, value) is None
