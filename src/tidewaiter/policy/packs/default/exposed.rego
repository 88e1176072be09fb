# Files that help an attacker: they hold secrets, or give rights away.
# That the root file system is read-only is no property of an image: who starts the container decides it.
package tidewaiter.exposed

import data.tidewaiter.lib

found(kinds) := {sprintf("%d %s: %s", [group.count, replace(group.kind, "_", "-"), concat(", ", group.examples)]) |
	some group in input.exposed
	group.kind in kinds
}

results contains lib.outcome(
	"exposed.no-secrets",
	found({"secret"}),
	"Revoke the secret, since it is out; take the file out of the build (.dockerignore, `[build] secrets`) and build again.",
)

results contains lib.outcome(
	"exposed.no-privileged-files",
	found({"set_uid", "set_gid"}),
	"Clear the bits where the file is made (`chmod a-s FILE` in the Dockerfile), or build on a base that `tidewaiter base build` assembled.",
)

results contains lib.outcome(
	"exposed.no-world-writable-files",
	found({"world_writable"}),
	"Clear the bit where the file is made (`chmod o-w FILE` in the Dockerfile), and build again.",
)
