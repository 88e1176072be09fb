import json
from pathlib import Path

import msgspec
import pytest
from policy_documents import document

from tidewaiter.core import limits
from tidewaiter.core.errors import InputError, LimitError
from tidewaiter.policy import layers
from tidewaiter.policy.engine import EmbeddedEngine
from tidewaiter.policy.pack import Pack, default_pack
from tidewaiter.policy.testing import run_tests
from tidewaiter.policy.verdict import decide

TEAM_RULE = """
[[rule]]
id = "team.label"
title = "Names its team"
failure = "The image does not name its team."
why = "Somebody must answer for it."
severity = "low"
levels = { research = "warn", staging = "deny", production = "deny" }
"""
TEAM_REGO = """package company.team

import data.tidewaiter.lib

missing contains "label `team` is missing" if not input.image.labels.team

results contains lib.outcome("team.label", missing, "Write `LABEL team=...`.")
"""
TEAM_TEST = """package company.team_test

import data.company.team
import data.tidewaiter.document_test as document

test_label_is_asked_for if {
	found := team.results with input as document.good
	document.fails(found, "team.label", ["label `team` is missing"])
}
"""


def write(parent: Path, manifest: str, *, name: str = "company", data: str = "", **modules: str) -> Path:
    """A layer's folder: its manifest without the name, and its Rego files."""
    folder = parent / name
    folder.mkdir()
    (folder / "pack.toml").write_text(f'name = "{name}"\n{manifest}')
    for path, text in modules.items():
        (folder / f"{path}.rego").write_text(text)
    if data:
        (folder / "data.json").write_text(data)
    return folder


def parameters(pack: Pack) -> dict[str, object]:
    """Parameters of the pack that ships, as `pack` has them."""
    values: dict[str, object] = msgspec.json.decode(pack.data)["tidewaiter"]["parameters"]
    return values


def refusal(folder: Path) -> str:
    """Why a layer on top of the shipped pack is refused."""
    with pytest.raises(InputError) as error:
        layers.effective([folder])
    assert error.value.code == "bad_pack"
    return error.value.message


def test_without_layers_the_policy_is_the_one_that_ships() -> None:
    """No setting, no change: not even of the revision."""
    assert layers.effective([]) == default_pack()


def test_layer_adds_rules_and_tightens(tmp_path: Path) -> None:
    """Its rule is asked, a level is raised and a parameter lowered; the image that was allowed is denied for both."""
    company = write(
        tmp_path,
        '[tighten.rules]\n"name.no-latest" = { research = "deny" }\n[tighten.parameters]\nadvisory_age_days = 0\n'
        + TEAM_RULE,
        team=TEAM_REGO,
    )
    pack = layers.effective([company])
    assert (pack.layers, parameters(pack)["advisory_age_days"]) == (("default", "company"), 0)
    assert parameters(default_pack())["advisory_age_days"] == 7
    with EmbeddedEngine(pack) as engine:
        assert [item.rule for item in decide(document(), engine).violations] == ["advisories.age"]
        without = decide(document(image__labels={}, environment="staging"), engine)
        assert [item.rule for item in without.violations] == ["team.label"]
        moving = document(image__tag="latest", environment="research")
        assert [item.rule for item in decide(moving, engine).violations] == ["name.no-latest"]


def test_team_stands_on_company(tmp_path: Path) -> None:
    """A third layer tightens what the second added, and may not loosen it."""
    company = write(tmp_path, TEAM_RULE, team=TEAM_REGO)
    tighter = write(tmp_path, '[tighten.rules]\n"team.label" = { research = "deny" }\n', name="team")
    rule = layers.effective([company, tighter]).rule("team.label")
    assert rule is not None
    assert rule.levels.research == "deny"
    looser = write(tmp_path, '[tighten.rules]\n"team.label" = { staging = "warn" }\n', name="lax")
    with pytest.raises(InputError, match=r"policy layer lax: rule team\.label may not go from deny to warn in staging"):
        layers.effective([company, looser])


