"""Questions that every engine must answer alike: edge cases of Rego, and documents of images."""

import json
from pathlib import Path
from typing import Any

from policy_documents import FINDING, GOOD

REAL: dict[str, Any] = json.loads((Path(__file__).parent / "real_input.json").read_text())
"""The document of a real image: TensorFlow on Debian 12, its bookkeeping left as it was found."""

UNDETERMINED = None

EXPRESSIONS: dict[str, tuple[str, str | None]] = {
    # Undefined: a rule without a value gives no result, which is never a yes.
    "undefined_field_of_open_object": ("input.image.labels.nothing", UNDETERMINED),
    "undefined_index": ("input.image.entrypoint[5]", UNDETERMINED),
    "undefined_with_default": ('object.get(input.image.labels, "nothing", "default")', '"default"'),
    "undefined_inside_comprehension": ('[x | some k in ["team", "nothing"]; x := input.image.labels[k]]', '["vision"]'),
    "not_undefined": ("[true | not input.image.labels.nothing]", "[true]"),
    "false_is_not_undefined": ("[x | x := input.image.dirty]", "[false]"),
    "null_is_a_value": ("[x | x := null]", "[null]"),
    # Errors of built-ins are errors, not undefined.
    "to_number_of_a_word": ('to_number("word")', UNDETERMINED),
    "division_by_zero": ("1 / (count(input.programs))", UNDETERMINED),
    "remainder_by_zero": ("1 % count(input.programs)", UNDETERMINED),
    "json_that_is_none": ('json.unmarshal("{")', UNDETERMINED),
    "base64_that_is_none": ('base64.decode("%%%")', UNDETERMINED),
    "time_that_is_none": ('time.parse_rfc3339_ns("yesterday")', UNDETERMINED),
    "duration_that_is_none": ('time.parse_duration_ns("soon")', UNDETERMINED),
    "units_that_are_none": ('units.parse_bytes("10 potatoes")', UNDETERMINED),
    "pattern_that_is_none": ('regex.match("(", "x")', UNDETERMINED),
    "error_below_not": ('[true | not to_number("word")]', UNDETERMINED),
    "sum_of_words": ("sum(input.image.entrypoint)", UNDETERMINED),
    # Comprehensions.
    "array_comprehension": ("[y | some x in [1, 2, 3]; x > 1; y := x * 2]", "[4,6]"),
    "set_comprehension": ('sort({lower(x) | some x in ["B", "a", "A"]})', '["a","b"]'),
    "object_comprehension": ("{k: count(v) | some k, v in input.image.labels}", '{"team":6}'),
    "nested_comprehension": ("[[y | some y in numbers.range(1, x)] | some x in [1, 2]]", "[[1],[1,2]]"),
    "empty_comprehension": ("[x | some x in []]", "[]"),
    "index_comprehension": ('[i | some i, x in ["a", "b"]; x == "b"]', "[1]"),
    "closure_over_outer": ("[z | some x in [1, 2]; z := count([y | some y in [1, 2, 3]; y > x])]", "[2,1]"),
    "every_of_nothing": ("[true | every x in [] { x > 1 }]", "[true]"),
    "every_that_fails": ("[true | every x in [1, 2] { x > 1 }]", "[]"),
    # Numbers.
    "whole_numbers": ("1 + 2 * 3", "7"),
    "fractions": ("0.5 + 0.25", "0.75"),
    "whole_quotient": ("6 / 3", "2"),
    "quotient": ("7 / 2", "3.5"),
    "remainder": ("7 % 3", "1"),
    "negative": ("abs(-3)", "3"),
    "rounding": ("[round(2.5), round(-2.5), ceil(1.2), floor(1.8)]", "[3,-3,2,1]"),
    "large_whole_number": ("9007199254740993 + 1", "9007199254740994"),
    "numbers_compare_by_value": ("[1 == 1.0, 1 < 1.5, 10 > 9]", "[true,true,true]"),
    "number_of_text": ('to_number("1.50") + 1', "2.5"),
    "format_hexadecimal": ("format_int(255, 16)", '"ff"'),
    "range_down": ("numbers.range(3, 1)", "[3,2,1]"),
    "sum_and_product": ("[sum([1, 2, 3]), product([2, 3]), max([1, 3, 2]), min([2, 1])]", "[6,6,3,1]"),
    "kinds_compare_in_order": ('[null < false, false < 1, 1 < "a", "a" < [1]]', "[true,true,true,true]"),
    # Strings and Unicode.
    "length_in_characters": ('count("héllo")', "5"),
    "upper_of_unicode": ('upper("aé")', '"AÉ"'),
    "substring_of_unicode": ('substring("héllo", 1, 3)', '"éll"'),
    "index_in_unicode": ('indexof("aéb", "b")', "2"),
    "reverse_of_unicode": ('strings.reverse("aé水")', '"水éa"'),
    "length_of_combining": ('count("e\u0301")', "2"),
    "escapes": (r'"a\tb\u00e9\"\\"', '"a\\tbé\\"\\\\"'),
    "raw_string": ('`a\\d"`', '"a\\\\d\\""'),
    "split_and_join": ('concat("+", split("a,b,,c", ","))', '"a+b++c"'),
    "trims": (
        '[trim("xxaxx", "x"), trim_left("xa", "x"), trim_prefix("abc", "ab"), trim_space(" a\\t")]',
        '["a","a","c","a"]',
    ),
    "replace_many": ('strings.replace_n({"a": "1", "b": "2"}, "aabb")', '"1122"'),
    "contains_and_ends": ('[contains("abc", "b"), startswith("abc", "ab"), endswith("abc", "bc")]', "[true,true,true]"),
    "sort_of_strings": ('sort(["b", "B", "a", "é", "10", "9"])', '["10","9","B","a","b","é"]'),
    # Times.
    "time_in_utc": ('time.parse_rfc3339_ns("2026-01-31T12:00:00Z")', "1769860800000000000"),
    "time_with_offset": ('time.parse_rfc3339_ns("2026-01-31T12:00:00+02:00")', "1769853600000000000"),
    "time_with_fraction": ('time.parse_rfc3339_ns("2026-01-31T12:00:00.5Z")', "1769860800500000000"),
    "times_compare": ("time.parse_rfc3339_ns(input.now) > time.parse_rfc3339_ns(input.image.created)", "true"),
    "date_of_time": ('time.date(time.parse_rfc3339_ns("2024-02-29T23:59:59Z"))', "[2024,2,29]"),
    "clock_of_time": ('time.clock(time.parse_rfc3339_ns("2024-02-29T23:59:58Z"))', "[23,59,58]"),
    "weekday": ('time.weekday(time.parse_rfc3339_ns("2026-01-31T12:00:00Z"))', '"Saturday"'),
    "duration": ('time.parse_duration_ns("1h30m")', "5400000000000"),
    # Regular expressions and globs.
    "regex_anchors": ('[regex.match("^a+$", "aaa"), regex.match("^a+$", "aab")]', "[true,false]"),
    "regex_class_of_unicode": (r'regex.match(`^\p{L}+$`, "héllo")', "true"),
    "regex_flags": ("regex.match(`(?i)LATEST`, `latest`)", "true"),
    "regex_lines": ('regex.match("(?m)^b$", "a\\nb")', "true"),
    "regex_dot_is_no_line_end": ('regex.match("^a.b$", "a\\nb")', "false"),
    "regex_split": ('regex.split("[,;] *", "a, b;c")', '["a","b","c"]'),
    "regex_replace": ('regex.replace("v1.2", "[0-9]", "x")', '"vx.x"'),
    "regex_groups": (
        'regex.find_all_string_submatch_n(`(\\w+)=(\\w+)`, "a=1 b=2", -1)',
        '[["a=1","a","1"],["b=2","b","2"]]',
    ),
    "glob": ('[glob.match("*.py", [], "a.py"), glob.match("a/*", ["/"], "a/b/c")]', "[true,false]"),
    # sprintf.
    "sprintf_string_and_number": ('sprintf("%s has %d", ["a", 3])', '"a has 3"'),
    "sprintf_quoted": ('sprintf("%q", ["a\\"b"])', '"\\"a\\\\\\"b\\""'),
    "sprintf_value_of_number": ('sprintf("%v %v", [1, 1.5])', '"1 1.5"'),
    "sprintf_value_of_string": ('sprintf("%v", ["a"])', '"a"'),
    "sprintf_value_of_boolean": ('sprintf("%v %v", [true, null])', '"true null"'),
    "sprintf_value_of_list": ('sprintf("%v", [["a", 1]])', '"[\\"a\\", 1]"'),
    "sprintf_padding": ('sprintf("%5d|%05d", [42, 42])', '"   42|00042"'),
    "sprintf_hexadecimal": ('sprintf("%x %X", [255, 255])', '"ff FF"'),
    "sprintf_percent": ('sprintf("%d%%", [5])', '"5%"'),
    "sprintf_fraction": ('sprintf("%.2f", [3.14159])', '"3.14"'),
    # Collections.
    "union_of_sets": ("sort(union({{1, 2}, {2, 3}}))", "[1,2,3]"),
    "intersection_and_difference": ("[sort({1, 2} & {2, 3}), sort({1, 2} - {2}), sort({1} | {2})]", "[[2],[1],[1,2]]"),
    "union_of_objects": ('object.union({"a": {"b": 1}}, {"a": {"c": 2}})', '{"a":{"b":1,"c":2}}'),
    "keys_of_object": ('sort(object.keys({"b": 1, "a": 2}))', '["a","b"]'),
    "remove_from_object": ('object.remove({"a": 1, "b": 2}, ["a"])', '{"b":2}'),
    "filter_of_object": ('object.filter({"a": 1, "b": 2}, ["a"])', '{"a":1}'),
    "slice_of_list": ("array.slice([1, 2, 3, 4], 1, 3)", "[2,3]"),
    "join_of_lists": ("array.concat([1], [2])", "[1,2]"),
    "reverse_of_list": ("array.reverse([1, 2])", "[2,1]"),
    "membership": ('["a" in ["a"], "b" in {"a"}, 1 in {"x": 1}]', "[true,false,true]"),
    "length_of_kinds": ('[count([1]), count({1, 1}), count({"a": 1}), count("ab")]', "[1,1,1,2]"),
    "names_of_kinds": (
        '[type_name(x) | some x in [1, "a", [], {}, set(), null, true]]',
        '["number","string","array","object","set","null","boolean"]',
    ),
    # Encodings and versions.
    "base64": ('[base64.encode("é"), base64.decode("w6k=")]', '["w6k=","é"]'),
    "hexadecimal": ('[hex.encode("a"), hex.decode("61")]', '["61","a"]'),
    "json": ('json.unmarshal(json.marshal({"a": [1, null]}))', '{"a":[1,null]}'),
    "json_validity": ('[json.is_valid("{}"), json.is_valid("{")]', "[true,false]"),
    "versions": (
        '[semver.compare("1.10.0", "1.9.0"), semver.compare("1.0.0-rc1", "1.0.0"), semver.is_valid("1.0")]',
        "[1,-1,false]",
    ),
    "bytes": ('[units.parse_bytes("1KiB"), units.parse_bytes("1MB")]', "[1024,1000000]"),
}
"""Expression and its JSON, or `UNDETERMINED` where it has no value."""

