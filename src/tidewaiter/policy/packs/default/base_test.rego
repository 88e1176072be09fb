package tidewaiter.base_test

import data.tidewaiter.base
import data.tidewaiter.document_test as document

on(changes) := object.union(document.good, {"base": object.union(document.good.base, changes)})

shown := sprintf("%s@%s", [document.good.base.name, document.good.base.digest])

test_approved_base_passes if {
	document.passes(base.results, "base.approved") with input as document.good
	document.passes(base.results, "base.not-retired") with input as document.good
}

test_unknown_base_fails if {
	found := base.results with input as on({"name": "", "digest": "", "approved": false})
	document.fails(found, "base.approved", ["its first layers are those of no known base"])
	document.passes(found, "base.not-retired")
}

test_base_that_nobody_approved_fails if {
	found := base.results with input as on({"approved": false})
	document.fails(found, "base.approved", [sprintf("nobody approved %s", [shown])])
	document.passes(found, "base.not-retired")
}

test_expired_base_fails if {
	found := base.results with input as on({"approved": false, "expired": true, "expires_at": "2026-01-30T00:00:00Z"})
	document.fails(found, "base.approved", [sprintf("the approval of %s ended 2026-01-30T00:00:00Z", [shown])])
}

test_retired_base_fails if {
	found := base.results with input as on({"approved": false, "retired": true})
	document.fails(found, "base.not-retired", [sprintf("%s was retired", [shown])])
	document.passes(found, "base.approved")
}

test_reason_of_the_retirement_is_said if {
	found := base.results with input as on({"approved": false, "retired": true, "reason": "OpenSSL"})
	document.fails(found, "base.not-retired", [sprintf("%s was retired: OpenSSL", [shown])])
}

test_newest_base_passes if {
	document.passes(base.results, "base.not-outdated") with input as document.good
}

test_outdated_base_fails if {
	found := base.results with input as on({"outdated": true})
	document.fails(found, "base.not-outdated", [sprintf("a newer base than %s was approved", [shown])])
	document.passes(found, "base.approved")
}

unproven(annotations) := object.union(on({"name": "", "digest": "", "approved": false}), {"image": object.union(document.good.image, {"annotations": annotations})})

test_proven_base_is_pinned if {
	document.passes(base.results, "base.pinned") with input as document.good
}

test_base_named_by_digest_is_pinned if {
	named := unproven({"org.opencontainers.image.base.digest": concat("", ["sha256:", document.digits])})
	document.passes(base.results, "base.pinned") with input as named
}

test_base_named_by_tag_or_not_at_all_fails if {
	every annotations in [{}, {"org.opencontainers.image.base.digest": "latest"}] {
		found := base.results with input as unproven(annotations)
		document.fails(found, "base.pinned", ["neither its first layers nor `org.opencontainers.image.base.digest` tell which base it was built on"])
	}
}
