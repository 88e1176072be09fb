# The document that tests start from: an image that satisfies every rule everywhere.
package tidewaiter.document_test

good := {
	"now": "2026-01-31T12:00:00Z",
	"environment": "production",
	"image": {
		"reference": "vision/mnist:0123456789ab",
		"name": "vision/mnist",
		"tag": "0123456789ab",
		"pinned": false,
		"digest": "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"user": "65532",
		"runs_as_root": false,
		"entrypoint": ["python", "/app/train.py"],
		"cmd": [],
		"exposed_ports": [],
		"labels": {},
		"annotations": {},
		"created": "2026-01-30T12:00:00Z",
		"dirty": false,
		"builder": "ci.example/builder",
	},
	"base": {
		"name": "debian12-python3.11",
		"digest": "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
		"approved": true,
		"expired": false,
		"retired": false,
		"outdated": false,
		"owner": "platform team",
		"expires_at": "",
		"reason": "",
	},
	"programs": [],
	"exposed": [],
	"attached": {
		"sbom": {"state": "present", "created": "2026-01-30T12:00:00Z", "age_days": 1},
		"provenance": {"state": "present", "created": "2026-01-30T12:00:00Z", "age_days": 1},
		"signature": {"state": "present", "created": "2026-01-30T12:00:00Z", "age_days": 1},
	},
	"framework": {
		"tensorflow": "2.18.0",
		"python": "3.11.2",
		"cuda": "12.5.82",
		"cudnn": "9.3.0.75",
		"serving": "",
		"least_driver": "525.60.13",
		"tested": "yes",
		"tested_reason": "TensorFlow 2.18 with Python 3.9-3.12, CUDA 12.5 and cuDNN 9.3 is a tested configuration",
		"nearest_tested": "TensorFlow 2.18 with Python 3.9-3.12, CUDA 12.5 and cuDNN 9.3",
		"conflicts": [],
	},
	"packages": {
		"python": {"numpy": ["2.1.0"]},
		"deb": {"libc6": ["2.36-9+deb12u9"]},
		"licenses": {"BSD-3-Clause": ["numpy"], "LGPL-2.1-or-later": ["libc6"]},
	},
	"findings": [],
	"not_checked": [],
	"advisories": {
		"revision": "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
		"feeds": [
			{"ecosystem": "PyPI", "as_of": "2026-01-30T00:00:00Z", "age_days": 1},
			{"ecosystem": "Debian:12", "as_of": "2026-01-24T12:00:00Z", "age_days": 7},
		],
	},
	"settings": {"registered_builders": ["ci.example/builder"]},
	"analysis": {"ran": true, "findings": [], "not_checked": []},
}

# The same document with other values in `image`.
imaged(changes) := object.union(good, {"image": object.union(good.image, changes)})

finding := {
	"advisory": "PYSEC-2024-1",
	"aliases": ["CVE-2024-1"],
	"purl": "pkg:pypi/pillow@10.2.0",
	"kind": "python",
	"name": "pillow",
	"version": "10.2.0",
	"severity": "high",
	"fixed_in": ["10.3.0"],
	"upgrade_to": "10.3.0",
	"waived_by": "",
	"kev": false,
	"epss": 0.01,
	"epss_percentile": 0.5,
}

# The results of one rule: a good pack gives exactly one.
of(results, id) := [result | some result in results; result.id == id]

passes(results, id) if {
	of(results, id) == [{"id": id, "status": "pass", "evidence": [], "remedy": ""}]
}

fails(results, id, evidence) if {
	[result] = of(results, id)
	result.status == "fail"
	result.evidence == evidence
	result.remedy != ""
}

digits := "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
