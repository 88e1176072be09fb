from pathlib import Path

import pytest
from policy_documents import make_pack

from tidewaiter.core.errors import InputError
from tidewaiter.policy.engine import EmbeddedEngine

HEAD = "package p\n\nimport data.q\nimport data.settings\nimport input.image as img\n\n"
OTHER = (
    'package q\n\nlimit := 3\n\nworst(found) := [f | some f in found; f.severity == "critical"]\n\nnamed(f) := f.name\n'
)
DATA = '{"settings": {"names": ["a"], "age": 3}}'


def refused(tmp_path: Path, rego: str) -> str:
    """What loading `rego` as line 7 of p.rego is refused with."""
    pack = make_pack(tmp_path, {"p.rego": HEAD + rego, "q.rego": OTHER}, data=DATA)
    with pytest.raises(InputError) as caught:
        EmbeddedEngine(pack)
    assert caught.value.code == "bad_pack"
    return caught.value.message


@pytest.mark.parametrize(
    ("rego", "message"),
    [
        ('x if input.imagee.user == ""', "there is no field 'imagee'; did you mean image?"),
        ('x if input["imagee"].user == ""', "there is no field 'imagee'"),
        ('x if input.image.usr == ""', "there is no field 'usr'; did you mean user?"),
        ('x if img.usr == ""', "there is no field 'usr'"),
        ('x if input.image.user.name == ""', "a single value has no fields"),
        ('x if input.findings.severity == "high"', "'severity' names a field of a list"),
        ('x if input.findings[_].severty == "high"', "there is no field 'severty'; did you mean severity?"),
        ('x if { some i; input.findings[i].severty == "high" }', "there is no field 'severty'"),
        ("x contains f.nme if some f in input.findings", "there is no field 'nme'; did you mean name?"),
        ("x := [f.nme | some f in input.findings]", "there is no field 'nme'"),
        ("x := {f.nme | f := input.findings[_]}", "there is no field 'nme'"),
        ("x := {f.name: f.nme | f = input.findings[_]}", "there is no field 'nme'"),
        ('x if every f in input.findings { f.nme != "" }', "there is no field 'nme'"),
        ("high := [f | some f in input.findings]\nx contains f.nme if some f in high", "there is no field 'nme'"),
        ("x contains f.nme if some f in q.worst(input.findings)", "there is no field 'nme'"),
        ("f(found) := found.nme\nx := [f(y) | some y in input.findings]", "there is no field 'nme'"),
        ('x := [z | some y in input.findings; z := object.get(y, "nme", "")]', "there is no field 'nme'"),
        ("x := sort(input.findings)[0].nme", "there is no field 'nme'"),
        ("x := array.concat(input.findings, [])[0].nme", "there is no field 'nme'"),
        ("x if { not input.image.drty }", "there is no field 'drty'; did you mean dirty?"),
        ("x if { some k; input.image[k] == 1 }", "name the field, so that it can be checked"),
        ("x if { some v in input.image; v == 1 }", "is an object with named fields"),
        ('x if { some p in input.programs; p.kind == "shel" }', '"shel" is no value of p.kind; its values: compiler'),
        ('x if { some f in input.findings; f.severity in {"high", "critcal"} }', '"critcal" is no value of f.severity'),
        ('x if input.environment != "prod"', '"prod" is no value of input.environment'),
        ("x if count(shels) == 0", "shels is not defined"),
        ("x := q.limt", "q.limt: neither a rule nor data has this name"),
        ("x := data.q.limt", "data.q.limt: neither a rule nor data has this name"),
        ("x := settings.ages", "settings.ages: neither a rule nor data has this name"),
        ("x := q.nmed(1)", "q.nmed is neither a function of this pack nor an allowed built-in"),
        ('x := starts_with(input.now, "2")', "did you mean startswith?"),
        ("x if { input.image.dirty with input as {} }", "`with` may stand in tests only"),
    ],
)
def test_typing_mistakes_are_refused_at_load(tmp_path: Path, rego: str, message: str) -> None:
    """A reference that can never hold is refused with file and line, however it is reached."""
    said = refused(tmp_path, rego)
    assert said.startswith("p.rego:")
    assert ":7: " in said or ":8: " in said
    assert message in said


@pytest.mark.parametrize(
    "call",
    [
        'http.send({"method": "get", "url": "http://localhost"})',
        'net.lookup_ip_addr("localhost")',
        'net.cidr_contains("10.0.0.0/8", "10.0.0.1")',
        "opa.runtime()",
        'rand.intn("x", 3)',
        'uuid.rfc4122("x")',
        "time.now_ns()",
        'trace("x")',
        'print("x")',
        'yaml.unmarshal("a")',
    ],
)
def test_forbidden_built_ins_are_refused_at_load(tmp_path: Path, call: str) -> None:
    """What reaches out, or answers differently twice, never loads."""
    name = call.partition("(")[0]
    assert f"p.rego:7: {name} is neither a function of this pack nor an allowed built-in" in refused(
        tmp_path, f"x := {call}"
    )


def test_syntax_errors_name_file_and_line(tmp_path: Path) -> None:
    """What does not parse is refused with the place and without the engine's stack trace."""
    said = refused(tmp_path, "x := ")
    assert said.startswith("p.rego:7: ")
    assert "backtrace" not in said


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """Each mistake has its line, so that one run is enough to mend them."""
    said = refused(tmp_path, "x if input.imagee\ny if input.nw").splitlines()
    assert [line[: len("p.rego:7")] for line in said] == ["p.rego:7", "p.rego:8"]


@pytest.mark.parametrize(
    "rego",
    [
        'x if input.image.labels.anything == "1"',
        "x := [v | some k, v in input.image.labels]",
        "x := [f.name | some i, f in input.findings; i > 0]",
        "x := input.packages.python.numpy[0]",
        "x if { some name in settings.names; input.packages.deb[name] }",
        "x := q.limit + data.q.limit",
        "x := [q.named(f) | some f in q.worst(input.findings)]",
        'x := y if { [y, z] := split(input.now, "T"); z != "" }',
        'x := {"a": 1}.a',
        "x[f.name] := f.version if some f in input.findings",
        "default x := 1\nx := 2 if input.image.dirty\nelse := 3 if input.image.pinned",
        "x if { _ = input.findings[_] }",
        'x := object.union(input.image, {"more": 1}).more',
        'x if { input.findings[i].severity == "high"; i > 3 }',
        "x if settings.age == 3",
        "f(1) := 2\nf(y) := y if y != 1\nx := f(3)",
    ],
)
def test_honest_rego_is_accepted(tmp_path: Path, rego: str) -> None:
    """The checker does not stand in the way of ordinary Rego."""
    pack = make_pack(tmp_path, {"p.rego": HEAD + rego, "q.rego": OTHER}, data=DATA)
    with EmbeddedEngine(pack) as engine:
        assert engine.pack is pack
