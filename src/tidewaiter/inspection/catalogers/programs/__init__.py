"""Programs that policy asks for: shells, package managers, SSH servers, Jupyter, compilers, debuggers.

They are known by name. A program that hides under another name is not found here; the packages that bring it are.
"""

import re

from tidewaiter.inspection.facts import ProgramKind
from tidewaiter.oci.layer import Entry

_SHELLS = frozenset(
    {"sh", "bash", "rbash", "dash", "ash", "zsh", "busybox", "toybox", "ksh", "mksh", "csh", "tcsh", "fish", "yash"}
)
_NAMES: dict[str, ProgramKind] = {
    **dict.fromkeys(
        (
            "apt",
            "apt-get",
            "aptitude",
            "dpkg",
            "apk",
            "yum",
            "dnf",
            "dnf5",
            "microdnf",
            "tdnf",
            "rpm",
            "zypper",
            "pacman",
            "opkg",
            "pipx",
            "uv",
            "conda",
            "mamba",
            "micromamba",
            "npm",
        ),
        "package_manager",
    ),
    **dict.fromkeys(("sshd", "dropbear", "tinysshd"), "ssh_server"),
    **dict.fromkeys(("jupyter", "jupyter-lab", "jupyter-notebook", "jupyter-server", "jupyterhub"), "jupyter"),
    **dict.fromkeys(
        ("gcc", "g++", "cc", "c++", "c89", "c99", "clang", "clang++", "tcc", "as", "ld", "make", "gfortran", "nvcc"),
        "compiler",
    ),
    **dict.fromkeys(
        (
            "gdb",
            "gdbserver",
            "gdbtui",
            "cgdb",
            "cuda-gdb",
            "cuda-gdbserver",
            "lldb",
            "lldb-server",
            "lldb-mi",
            "lldb-vscode",
            "lldb-dap",
            "strace",
            "ltrace",
            "valgrind",
            "perf",
            "bpftrace",
            "gcore",
            "dlv",
            "rr",
            "cuda-memcheck",
            "compute-sanitizer",
        ),
        "debugger",
    ),
}
_PATTERNS: tuple[tuple[re.Pattern[str], ProgramKind], ...] = (
    (re.compile(r"pip[0-9.]*"), "package_manager"),
    (
        re.compile(r"(?:[a-z0-9_]+-linux-(?:gnu|musl)[a-z]*-)?(?:gcc|g\+\+|clang|clang\+\+|cpp|gfortran|as|ld)(?:-\d+(?:\.\d+)*)?"),
        "compiler",
    ),
    (re.compile(r"ld\.(?:bfd|gold|lld|mold)"), "compiler"),
    (re.compile(r"(?:[a-z0-9_]+-linux-(?:gnu|musl)[a-z]*-)?gdb|gdb-multiarch"), "debugger"),
    (re.compile(r"lldb(?:-(?:server|mi|vscode|dap))?-\d+|perf_\d[\w.]*"), "debugger"),
)  # fmt: skip
JUPYTER_DISTRIBUTIONS = frozenset({"notebook", "jupyterlab", "jupyter-server", "jupyterhub"})
"""Python distributions that bring a Jupyter server, whatever its program is called."""


def kind_of(path: str) -> ProgramKind | None:
    """What the program at `path` is; None when policy does not ask for it.

    A shell counts in every folder (debug images keep theirs in `/busybox`), the others in `bin` and `sbin`.
    """
    folder, _, name = path.rpartition("/")
    if name in _SHELLS:
        return "shell"
    if not folder.endswith(("bin", "sbin")) or folder.rpartition("/")[2] not in {"bin", "sbin"}:
        return None
    known = _NAMES.get(name)
    if known is not None:
        return known
    for pattern, kind in _PATTERNS:
        if pattern.fullmatch(name):
            return kind
    return None


def runnable(entry: Entry) -> bool:
    """Whether the entry can be executed: a link of either kind, or a file with an execute bit."""
    return entry.kind in {"symlink", "hardlink"} or (entry.kind == "file" and bool(entry.mode & 0o111))