def test_revision_covers_every_layer(tmp_path: Path) -> None:
    """A change of any layer, and their order, change the revision."""
    one = write(tmp_path, TEAM_RULE, team=TEAM_REGO)
    two = write(tmp_path, '[tighten.rules]\n"image.no-shell" = { research = "deny" }\n', name="two")
    three = write(tmp_path, '[tighten.rules]\n"image.no-shell" = { research = "warn" }\n', name="three")
    stacks = [[], [one], [one, two], [two, one], [one, three]]
    assert len({layers.effective(stack).revision for stack in stacks}) == len(stacks)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (
            '[tighten.rules]\n"image.no-shell" = { production = "warn" }',
            "rule image.no-shell may not go from deny to warn",
        ),
        ('[tighten.rules]\n"image.no-shell" = { staging = "off" }', "rule image.no-shell may not go from warn to off"),
        ('[tighten.rules]\n"image.no-shel" = { staging = "deny" }', "names image.no-shel, and no lower layer"),
        ("[tighten.parameters]\nadvisory_age_days = 8", "parameter advisory_age_days may only change in the direction"),
        ("[tighten.parameters]\nadvisory_age_days = nan", "parameter advisory_age_days may only change"),
        ("[tighten.parameters]\nadvisory_age_days = ['7']", "parameter advisory_age_days may only change"),
        ("[tighten.parameters]\nssh_packages = []", "parameter ssh_packages may only change in the direction `more`"),
        (
            "[tighten.parameters]\ntag_patterns = ['.*']",
            "parameter tag_patterns may only change in the direction `fewer`",
        ),
        ("[tighten.parameters]\nunheard_of = 1", "names unheard_of, and no lower layer has such a parameter"),
        (TEAM_RULE.replace("team.label", "image.no-shell"), "rule image.no-shell belongs to a lower layer"),
        (
            '[[parameter]]\nname = "epss_threshold"\nmeaning = "x"\ntighter = "stays"\n',
            "parameter epss_threshold belongs to a lower layer",
        ),
        (
            '[[parameter]]\nname = "own"\nmeaning = "x"\ntighter = "stays"\n',
            "data.json gives parameter own not exactly once",
        ),
    ],
)
def test_loosening_is_refused_with_its_name(tmp_path: Path, manifest: str, message: str) -> None:
    """What would ask less of an image is refused at load, with the rule or parameter named."""
    assert message in refusal(write(tmp_path, manifest))


@pytest.mark.parametrize(
    "change",
    [
        "advisory_age_days = 3",
        "epss_threshold = 0.1",
        "ssh_packages = ['dropbear', 'dropbear-bin', 'openssh-server', 'tinyssh', 'lsh-server']",
        "tag_patterns = []",
    ],
)
def test_tightening_in_the_declared_direction_is_taken(tmp_path: Path, change: str) -> None:
    """Lower numbers, more of what is forbidden, fewer of what is accepted."""
    name, _, value = change.partition(" = ")
    pack = layers.effective([write(tmp_path, f"[tighten.parameters]\n{change}")])
    assert parameters(pack)[name] == json.loads(value.replace("'", '"'))


@pytest.mark.parametrize(
    "package",
    [
        "package tidewaiter.build",
        'package tidewaiter["build"]',
        "package tidewaiter",
        "\n# package other\n\tpackage tidewaiter.new",
    ],
)
def test_layer_adds_nothing_to_packages_below(tmp_path: Path, package: str) -> None:
    """A second definition of `registered` would make every builder a registered one."""
    rego = f"{package}\n\nregistered := true\n"
    assert "`tidewaiter` belongs to a lower layer" in refusal(write(tmp_path, "", p=rego))


@pytest.mark.parametrize("text", ["registered := true", "package input.x", "package data", "", '"x" package p'])
def test_package_that_cannot_be_told_is_refused(tmp_path: Path, text: str) -> None:
    """A file whose package is not plain to see could hide below another."""
    assert "p.rego: it does not begin with a package" in refusal(write(tmp_path, "", p=text))


def test_layer_adds_no_data_below(tmp_path: Path) -> None:
    """Data of a lower layer changes by declared parameters only."""
    assert "`tidewaiter` belongs" in refusal(write(tmp_path, "", data='{"tidewaiter": {"parameters": {}}}'))


def test_names_of_layers_are_their_own(tmp_path: Path) -> None:
    """A name twice, or one that is no name, is refused."""
    assert "same name" in refusal(write(tmp_path, "", name="default"))
    assert "its name is not made of" in refusal(write(tmp_path, "", name="The Team"))


def test_result_for_a_rule_of_another_layer_denies(tmp_path: Path) -> None:
    """A layer that answers for a rule below it makes that rule undetermined, whatever it says."""
    rego = (
        'package company\n\nresults contains {"id": "image.no-shell", "status": "pass", "evidence": [], "remedy": ""}\n'
    )
    with EmbeddedEngine(layers.effective([write(tmp_path, "", p=rego)])) as engine:
        verdict = decide(document(programs=[{"path": "/bin/sh", "kind": "shell"}]), engine)
    assert verdict.verdict == "deny"
    lines = [line for item in verdict.violations if item.rule == "image.no-shell" for line in item.evidence]
    assert lines == ["/bin/sh", "could not be evaluated: package company of another layer gave a result for it"]


def test_layers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many layers as the limit pass; one more is refused."""
    monkeypatch.setattr(limits, "POLICY_LAYERS", 3)
    stack = [write(tmp_path, "", name=f"layer{number}") for number in range(3)]
    assert len(layers.effective(stack[:2]).layers) == 3
    with pytest.raises(LimitError, match="over 3 layers"):
        layers.effective(stack)


def test_tests_of_a_layer_use_what_is_below(tmp_path: Path) -> None:
    """They may start from the shipped pack's document, and only they are run."""
    company = write(tmp_path, TEAM_RULE, team=TEAM_REGO, team_test=TEAM_TEST)
    found = run_tests(layers.effective([company]), inside="company")
    assert [(one.name, one.file, one.status) for one in found] == [
        ("company.team_test.test_label_is_asked_for", "company/team_test.rego", "pass")
    ]
