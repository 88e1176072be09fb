"""A server's verdict held against the server's key, where the setting `server_key` names it.

1. The signed verdict came along, as it lies beside the image.
2. One of the keys of the setting signed it, as a verdict about this very image.
3. It says of this environment, by this policy, what the answer says, and is still valid.

Without the setting nothing is verified, which is said: the server is then believed because of its address and TLS.
"""

from collections.abc import Sequence
from pathlib import Path

from tidewaiter.core import clock
from tidewaiter.core.errors import InputError, NotVerifiedError, UndeterminedError
from tidewaiter.policy.verdict import Verdict
from tidewaiter.signing import predicates, statement, vsa

NOT_VERIFIED = "signature: not verified; name the server's public key in the setting server_key to have it verified"


def line(verdict: Verdict, signed: str, keys: Sequence[Path]) -> str:
    """What is to be told of the verdict's signature.

    Raises:
        NotVerifiedError: it is by none of the keys, or says something else than the answer.
        UndeterminedError: the answer allows, and is not signed.
        InputError: a file of the setting is no public key.
    """
    if not keys:
        return NOT_VERIFIED
    # 1.
    if not signed:
        if verdict.allowed:
            raise UndeterminedError(
                "the server allows it, and its verdict is not signed, so that nothing can be held against server_key",
                next_step="Ask whoever runs the server why it did not attest: it needs a verdict key and write access.",
                code="server_unusable",
            )
        return "signature: none; a denial needs none"
    from tidewaiter.signing import keyring

    # 2.
    public = [one.public for one in keyring.of_files(keys)]
    found = statement.verify(signed.encode(), public, predicate_type=predicates.VERDICT, subject=verdict.artifact)
    # 3.
    try:
        said = vsa.parse(found.statement.predicate)
    except InputError as error:
        raise _different(error.message) from error
    if (said.passed, said.environment) != (verdict.allowed, verdict.environment) or not said.is_of(verdict.artifact):
        raise _different(f"it is {'a yes' if said.passed else 'a no'} for {said.environment[:40]}")
    if said.revision != verdict.policy_revision:
        raise _different("it is of another policy")
    if said.valid_until <= clock.now():
        raise _different("its time is over")
    return f"signature: verified, by the key {found.fingerprint}"


def _different(why: str) -> NotVerifiedError:
    return NotVerifiedError(
        f"the signed verdict does not say what the server answered: {why}",
        next_step="Do not rely on the answer; ask whoever runs the server.",
    )
