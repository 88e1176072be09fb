package tidewaiter.build_test

import data.tidewaiter.build
import data.tidewaiter.document_test as document

test_registered_builder_passes if {
	document.passes(build.results, "build.builder-registered") with input as document.good
}

test_unregistered_builder_fails if {
	found := build.results with input as document.imaged({"builder": "somebody"})
	document.fails(found, "build.builder-registered", [`the builder is "somebody"`])
}

test_local_fails_even_when_registered if {
	registered := object.union(document.imaged({"builder": "local"}), {"settings": {"registered_builders": ["local"]}})
	found := build.results with input as registered
	document.fails(found, "build.builder-registered", [`the builder is "local"`])
}
