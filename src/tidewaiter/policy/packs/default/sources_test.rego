package tidewaiter.sources_test

import data.tidewaiter.document_test as document
import data.tidewaiter.sources

analysed(changes) := object.union(document.good, {"analysis": object.union(document.good.analysis, changes)})

with_finding(kind, severity) := analysed({"findings": [{"kind": kind, "severity": severity, "count": 2}]})

test_good_image_passes if {
	document.passes(sources.results, "sources.no-serious-findings") with input as document.good
	document.passes(sources.results, "sources.analysed") with input as document.good
}

test_serious_findings_fail if {
	found := sources.results with input as with_finding("secrets", "high")
	document.fails(found, "sources.no-serious-findings", ["secrets: 2 high"])
	document.passes(found, "sources.analysed")
	confused := sources.results with input as with_finding("confusion", "critical")
	document.fails(confused, "sources.no-serious-findings", ["confusion: 2 critical"])
}

test_lesser_findings_pass if {
	document.passes(sources.results, "sources.no-serious-findings") with input as with_finding("secrets", "low")
	document.passes(sources.results, "sources.no-serious-findings") with input as with_finding("lint", "critical")
}

test_what_nobody_analysed_is_not_known if {
	found := sources.results with input as analysed({"ran": false})
	[result] = document.of(found, "sources.no-serious-findings")
	result.status == "not_applicable"
	document.fails(found, "sources.analysed", ["nobody here analysed its sources"])
}

test_what_was_not_looked_at_is_said if {
	found := sources.results with input as analysed({"not_checked": ["bandit: it is not installed here"]})
	document.fails(found, "sources.analysed", ["bandit: it is not installed here"])
	document.passes(found, "sources.no-serious-findings")
}
