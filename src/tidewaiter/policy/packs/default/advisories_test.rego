package tidewaiter.advisories_test

import data.tidewaiter.advisories
import data.tidewaiter.document_test as document

found_with(changes) := object.union(document.good, {"findings": [object.union(document.finding, changes)]})

rules := [
	"advisories.no-fixable-high-critical",
	"advisories.unknown-severity-with-fix",
	"advisories.coverage",
	"advisories.age",
	"advisories.known-exploited",
	"advisories.exploitation-known",
	"advisories.probably-exploited",
]

test_good_image_passes if {
	every id in rules {
		document.passes(advisories.results, id) with input as document.good
	}
}

test_high_and_critical_with_fix_fail if {
	every severity in ["high", "critical"] {
		found := advisories.results with input as found_with({"severity": severity})
		document.fails(found, "advisories.no-fixable-high-critical", [sprintf("pillow 10.2.0: PYSEC-2024-1 (%s); fixed in 10.3.0", [severity])])
		document.passes(found, "advisories.unknown-severity-with-fix")
	}
}

test_lower_severities_pass if {
	every severity in ["medium", "low", "none"] {
		every id in rules {
			document.passes(advisories.results, id) with input as found_with({"severity": severity})
		}
	}
}

test_without_fix_passes if {
	every severity in ["critical", "unknown"] {
		every id in rules {
			document.passes(advisories.results, id) with input as found_with({"severity": severity, "fixed_in": [], "upgrade_to": ""})
		}
	}
}

test_unknown_severity_with_fix_fails if {
	found := advisories.results with input as found_with({"severity": "unknown"})
	document.fails(found, "advisories.unknown-severity-with-fix", ["pillow 10.2.0: PYSEC-2024-1 (unknown); fixed in 10.3.0"])
	document.passes(found, "advisories.no-fixable-high-critical")
}

test_waived_findings_pass if {
	every severity in ["critical", "high", "unknown"] {
		every id in rules {
			document.passes(advisories.results, id) with input as found_with({"severity": severity, "waived_by": "W-1"})
		}
	}
}

test_only_what_is_not_waived_is_shown if {
	second := object.union(document.finding, {"advisory": "PYSEC-2024-2", "waived_by": "W-1"})
	found := advisories.results with input as object.union(document.good, {"findings": [document.finding, second]})
	document.fails(found, "advisories.no-fixable-high-critical", ["pillow 10.2.0: PYSEC-2024-1 (high); fixed in 10.3.0"])
}

test_remedy_names_the_line_to_write if {
	found := advisories.results with input as found_with({})
	[result] = document.of(found, "advisories.no-fixable-high-critical")
	result.remedy == "In requirements.in set pillow>=10.3.0, then `tidewaiter lock PROJECT` and build again."
}

test_remedy_of_a_debian_package_names_the_base if {
	found := advisories.results with input as found_with({"kind": "deb", "name": "libssl3", "upgrade_to": "3.0.15-1"})
	[result] = document.of(found, "advisories.no-fixable-high-critical")
	result.remedy == "Run `tidewaiter base update PROJECT` to take libssl3 3.0.15-1 into base.lock, and build again."
}

test_remedy_without_comparable_versions_names_all_fixes if {
	found := advisories.results with input as found_with({"kind": "model", "fixed_in": ["1.1", "2.0"], "upgrade_to": ""})
	[result] = document.of(found, "advisories.no-fixable-high-critical")
	result.remedy == "Update pillow to 1.1 or 2.0 where the image takes it from, and build again."
}

test_findings_of_one_package_are_one_line if {
	second := object.union(document.finding, {"advisory": "PYSEC-2024-2", "severity": "critical"})
	found := advisories.results with input as object.union(document.good, {"findings": [document.finding, second]})
	document.fails(found, "advisories.no-fixable-high-critical", ["pillow 10.2.0: PYSEC-2024-1 (high), PYSEC-2024-2 (critical); fixed in 10.3.0"])
}

test_not_checked_fails if {
	group := {"ecosystem": "Debian:12", "reason": "no data", "count": 33, "examples": ["libc6 2.36"]}
	found := advisories.results with input as object.union(document.good, {"not_checked": [group]})
	document.fails(found, "advisories.coverage", ["33 packages of Debian:12 (no data): libc6 2.36"])
}

aged(feeds) := object.union(document.good, {"advisories": {"revision": "r", "feeds": feeds}})

test_old_data_fails if {
	found := advisories.results with input as aged([{"ecosystem": "PyPI", "as_of": "2026-01-23T00:00:00Z", "age_days": 8}])
	document.fails(found, "advisories.age", ["PyPI: data of 2026-01-23T00:00:00Z is over 7 days old"])
}

test_data_of_unknown_age_fails if {
	found := advisories.results with input as aged([{"ecosystem": "PyPI", "as_of": "", "age_days": 0}])
	document.fails(found, "advisories.age", ["PyPI: the date of the data is not known"])
}

test_no_data_fails if {
	found := advisories.results with input as aged([])
	document.fails(found, "advisories.age", ["there is no advisory data"])
}

test_exploited_fails_with_and_without_fix if {
	every fixes in [["10.3.0"], []] {
		found := advisories.results with input as found_with({"kev": true, "severity": "low", "fixed_in": fixes})
		document.fails(found, "advisories.known-exploited", ["pillow 10.2.0: PYSEC-2024-1"])
	}
}

test_waived_exploited_passes if {
	found := advisories.results with input as found_with({"kev": true, "epss": 1, "waived_by": "W-1"})
	document.passes(found, "advisories.known-exploited")
	document.passes(found, "advisories.probably-exploited")
}

test_unknown_exploitation_is_neither_yes_nor_no if {
	found := advisories.results with input as found_with({"kev": null, "epss": null})
	document.fails(found, "advisories.exploitation-known", ["1 findings, such as pillow 10.2.0: PYSEC-2024-1"])
	document.passes(found, "advisories.known-exploited")
	document.passes(found, "advisories.probably-exploited")
}

test_what_has_no_cve_cannot_be_on_the_list if {
	document.passes(advisories.results, "advisories.exploitation-known") with input as found_with({"kev": null, "aliases": []})
}

test_probability_at_the_threshold_fails if {
	found := advisories.results with input as found_with({"epss": 0.5})
	document.fails(found, "advisories.probably-exploited", ["pillow 10.2.0: PYSEC-2024-1 (EPSS 0.5)"])
	document.passes(advisories.results, "advisories.probably-exploited") with input as found_with({"epss": 0.49})
}
