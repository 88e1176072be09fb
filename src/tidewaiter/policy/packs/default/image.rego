# What may be in an image, and as whom it runs.
package tidewaiter.image

import data.tidewaiter.lib
import data.tidewaiter.parameters

as_root contains sprintf("config.User is %q, which is root or cannot be resolved", [input.image.user]) if {
	input.image.runs_as_root
}

results contains lib.outcome(
	"image.non-root",
	as_root,
	"Set a numeric user other than 0: the assembled bases use 65532; in a Dockerfile write `USER 65532:65532`.",
)

shells := {program.path | some program in input.programs; program.kind == "shell"}

results contains lib.outcome(
	"image.no-shell",
	shells,
	"Build on a base without a shell: in tidewaiter.toml set `[base] use` to a distroless-style recipe such as debian12-python3.11.",
)

package_managers := {program.path | some program in input.programs; program.kind == "package_manager"}

results contains lib.outcome(
	"image.no-package-manager",
	package_managers,
	"Build on a distroless-style base, and leave pip, setuptools and conda out of requirements.in.",
)

compilers := {program.path | some program in input.programs; program.kind == "compiler"}

results contains lib.outcome(
	"image.no-compiler",
	compilers,
	"Compile in the build, not in the image: install wheels, or copy only the built files from a build stage.",
)

debuggers := {program.path | some program in input.programs; program.kind == "debugger"}

results contains lib.outcome(
	"image.no-debugger",
	debuggers,
	"Leave the debugger out of the image; debug with an ephemeral container (`kubectl debug`) that brings its own.",
)

ssh_servers contains program.path if {
	some program in input.programs
	program.kind == "ssh_server"
}

ssh_servers contains sprintf("package %s %s", [name, version]) if {
	some name in parameters.ssh_packages
	some version in input.packages.deb[name]
}

results contains lib.outcome(
	"image.no-ssh-server",
	ssh_servers,
	"Remove the SSH server from the image; use `kubectl exec` or an ephemeral debug container instead.",
)

jupyter contains program.path if {
	some program in input.programs
	program.kind == "jupyter"
}

jupyter contains sprintf("package %s %s", [name, version]) if {
	some name in parameters.jupyter_packages
	some version in input.packages.python[name]
}

results contains lib.outcome(
	"image.no-jupyter",
	jupyter,
	"Remove Jupyter from requirements.in, then `tidewaiter lock PROJECT` and build again; keep notebooks in an image with purpose = \"notebook\".",
)
