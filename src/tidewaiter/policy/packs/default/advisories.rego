# Known vulnerabilities, and how much is known about them.
package tidewaiter.advisories

import data.tidewaiter.lib
import data.tidewaiter.parameters

# What a waiver covers is not held against the image.
open_findings := [finding | some finding in input.findings; finding.waived_by == ""]

fixable := [finding | some finding in open_findings; finding.fixed_in != []]

serious := [finding | some finding in fixable; finding.severity in {"critical", "high"}]

unrated := [finding | some finding in fixable; finding.severity == "unknown"]

# One line a package version: what reaches it, and where it is mended.
lines(findings) := {line |
	some purl in {finding.purl | some finding in findings}
	reaching := [finding | some finding in findings; finding.purl == purl]
	names := {sprintf("%s (%s)", [finding.advisory, finding.severity]) | some finding in reaching}
	line := sprintf("%s %s: %s; fixed in %s", [reaching[0].name, reaching[0].version, lib.listed(names), target(reaching[0])])
}

target(finding) := finding.upgrade_to if finding.upgrade_to != ""

else := concat(" or ", finding.fixed_in)

steps(findings) := "" if count(findings) == 0

else := concat(" ", [sentence | some sentence in [python_step(findings), debian_step(findings), other_step(findings)]; sentence != ""])

python_step(findings) := step(
	{sprintf("%s>=%s", [finding.name, target(finding)]) | some finding in findings; finding.kind == "python"},
	"In requirements.in set %s, then `tidewaiter lock PROJECT` and build again.",
)

debian_step(findings) := step(
	{sprintf("%s %s", [finding.name, target(finding)]) | some finding in findings; finding.kind == "deb"},
	"Run `tidewaiter base update PROJECT` to take %s into base.lock, and build again.",
)

other_step(findings) := step(
	{sprintf("%s to %s", [finding.name, target(finding)]) | some finding in findings; not finding.kind in {"python", "deb"}},
	"Update %s where the image takes it from, and build again.",
)

step(things, sentence) := "" if count(things) == 0

else := sprintf(sentence, [lib.listed(things)])

results contains lib.outcome("advisories.no-fixable-high-critical", lines(serious), steps(serious))

results contains lib.outcome("advisories.unknown-severity-with-fix", lines(unrated), steps(unrated))

uncovered contains sprintf("%d packages of %s (%s): %s", [group.count, group.ecosystem, group.reason, concat(", ", group.examples)]) if {
	some group in input.not_checked
}

results contains lib.outcome(
	"advisories.coverage",
	uncovered,
	"Run `tidewaiter advisories update`, or `tidewaiter advisories import FILE` where there is no network, then check again.",
)

old contains sprintf("%s: data of %s is over %d days old", [feed.ecosystem, feed.as_of, parameters.advisory_age_days]) if {
	some feed in input.advisories.feeds
	feed.as_of != ""
	feed.age_days > parameters.advisory_age_days
}

old contains sprintf("%s: the date of the data is not known", [feed.ecosystem]) if {
	some feed in input.advisories.feeds
	feed.as_of == ""
}

old contains "there is no advisory data" if count(input.advisories.feeds) == 0

results contains lib.outcome(
	"advisories.age",
	old,
	"Run `tidewaiter advisories update`, or `tidewaiter advisories import FILE` where there is no network, then check again.",
)

# With or without a fix: somebody uses it.
exploited := [finding | some finding in open_findings; finding.kev == true]

named(finding) := sprintf("%s %s: %s", [finding.name, finding.version, finding.advisory])

results contains lib.outcome(
	"advisories.known-exploited",
	{named(finding) | some finding in exploited},
	"Update or remove these packages today; where there is no fix, replace them. `tidewaiter scan IMAGE` shows what is fixed where.",
)

# The list names CVEs alone: what has no such number cannot stand there.
has_cve(finding) if {
	some id in array.concat([finding.advisory], finding.aliases)
	startswith(id, "CVE-")
}

unknown := [finding | some finding in open_findings; finding.kev == null; has_cve(finding)]

unsettled contains sprintf("%d findings, such as %s", [count(unknown), named(unknown[0])]) if count(unknown) > 0

results contains lib.outcome(
	"advisories.exploitation-known",
	unsettled,
	"Import CISA's list of exploited vulnerabilities: `tidewaiter advisories update`, or `tidewaiter advisories import FILE`.",
)

# What EPSS has not rated yet is judged by its severity alone.
threshold := parameters.epss_threshold

probable contains sprintf("%s (EPSS %v)", [named(finding), finding.epss]) if {
	some finding in open_findings
	finding.epss != null
	finding.epss >= threshold
}

results contains lib.outcome(
	"advisories.probably-exploited",
	probable,
	"Update these packages first, or remove them; `tidewaiter scan IMAGE` shows what is fixed where.",
)
