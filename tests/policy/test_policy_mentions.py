"""An engine is sent no more of the input than rules can read, and rules answer as if it had been sent all of it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from parity_cases import DOCUMENTS, MUTATIONS
from policy_documents import FINDING, PASSING, change, document, make_pack

from tidewaiter.policy.engine import EmbeddedEngine
from tidewaiter.policy.input import PolicyInput
from tidewaiter.policy.mentions import Needs
from tidewaiter.policy.pack import Module, Pack, default_pack

PACKAGES: dict[str, Any] = {
    "packages__python": {"keras": ["3.0"], "numpy": ["2.1.0"], "torch": ["2.4"]},
    "packages__deb": {"bash": ["5.2"], "libc6": ["2.36"]},
}
LOOKUP = "some name in parameters.names\n\tsome version in input.packages.python[name]"
IMPORT = "package p\n\nimport data.lists.parameters\n\n"
DATA = '{"lists": {"parameters": {"names": ["numpy", "jax"], "mixed": ["numpy", 1]}}}'


def rule(body: str, *, head: str = IMPORT) -> str:
    """A module that gives the result of `a.b`; `found` holds the versions that `body` finds."""
    result = '{"id": "a.b", "status": "fail", "evidence": sort(found), "remedy": "x"}'
    return f'{head}found contains sprintf("%v", [version]) if {{\n\t{body}\n}}\n\nresults contains {result}\n'


def _all_of_it(pack: Pack) -> Pack:
    """A pack with one module more, for which the whole input is needed."""
    module = Module("whole.rego", "package whole\n\nall := input\n")
    return msgspec.structs.replace(pack, modules=(*pack.modules, module))


def test_the_default_pack_is_sent_the_packages_that_it_looks_for() -> None:
    """Names of its lists are kept with their versions; other packages, labels and commands are not sent."""
    asked = document(
        packages__python={"numpy": ["2.1.0"], "notebook": ["7.0"]},
        packages__deb={"libc6": ["2.36"], "openssh-server": ["9.2"]},
        packages__licenses={"MIT": ["numpy"], "MIT AND sspl-1.0": ["libc6"], "AGPL\u212a": ["other"]},
        findings=[FINDING],
    )
    sent = Needs(default_pack()).of(asked)
    assert sent.packages.python == {"notebook": ("7.0",)}
    assert sent.packages.deb == {"openssh-server": ("9.2",)}
    assert sent.packages.licenses == {"MIT AND sspl-1.0": ("libc6",), "AGPL\u212a": ("other",)}
    assert sent.findings == asked.findings
    assert (sent.image.labels, sent.image.entrypoint) == ({}, ())
    assert sent.image.annotations == asked.image.annotations


def test_every_answer_is_that_to_the_whole_document() -> None:
    """Documents times mutations: the packages of the default pack answer the same with all of the input."""
    pack = default_pack()
    with EmbeddedEngine(pack) as engine, EmbeddedEngine(_all_of_it(pack)) as whole:
        for base in DOCUMENTS.values():
            for changes in MUTATIONS.values():
                asked = msgspec.convert(change(base, changes), PolicyInput)
                assert engine.evaluate(asked) == whole.evaluate(asked)


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (LOOKUP, {"numpy"}),
        ("some name in parameters.names; some version in input.packages.python[name]", {"numpy"}),
        ("some name in parameters.names\n\tversion := input.packages.python[name]", None),
        ('version := input.packages.python["torch"]', {"torch"}),
        ('version := "input.packages.python" # input.packages.python', set()),
        ("some version in input.packages.python.torch", None),
        ("some _, version in input.packages.python", None),
        ("some name in parameters.names\n\tversion := 1\n\tsome version_ in input.packages.python[name]", None),
        ('some name in ["torch"]\n\tsome version in input.packages.python[name]', None),
        ("some name in parameters.mixed\n\tsome version in input.packages.python[name]", None),
        ("packages := input.packages\n\tsome version in packages.python.torch", None),
        ('version := input["packages"].python.torch', None),
        ("version := json.marshal(input)", None),
        (f'{LOOKUP}\n\tx := input.packages.python with input as {{"packages": 1}}', None),
    ],
)
def test_what_may_be_looked_up_is_sent(tmp_path: Path, body: str, sent: set[str] | None) -> None:
    """Lookups of names that are known send those; anything else that has to do with packages sends all (None)."""
    pack = make_pack(tmp_path, rule(body), "a.b", data=DATA)
    found = Needs(pack).of(document(**PACKAGES)).packages.python
    assert found.keys() == ({"keras", "numpy", "torch"} if sent is None else sent)


@pytest.mark.parametrize(
    "modules",
    [
        {"p.rego": rule(LOOKUP), "q.rego": 'package p\n\nparameters := {"names": ["torch"]}\n'},
        {"p.rego": rule(LOOKUP), "q.rego": 'package p\n\nparameters.names contains "torch"\n'},
        {"p.rego": rule(LOOKUP), "q.rego": 'package p\n\nparameters.names # x\n\n:= ["torch"]\n'},
        {"p.rego": rule(LOOKUP), "q.rego": 'package lists.parameters\n\nnames contains "torch"\n'},
        {"p.rego": rule(LOOKUP), "q.rego": 'package lists\n\nparameters["names"] := ["torch"]\n'},
        {"p.rego": rule(LOOKUP), "q.rego": 'package a["b"]\n\nx := 1\n'},
        {"p.rego": rule(f'parameters := {{"names": ["torch"]}}\n\t{LOOKUP}')},
        {"p.rego": rule(f'some parameters in [{{"names": ["torch"]}}]\n\t{LOOKUP}')},
        {"p.rego": rule(LOOKUP, head="package p\n\nimport data.lists.parameters\nimport data.x as parameters\n\n")},
        {"p.rego": rule(LOOKUP), "q.rego": 'package q\n\nx := $"{input.now}"\n'},
        {"p.rego": rule(LOOKUP, head='package p\n\nparameters := {"names": ["torch"]}\n\n')},
    ],
)
def test_a_list_that_may_be_another_sends_everything(tmp_path: Path, modules: dict[str, str]) -> None:
    """Where a rule or a variable may stand behind the list's name, what it holds is not taken from the data."""
    pack = make_pack(tmp_path, modules, "a.b", data=DATA)
    assert Needs(pack).of(document(**PACKAGES)).packages.python.keys() == {"keras", "numpy", "torch"}


