"""What a build that finds everything made does not load."""

import subprocess
import sys

NOT_NEEDED = {
    "http.server",
    "installer",
    "ssl",
    "tidewaiter.assembly.debian.archive",
    "tidewaiter.assembly.debian.pool",
    "tidewaiter.assembly.debian.tree",
    "tidewaiter.assembly.dockerfile",
    "tidewaiter.assembly.foreign_python",
    "tidewaiter.assembly.isolated_build",
    "tidewaiter.assembly.own_wheel",
    "tidewaiter.assembly.python_resolver",
    "tidewaiter.assembly.take",
    "tidewaiter.assembly.wheel",
    "tidewaiter.assembly.wheel_workshop",
    "tidewaiter.distribution.copy",
    "tidewaiter.transport.client",
    "uv",
}


def test_what_only_makes_things_is_loaded_when_something_is_made() -> None:
    """The build's step brings neither resolver nor unpackers nor network along: a build of nothing new is quick."""
    code = "import sys; from tidewaiter.pipelines import building; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "tidewaiter.assembly.python_layers" in loaded
    assert not NOT_NEEDED & loaded
