"""Digests of inputs, of which parts are encoded once, are those of the whole."""

import random

import msgspec
from parity_cases import DOCUMENTS, MUTATIONS
from policy_documents import change

from tidewaiter.oci import digest
from tidewaiter.policy.fingerprint import Fingerprints
from tidewaiter.policy.input import PolicyInput


def test_a_digest_is_that_of_the_whole_document() -> None:
    """Whatever came before, and whatever a document shares with it: the digest of its JSON without times."""
    changed = [
        msgspec.convert(change(base, changes), PolicyInput)
        for base in DOCUMENTS.values()
        for changes in MUTATIONS.values()
    ]
    chance = random.Random(8)
    known = Fingerprints()
    found = set()
    for _ in range(500):
        one, other = chance.sample(changed, 2)
        names = chance.sample(PolicyInput.__struct_fields__, 5)
        mixed: PolicyInput = msgspec.structs.replace(one, **{name: getattr(other, name) for name in names})
        for asked in (mixed, msgspec.structs.replace(mixed, image=other.image)):
            said = known.of(asked)
            assert said == digest.of(msgspec.json.encode(asked.without_times(), order="deterministic"))
            found.add(said)
    assert len(found) > 100
