package tidewaiter.licenses_test

import data.tidewaiter.document_test as document
import data.tidewaiter.licenses

licensed(expression) := object.union(document.good, {"packages": {"licenses": {expression: ["b", "a"]}}})

test_usual_licences_pass if {
	document.passes(licenses.results, "licenses.denied") with input as document.good
}

test_denied_licences_fail_in_any_case_and_company if {
	every expression in ["AGPL-3.0-only", "agpl-3.0-only", "MIT AND AGPL-3.0-only", "(MIT OR AGPL-3.0-only) AND ISC", "AGPL-3.0-only WITH x"] {
		found := licenses.results with input as licensed(expression)
		document.fails(found, "licenses.denied", [sprintf("%s: a, b", [expression])])
	}
}

test_free_choice_passes if {
	document.passes(licenses.results, "licenses.denied") with input as licensed("MIT OR AGPL-3.0-only")
}

test_choice_between_denied_ones_fails if {
	found := licenses.results with input as licensed("SSPL-1.0 OR AGPL-3.0-only")
	document.fails(found, "licenses.denied", ["SSPL-1.0 OR AGPL-3.0-only: a, b"])
}

test_name_inside_another_passes if {
	document.passes(licenses.results, "licenses.denied") with input as licensed("not-AGPL-3.0-only")
}