DIFFERENT: dict[str, tuple[str, str, str]] = {
    "length_beyond_the_basic_plane": ('count("👍")', "2", "1"),
    "upper_of_sharp_s": ('upper("ß")', '"SS"', '"ß"'),
    "sprintf_to_the_left": ('sprintf("%-3s|", ["a"])', '"3s|"', '"a  |"'),
    "number_as_it_was_written": ('to_number("1.50")', "1.5", "1.50"),
}
"""Where the engines are known to differ: expression, its JSON in the embedded engine, its JSON in OPA."""

MODULES: dict[str, str] = {
    "no_results_at_all": "other := 1",
    "two_values": 'results := {"id": "ID", "status": "pass", "evidence": [], "remedy": ""}\n\n'
    'results := {"id": "ID", "status": "pass", "evidence": ["x"], "remedy": ""} if not input.image.dirty',
    "two_results": 'results contains {"id": "ID", "status": "pass", "evidence": [], "remedy": ""}\n\n'
    'results contains {"id": "ID", "status": "fail", "evidence": ["x"], "remedy": "y"}',
    "strange_status": 'results contains {"id": "ID", "status": "maybe", "evidence": [], "remedy": ""}',
    "failure_without_evidence": 'results contains {"id": "ID", "status": "fail", "evidence": [], "remedy": "x"}',
    "field_too_many": 'results contains {"id": "ID", "status": "pass", "evidence": [], "remedy": "", "more": 1}',
    "field_missing": 'results contains {"id": "ID", "status": "pass", "evidence": []}',
    "evidence_that_is_no_text": 'results contains {"id": "ID", "status": "pass", "evidence": [1], "remedy": ""}',
    "not_an_object": 'results contains "pass"',
    "number_for_results": "results := 7",
    "condition_never_holds": 'results contains {"id": "ID", "status": "pass", "evidence": [], "remedy": ""} if '
    "input.image.dirty",
}
"""Packages that give no usable result: undetermined in every engine. `ID` stands for the rule's id."""


