package tidewaiter.name_test

import data.tidewaiter.document_test as document
import data.tidewaiter.name

tagged(tag) := document.imaged({"tag": tag, "reference": concat(":", ["vision/mnist", tag])})

test_commit_tag_passes if {
	every id in ["name.no-latest", "name.convention", "name.not-dirty"] {
		document.passes(name.results, id) with input as document.good
	}
}

test_tag_of_a_commit_on_another_base_passes if {
	document.passes(name.results, "name.convention") with input as tagged("0123456789ab-on-ba9876543210")
}

test_tag_of_a_commit_for_another_platform_passes if {
	every tag in ["0123456789ab-arm64", "0123456789ab-arm64-dirty", "0123456789ab-arm64-on-ba9876543210-dirty"] {
		document.passes(name.results, "name.convention") with input as tagged(tag)
	}
}

test_version_tags_pass if {
	every tag in ["2.15.0", "v1.0.3", "2.15.0-gpu", "1.2.3_rc1"] {
		document.passes(name.results, "name.convention") with input as tagged(tag)
		document.passes(name.results, "name.no-latest") with input as tagged(tag)
	}
}

test_moving_tags_fail if {
	every tag in ["latest", "latest-gpu", "gpu-latest", "nightly", "2.15.0-nightly"] {
		found := name.results with input as tagged(tag)
		document.fails(found, "name.no-latest", [sprintf("tag %q moves", [tag])])
	}
}

test_tag_that_only_contains_latest_passes if {
	document.passes(name.results, "name.no-latest") with input as tagged("greatest")
}

test_no_tag_means_latest if {
	found := name.results with input as document.imaged({"tag": "", "reference": "vision/mnist"})
	document.fails(found, "name.no-latest", [`"vision/mnist" has no tag, which means latest`])
	document.fails(found, "name.convention", ["there is no tag"])
}

test_digest_needs_no_tag if {
	found := name.results with input as document.imaged({"tag": "", "pinned": true})
	document.passes(found, "name.no-latest")
	document.passes(found, "name.convention")
}

test_odd_tags_fail if {
	every tag in ["prod", "0123456789a", "v2", "0123456789AB"] {
		found := name.results with input as tagged(tag)
		document.fails(found, "name.convention", [sprintf("tag %q is neither a commit nor a version", [tag])])
	}
}

test_odd_repositories_fail if {
	every repository in ["mnist", "Vision/mnist", "vision//mnist", "vision/mnist/"] {
		found := name.results with input as document.imaged({"name": repository})
		document.fails(found, "name.convention", [sprintf("repository %q is not TEAM/NAME in lower case", [repository])])
	}
}

test_file_without_name_fails if {
	found := name.results with input as document.imaged({"name": ""})
	document.fails(found, "name.convention", ["the image was named by a file, not by repository and tag"])
}

test_dirty_fails if {
	found := name.results with input as document.imaged({"dirty": true, "tag": "0123456789ab-dirty"})
	document.fails(found, "name.not-dirty", [`"vision/mnist:0123456789ab" was built from a tree that differs from its commit`])
	document.passes(found, "name.convention")
}
