package tidewaiter.attached_test

import data.tidewaiter.attached
import data.tidewaiter.document_test as document

all_of(changes) := object.union(document.good, {"attached": {"sbom": changes, "provenance": changes, "signature": changes}})

test_present_and_fresh_passes if {
	document.passes(attached.results, "attached.sbom") with input as document.good
	document.passes(attached.results, "attached.provenance") with input as document.good
	document.passes(attached.results, "attached.signature") with input as document.good
}

test_absent_fails if {
	found := attached.results with input as all_of({"state": "absent", "created": "", "age_days": 0})
	document.fails(found, "attached.sbom", ["there is no bill of materials"])
	document.fails(found, "attached.provenance", ["there is no provenance"])
	document.fails(found, "attached.signature", ["there is no signature"])
}

test_unknown_fails if {
	found := attached.results with input as all_of({"state": "unknown", "created": "", "age_days": 0})
	document.fails(found, "attached.sbom", ["it is not known whether there is a bill of materials"])
	document.fails(found, "attached.signature", ["it is not known whether there is a signature"])
}

test_what_follows_passes if {
	found := attached.results with input as all_of({"state": "follows", "created": "", "age_days": 0})
	document.passes(found, "attached.sbom")
	document.passes(found, "attached.signature")
}

test_old_fails if {
	found := attached.results with input as all_of({"state": "present", "age_days": 181, "created": "2025-08-01T00:00:00Z"})
	document.fails(found, "attached.signature", ["the signature of 2025-08-01T00:00:00Z is over 180 days old"])
}

test_at_the_bound_passes if {
	found := attached.results with input as all_of({"state": "present", "age_days": 180, "created": "2025-08-02T00:00:00Z"})
	document.passes(found, "attached.signature")
}
