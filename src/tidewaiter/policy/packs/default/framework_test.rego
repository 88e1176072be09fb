package tidewaiter.framework_test

import data.tidewaiter.document_test as document
import data.tidewaiter.framework

combined(changes) := object.union(document.good, {"framework": object.union(document.good.framework, changes)})

rules := ["framework.tested", "framework.no-conflict", "framework.driver-known"]

not_applicable(results, id) if {
	[result] = document.of(results, id)
	result.status == "not_applicable"
}

test_tested_combination_passes if {
	every id in rules {
		document.passes(framework.results, id) with input as document.good
	}
}

test_untested_combination_fails if {
	found := framework.results with input as combined({"tested": "no", "tested_reason": "CUDA 12.9 is not 12.5"})
	document.fails(found, "framework.tested", ["not tested: CUDA 12.9 is not 12.5"])
	[result] = document.of(found, "framework.tested")
	startswith(result.remedy, "Use TensorFlow 2.18 with Python 3.9-3.12, CUDA 12.5 and cuDNN 9.3: ")
	document.passes(found, "framework.no-conflict")
}

test_unknown_is_not_tested if {
	found := framework.results with input as combined({"tested": "unknown", "tested_reason": "a nightly", "nearest_tested": ""})
	document.fails(found, "framework.tested", ["not known: a nightly"])
	[result] = document.of(found, "framework.tested")
	startswith(result.remedy, "Use a release of TensorFlow: ")
}

test_conflict_fails if {
	found := framework.results with input as combined({"conflicts": ["TensorFlow loads CUDA 12, the image has CUDA 11.8"]})
	document.fails(found, "framework.no-conflict", ["TensorFlow loads CUDA 12, the image has CUDA 11.8"])
	document.passes(found, "framework.tested")
}

test_unknown_driver_fails if {
	found := framework.results with input as combined({"cuda": "14.0", "least_driver": ""})
	document.fails(found, "framework.driver-known", ["no driver is known for CUDA 14.0"])
}

test_rules_do_not_apply_without_their_subject if {
	found := framework.results with input as combined({"tensorflow": "", "cuda": "", "tested": "unknown", "least_driver": ""})
	every id in rules {
		not_applicable(found, id)
	}
}

test_cuda_without_tensorflow_needs_a_driver if {
	found := framework.results with input as combined({"tensorflow": "", "tested": "unknown", "least_driver": ""})
	not_applicable(found, "framework.tested")
	document.fails(found, "framework.driver-known", ["no driver is known for CUDA 12.5.82"])
}
