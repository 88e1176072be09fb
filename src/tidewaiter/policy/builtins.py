"""The built-in functions that rules may call: pure, without network, clock, chance or files.

Not here, on purpose: `http.send`, `net.*`, `opa.runtime`, `rand.*`, `uuid.rfc4122`, `time.now_ns`, `trace`, `print`,
`yaml.*` (expands aliases) and everything else that answers differently twice; `time.add_date`, which counts the ends of
months differently in the embedded engine and in OPA.
"""

SAME_TYPE = frozenset({"array.reverse", "array.slice", "sort"})
"""Answer with the type of their first argument."""

COMBINING = frozenset({"array.concat"})
"""Answer with a collection of what both arguments hold."""

SCALAR = frozenset(
    {
        "abs",
        "base64.decode",
        "base64.encode",
        "base64.is_valid",
        "ceil",
        "concat",
        "contains",
        "count",
        "endswith",
        "floor",
        "format_int",
        "glob.match",
        "hex.decode",
        "hex.encode",
        "indexof",
        "is_array",
        "is_boolean",
        "is_null",
        "is_number",
        "is_object",
        "is_set",
        "is_string",
        "json.is_valid",
        "json.marshal",
        "lower",
        "object.subset",
        "product",
        "regex.is_valid",
        "regex.match",
        "regex.replace",
        "replace",
        "round",
        "semver.compare",
        "semver.is_valid",
        "sprintf",
        "startswith",
        "strings.any_prefix_match",
        "strings.any_suffix_match",
        "strings.count",
        "strings.replace_n",
        "strings.reverse",
        "substring",
        "sum",
        "time.parse_duration_ns",
        "time.parse_ns",
        "time.parse_rfc3339_ns",
        "time.weekday",
        "to_number",
        "trim",
        "trim_left",
        "trim_prefix",
        "trim_right",
        "trim_space",
        "trim_suffix",
        "type_name",
        "units.parse",
        "units.parse_bytes",
        "upper",
    }
)
"""Answer with a string, number or boolean."""

OPEN = frozenset(
    {
        "indexof_n",
        "intersection",
        "json.filter",
        "json.patch",
        "json.remove",
        "json.unmarshal",
        "max",
        "min",
        "numbers.range",
        "object.filter",
        "object.get",
        "object.keys",
        "object.remove",
        "object.union",
        "object.union_n",
        "regex.find_all_string_submatch_n",
        "regex.find_n",
        "regex.split",
        "split",
        "time.clock",
        "time.date",
        "time.diff",
        "union",
    }
)
"""Answer with something whose fields are not followed (`object.get` with a written key is)."""

ALLOWED = SAME_TYPE | COMBINING | SCALAR | OPEN
