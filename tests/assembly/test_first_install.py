"""Following maintainer scripts without running them."""

import pytest

from tidewaiter.assembly.debian import first_install
from tidewaiter.assembly.debian.first_install import Alternative, Unknown
from tidewaiter.core import limits

BLAS = b"""#!/bin/sh
set -e

# Automatically added by a maintainer
if [ "$1" = "configure" ] || [ "$1" = "abort-upgrade" ]; then
    update-alternatives --quiet --install /usr/lib/x86_64-linux-gnu/libblas.so.3 \\
        libblas.so.3-x86_64-linux-gnu /usr/lib/x86_64-linux-gnu/blas/libblas.so.3 10 \\
        --slave /usr/share/man/man1/blas.1.gz blas.1.gz /usr/share/man/man1/refblas.1.gz
fi

exit 0
"""

IDLE = [
    # what debhelper writes (dh_installsystemd, dh_python3, dh_makeshlibs, dh_installdeb)
    (
        'if [ "$1" = "configure" ]; then\n\tif deb-systemd-helper debian-installed x.service; then\n'
        "\t\tdeb-systemd-helper enable x.service >/dev/null || true\n\tfi\nfi"
    ),
    "if command -v py3compile >/dev/null 2>&1; then\n\tpy3compile -p python3-x\nfi",
    "if [ -d /run/systemd/system ]; then\n\tsystemctl --system daemon-reload >/dev/null || true\nfi",
    'dpkg-maintscript-helper symlink_to_dir /usr/share/doc/x y 1.0~ x -- "$@"',
    'if [ "$1" = "configure" ]; then\n\tldconfig\nfi',
    # what maintainers write for upgrades
    'if [ "$1" = "upgrade" ]; then rm -rf /var/lib/x; fi',
    'if dpkg --compare-versions "$2" lt-nl 1.0; then rm -f /etc/old; fi',
    'case "$1" in\n  abort-*) useradd x ;;\n  configure|triggered)\n    : ;;\n  *) exit 1 ;;\nesac',
    'old() {\n  rm -rf "$1"\n}\nif [ -n "$2" ] && old /x; then\n  old /y\nfi',
    'VERSION="$2"\nif [ -z "$VERSION" ]; then\n  echo first\nelse\n  mv /a /b\nfi',
    "done_() { return 0; useradd x; }\ndone_",
    'for one in a b; do\n  echo "$one"\ndone',
    'if [ "$1" = triggered ]; then useradd x; exit 0; fi; true',
    "exit 0\nuseradd never",
]

ACTIVE = [
    "useradd x",
    "mkdir -p /var/lib/x",
    "ln -s a /usr/bin/b",
    'if [ "$1" = configure ]; then chown x /y; fi',
    "if [ -x /usr/bin/other ]; then other; fi",
    "if [ -x /usr/bin/other ]; then exit 0; fi\nuseradd x",
    "if command -v other; then other; fi",
    ": && useradd x",
    "false || useradd x",
    "unknown-program || true",
    "exit 0 | cat\nuseradd x",
    "(exit 0)\nuseradd x",
    "echo x > /etc/x",
    "echo $(useradd x)",
    'X="$(useradd x)"',
    "echo `useradd x`",
    "cat <<EOF\nx\nEOF",
    "set -e \\\n&& useradd x",
    "X=useradd\n$X y",
    "eval useradd x",
    ". /usr/share/debconf/confmodule",
    "useradd x &",
    "exit 1",
    "f() { f; }\nf",
    "X=a\nif [ -e /y ]; then X=b; fi\n[ $X = a ] || useradd x",
    "if [ -e /x ]; then update-alternatives --install /a a /b 1; fi",
    "update-alternatives --install /a ../../etc/x /b 1",
    "update-alternatives --install relative a /b 1",
    "update-alternatives --config x",
    "if [ 1",
    'if [ "${1%x}" = configure ]; then useradd x; fi',
    'if [ "$0" != "" ]; then useradd x; fi',
    "set -- other\nif [ $1 = other ]; then useradd x; fi",
    "X=a\nexport X=b\n[ $X = a ] || useradd x",
    "X=a\nunset X\n[ $X = a ] || useradd x",
    "X=a\nX=b true\n[ $X = a ] && useradd x",
    'X=a\nfor X in b; do [ "$X" = a ] || useradd x; done',
    "X=a\nfor Y in b c; do [ $X = a ] || useradd x; X=b; done",
    'X=config*\ncase "$1" in\n  $Y) useradd x ;;\nesac',
    'X=configure\ncase "$1" in\n  $X) useradd x ;;\nesac',
    "case $1 in",
    "echo 'open",
]


@pytest.mark.parametrize("script", IDLE)
def test_a_script_that_would_do_nothing_is_known(script: str) -> None:
    """What is generated, and what is for upgrades and removal only, does nothing on a first installation."""
    assert first_install.effects("postinst", f"#!/bin/sh\nset -e\n{script}\n".encode()) == ()


@pytest.mark.parametrize("script", ACTIVE)
def test_a_script_that_would_or_might_do_something_is_unknown(script: str) -> None:
    """A statement that is not known, wherever it may run from, makes the script unknown; so does odd syntax."""
    with pytest.raises(Unknown):
        first_install.effects("postinst", f"#!/bin/sh\n{script}\n".encode())


def test_a_preinst_is_followed_with_its_own_arguments() -> None:
    """dpkg calls preinst with `install` and nothing else."""
    script = b'#!/bin/sh\nif [ "$1" = install ]; then useradd x; fi\n'
    assert first_install.effects("postinst", script) == ()
    with pytest.raises(Unknown, match="useradd x"):
        first_install.effects("preinst", script)


def test_alternatives_are_what_a_script_is_allowed_to_do() -> None:
    """`update-alternatives --install` is returned with its priority and its slaves."""
    assert first_install.effects("postinst", BLAS) == (
        Alternative(
            link="usr/lib/x86_64-linux-gnu/libblas.so.3",
            name="libblas.so.3-x86_64-linux-gnu",
            path="usr/lib/x86_64-linux-gnu/blas/libblas.so.3",
            priority=10,
            slaves=(("usr/share/man/man1/blas.1.gz", "blas.1.gz", "usr/share/man/man1/refblas.1.gz"),),
        ),
    )


def test_depth_and_steps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script at the bounds is followed; one block or one step more makes it unknown."""

    def nested(depth: int) -> bytes:
        return b"#!/bin/sh\n" + b"if true; then\n" * depth + b"true\n" + b"fi\n" * depth

    assert first_install.effects("postinst", nested(limits.SCRIPT_DEPTH - 1)) == ()
    with pytest.raises(Unknown, match="nested too deeply"):
        first_install.effects("postinst", nested(limits.SCRIPT_DEPTH))
    steps = b"#!/bin/sh\n" + b"true\n" * 9
    monkeypatch.setattr(limits, "SCRIPT_STEPS", 10)
    assert first_install.effects("postinst", steps) == ()
    with pytest.raises(Unknown, match="without an end"):
        first_install.effects("postinst", steps + b"true\n")
