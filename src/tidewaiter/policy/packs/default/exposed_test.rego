package tidewaiter.exposed_test

import data.tidewaiter.document_test as document
import data.tidewaiter.exposed

with_files(kind) := object.union(document.good, {"exposed": [{"kind": kind, "count": 2, "examples": ["/a", "/b"]}]})

test_good_image_passes if {
	document.passes(exposed.results, "exposed.no-secrets") with input as document.good
	document.passes(exposed.results, "exposed.no-privileged-files") with input as document.good
	document.passes(exposed.results, "exposed.no-world-writable-files") with input as document.good
}

test_secret_fails if {
	found := exposed.results with input as with_files("secret")
	document.fails(found, "exposed.no-secrets", ["2 secret: /a, /b"])
	document.passes(found, "exposed.no-privileged-files")
	document.passes(found, "exposed.no-world-writable-files")
}

test_privileged_files_fail if {
	set_uid := exposed.results with input as with_files("set_uid")
	document.fails(set_uid, "exposed.no-privileged-files", ["2 set-uid: /a, /b"])
	found := exposed.results with input as with_files("set_gid")
	document.fails(found, "exposed.no-privileged-files", ["2 set-gid: /a, /b"])
	document.passes(found, "exposed.no-secrets")
}

test_world_writable_files_fail if {
	found := exposed.results with input as with_files("world_writable")
	document.fails(found, "exposed.no-world-writable-files", ["2 world-writable: /a, /b"])
	document.passes(found, "exposed.no-privileged-files")
}
