# TensorFlow and what it runs with: Python, CUDA, cuDNN and the driver.
package tidewaiter.framework

import data.tidewaiter.lib

untested contains sprintf("not tested: %s", [input.framework.tested_reason]) if {
	input.framework.tested == "no"
}

# What is not known is not a yes.
untested contains sprintf("not known: %s", [input.framework.tested_reason]) if {
	input.framework.tested == "unknown"
}

# Nearest is empty when the version of TensorFlow cannot be compared.
target := input.framework.nearest_tested if input.framework.nearest_tested != ""

target := "a release of TensorFlow" if input.framework.nearest_tested == ""

results contains lib.not_applicable("framework.tested", "there is no TensorFlow in it") if {
	input.framework.tensorflow == ""
}

results contains lib.outcome(
	"framework.tested",
	untested,
	sprintf("Use %s: choose the Python by `[base] use`, the others in requirements.in, then `tidewaiter lock PROJECT`.", [target]),
) if {
	input.framework.tensorflow != ""
}

results contains lib.not_applicable("framework.no-conflict", "there is no TensorFlow in it") if {
	input.framework.tensorflow == ""
}

results contains lib.outcome(
	"framework.no-conflict",
	{conflict | some conflict in input.framework.conflicts},
	"For GPUs, take CUDA and cuDNN from `tensorflow[and-cuda]` in requirements.in and a base without CUDA; else take `tensorflow-cpu`.",
) if {
	input.framework.tensorflow != ""
}

driver_unknown contains sprintf("no driver is known for CUDA %s", [input.framework.cuda]) if {
	input.framework.least_driver == ""
}

results contains lib.not_applicable("framework.driver-known", "there is no CUDA in it") if {
	input.framework.cuda == ""
}

results contains lib.outcome(
	"framework.driver-known",
	driver_unknown,
	"Use a CUDA that this release of tidewaiter knows (up to 13.x), or update tidewaiter.",
) if {
	input.framework.cuda != ""
}
