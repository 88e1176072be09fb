package tidewaiter.image_test

import data.tidewaiter.document_test as document
import data.tidewaiter.image

with_program(path, kind) := object.union(document.good, {"programs": [{"path": path, "kind": kind}]})

with_package(kind, name) := object.union(document.good, {"packages": {kind: {name: ["1.0"]}}})

test_good_image_passes if {
	every id in [
		"image.non-root",
		"image.no-shell",
		"image.no-package-manager",
		"image.no-compiler",
		"image.no-debugger",
		"image.no-ssh-server",
		"image.no-jupyter",
	] {
		document.passes(image.results, id) with input as document.good
	}
}

test_root_fails if {
	found := image.results with input as document.imaged({"user": "", "runs_as_root": true})
	document.fails(found, "image.non-root", [`config.User is "", which is root or cannot be resolved`])
}

test_shell_fails if {
	found := image.results with input as with_program("/bin/sh", "shell")
	document.fails(found, "image.no-shell", ["/bin/sh"])
	document.passes(found, "image.no-compiler")
}

test_package_manager_fails if {
	found := image.results with input as with_program("/usr/bin/apt", "package_manager")
	document.fails(found, "image.no-package-manager", ["/usr/bin/apt"])
	document.passes(found, "image.no-shell")
}

test_debugger_fails if {
	found := image.results with input as with_program("/usr/bin/gdb", "debugger")
	document.fails(found, "image.no-debugger", ["/usr/bin/gdb"])
	document.passes(found, "image.no-compiler")
}

test_compiler_fails if {
	found := image.results with input as with_program("/usr/bin/gcc", "compiler")
	document.fails(found, "image.no-compiler", ["/usr/bin/gcc"])
}

test_ssh_program_fails if {
	found := image.results with input as with_program("/usr/sbin/sshd", "ssh_server")
	document.fails(found, "image.no-ssh-server", ["/usr/sbin/sshd"])
}

test_ssh_package_fails if {
	found := image.results with input as with_package("deb", "openssh-server")
	document.fails(found, "image.no-ssh-server", ["package openssh-server 1.0"])
}

test_ssh_client_passes if {
	found := image.results with input as with_package("deb", "openssh-client")
	document.passes(found, "image.no-ssh-server")
}

test_jupyter_program_fails if {
	found := image.results with input as with_program("/usr/local/bin/jupyter", "jupyter")
	document.fails(found, "image.no-jupyter", ["/usr/local/bin/jupyter"])
}

test_jupyter_package_fails if {
	found := image.results with input as with_package("python", "jupyterlab")
	document.fails(found, "image.no-jupyter", ["package jupyterlab 1.0"])
}