def rule_id(name: str) -> str:
    """Id of the rule that answers for a case."""
    return f"case.{name.replace('_', '-')}"


def rego() -> tuple[dict[str, str], list[str]]:
    """Files of one pack that holds every case as a package of its own, and the ids of their rules."""
    files, ids = {}, []
    for name, (expression, *_) in (EXPRESSIONS | DIFFERENT).items():
        rule = rule_id(name)
        files[f"{name}.rego"] = (
            f"package case.{name}\n\nvalue := {expression}\n\n"
            f'results contains {{"id": "{rule}", "status": "pass", "evidence": [json.marshal(value)], "remedy": ""}}\n'
        )
        ids.append(rule)
    for name, text in MODULES.items():
        rule = rule_id(f"module_{name}")
        files[f"module_{name}.rego"] = f"package module.{name}\n\n{text.replace('ID', rule)}\n"
        ids.append(rule)
    return files, ids


_MANY = [
    {
        **FINDING,
        "advisory": f"PYSEC-2024-{number}",
        "aliases": [[], [f"CVE-2024-{number}"]][number % 2],
        "name": f"package-{number % 7}",
        "purl": f"pkg:pypi/package-{number % 7}@1.0",
        "severity": ["critical", "high", "medium", "low", "none", "unknown"][number % 6],
        "kind": ["python", "deb", "model"][number % 3],
        "fixed_in": [[], ["1.1"], ["1.1", "2.0"]][number % 3],
        "upgrade_to": ["", "1.1", ""][number % 3],
        "kev": [False, True, None][number % 3],
        "epss": [0.01, 0.5, 0.97312, None][number % 4],
        "waived_by": ["", "", "", "W-1"][number % 4],
    }
    for number in range(40)
]
_ABSENT = {"state": "absent", "created": "", "age_days": 0}
_OLD = {"state": "present", "created": "2025-01-01T00:00:00Z", "age_days": 395}

MUTATIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "root": {"image__user": "root", "image__runs_as_root": True},
    "analysed": {"analysis": {"ran": True, "findings": [], "not_checked": []}},
    "analysed in part": {
        "analysis": {
            "ran": True,
            "findings": [
                {"kind": kind, "severity": severity, "count": 2}
                for kind in ("lint", "secrets", "confusion")
                for severity in ("critical", "high", "low")
            ],
            "not_checked": ["bandit: it is not installed here"],
        }
    },
    "user with quotes": {"image__user": 'quo"ted\\ü', "image__runs_as_root": True},
    "shells": {"programs": [{"path": path, "kind": "shell"} for path in ("/bin/sh", "/bin/bash", "/a")]},
    "tools": {
        "programs": [{"path": "/usr/bin/pip", "kind": "package_manager"}, {"path": "/usr/bin/gcc", "kind": "compiler"}]
    },
    "servers": {"programs": [{"path": "/sbin/sshd", "kind": "ssh_server"}, {"path": "/j", "kind": "jupyter"}]},
    "debugger": {"programs": [{"path": "/usr/bin/gdb", "kind": "debugger"}]},
    "server packages": {
        "packages__python": {"jupyterlab": ["4.0", "4.1"], "notebook": ["7.0"]},
        "packages__deb": {"openssh-server": ["9"]},
    },
    "latest": {"image__tag": "latest"},
    "version and latest": {"image__tag": "2.15.0-latest"},
    "no tag": {"image__tag": ""},
    "digest": {"image__tag": "", "image__pinned": True},
    "odd name": {"image__tag": "prod", "image__name": "mnist"},
    "file": {"image__tag": "2.15.0-gpu", "image__name": ""},
    "name in Unicode": {"image__name": "équipe/模型", "image__reference": "équipe/模型:0123456789ab"},
    "dirty": {"image__tag": "0123456789ab-dirty", "image__dirty": True},
    "finding": {"findings": [FINDING]},
    "many findings": {"findings": _MANY},
    "unknown severity": {"findings": [{**FINDING, "severity": "unknown", "upgrade_to": "", "fixed_in": ["1", "2"]}]},
    "exploited without fix": {"findings": [{**FINDING, "kev": True, "fixed_in": [], "upgrade_to": ""}]},
    "nobody knows whether exploited": {"findings": [{**FINDING, "kev": None, "epss": None, "epss_percentile": None}]},
    "probably exploited": {"findings": [{**FINDING, "epss": 0.973, "severity": "low"}]},
    "waived": {"findings": [{**FINDING, "waived_by": "W-1", "kev": True, "epss": 0.9}]},
    "not checked": {
        "not_checked": [{"ecosystem": "Debian:12", "reason": "no data", "count": 33, "examples": ["a 1", "b 2"]}]
    },
    "no feeds": {"advisories__feeds": []},
    "old feed": {"advisories__feeds": [{"ecosystem": "PyPI", "as_of": "2024-10-10T00:00:00Z", "age_days": 478}]},
    "feed without date": {"advisories__feeds": [{"ecosystem": "PyPI", "as_of": "", "age_days": 0}]},
    "untested": {
        "framework__tensorflow": "2.18.0",
        "framework__tested": "no",
        "framework__tested_reason": "CUDA 12.9 is not 12.5",
        "framework__conflicts": ["b", "a"],
    },
    "unknown combination": {
        "framework__tensorflow": "2.99",
        "framework__cuda": "99.0",
        "framework__tested": "unknown",
        "framework__nearest_tested": "",
        "framework__least_driver": "",
    },
    "no framework": {"framework__tensorflow": "", "framework__cuda": "", "framework__least_driver": ""},
    "no known base": {"base__name": "", "base__digest": "", "base__approved": False},
    "base by digest": {
        "base__name": "",
        "base__digest": "",
        "base__approved": False,
        "image__annotations": {"org.opencontainers.image.base.digest": "sha256:" + "d" * 64},
    },
    "expired base": {"base__approved": False, "base__expired": True},
    "retired base": {"base__approved": False, "base__retired": True, "base__reason": "OpenSSL"},
    "outdated base": {"base__outdated": True},
    "local builder": {"image__builder": "local"},
    "local that is registered": {"image__builder": "local", "settings__registered_builders": ["local"]},
    "secret": {"exposed": [{"kind": "secret", "count": 1, "examples": ["/app/.env:3 (aws-key)"]}]},
    "privileged files": {
        "exposed": [
            {"kind": "set_gid", "count": 1, "examples": ["/usr/bin/wall"]},
            {"kind": "set_uid", "count": 9, "examples": ["/bin/su", "/bin/mount"]},
            {"kind": "world_writable", "count": 2, "examples": ["/var/spool/x"]},
        ]
    },
    "denied licence": {"packages__licenses": {"AGPL-3.0-only": ["b", "a"], "MIT OR SSPL-1.0": ["c"]}},
    "licences combined": {
        "packages__licenses": {"(MIT OR agpl-3.0-or-later) AND ISC": ["ü"], "SSPL-1.0 or BUSL-1.1": ["d"]}
    },
    "nothing attached": {f"attached__{name}": _ABSENT for name in ("sbom", "provenance", "signature")},
    "nobody looked": {
        f"attached__{name}": {**_ABSENT, "state": "unknown"} for name in ("sbom", "provenance", "signature")
    },
    "old attachments": {f"attached__{name}": _OLD for name in ("sbom", "provenance", "signature")},
    "signature follows": {"attached__signature": {**_ABSENT, "state": "follows"}},
}
"""Changes to a document, by what they make of the image."""

DOCUMENTS = {"good": GOOD, "real": REAL}
ENVIRONMENTS = ("research", "staging", "production")