@pytest.mark.parametrize("body", [LOOKUP, 'some version in input.packages.python["numpy"]'])
def test_a_lookup_finds_what_there_is(tmp_path: Path, body: str) -> None:
    """A team's rule that looks a name up fires on the version, and stays silent when the package is not there."""
    with EmbeddedEngine(make_pack(tmp_path, rule(body), "a.b", data=DATA)) as engine:
        assert b'"evidence":["2.1.0"]' in _dense(engine.evaluate(document(**PACKAGES)).packages["p"].value)
        bare = document(packages__python={"torch": ["2.4"]})
        assert b'"evidence":[]' in _dense(engine.evaluate(bare).packages["p"].value)


LICENSES = (
    "some version, packages in input.packages.licenses\n\tsome word in parameters.words\n"
    "\tcontains(lower(version), lower(word))"
)
LICENSE_DATA = '{"lists": {"parameters": {"words": ["AGPL-3.0"], "odd": ["\u212a"]}}}'


@pytest.mark.parametrize(
    ("modules", "sent"),
    [
        ({"p.rego": rule(LICENSES)}, {"agpl-3.0-only"}),
        ({"p.rego": rule(f"{LICENSES}\n\tlower(word) != 1")}, None),
        ({"p.rego": rule(f"{LICENSES}\n\tword == lower(word)")}, {"agpl-3.0-only"}),
        ({"p.rego": rule(LICENSES.replace("contains", "not contains"))}, None),
        ({"p.rego": rule(f"{LICENSES} == false")}, None),
        ({"p.rego": rule(f"{LICENSES}\n\tin {{false}}")}, None),
        ({"p.rego": rule(f"{LICENSES}\n\t== false")}, None),
        ({"p.rego": rule(LICENSES.replace("words", "odd"))}, None),
        ({"p.rego": rule(LICENSES.replace("word in", "version in"))}, None),
        ({"p.rego": rule(LICENSES.replace(", packages", ", version"))}, None),
        ({"p.rego": rule(f"{LICENSES}\n\tcount(input.packages.licenses) > 0")}, None),
        ({"p.rego": rule(LICENSES), "q.rego": 'package p\n\nlower(_) := "mit"\n'}, None),
        ({"p.rego": rule(LICENSES), "q.rego": 'package p\n\nx := [1]lower(_) := "mit"\n'}, None),
        ({"p.rego": rule(LICENSES), "q.rego": "package p\n\nimport data.other.lower\n"}, None),
        ({"p.rego": rule(LICENSES), "q.rego": 'package p\n\nparameters := {"words": ["MIT"]}\n'}, None),
    ],
)
def test_licences_without_the_words_are_not_sent(
    tmp_path: Path, modules: dict[str, str], sent: set[str] | None
) -> None:
    """Expressions go that hold a word of the list; written in any other way, the rule is sent all of them (None)."""
    pack = make_pack(tmp_path, modules, "a.b", data=LICENSE_DATA)
    every = {"MIT": ["a"], "agpl-3.0-only": ["b"]}
    found = Needs(pack).of(document(packages__licenses=every)).packages.licenses
    assert found.keys() == (every.keys() if sent is None else sent)


def _dense(value: msgspec.Raw) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(value))


def test_a_pack_without_rules_is_sent_nothing_large(tmp_path: Path) -> None:
    """A pack that reads nothing, and one that has no modules, need no packages and no findings."""
    pack = make_pack(tmp_path, PASSING, "a.b")
    for some in (pack, msgspec.structs.replace(pack, modules=())):
        sent = Needs(some).of(document(findings=[FINDING], **PACKAGES))
        assert (sent.packages.python, sent.packages.licenses, sent.findings) == ({}, {}, ())
