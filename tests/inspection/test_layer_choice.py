from hypothesis import given, settings
from hypothesis import strategies as st

from tidewaiter.inspection import layer

_FOLDERS = (
    *("", "etc", "usr/lib", "var/lib/dpkg", "var/lib/dpkg/status.d", "var/lib/dpkg/status.d/deep", "var/lib/dpkg/info"),
    *("lib/apk/db", "opt/env/conda-meta", "usr/lib/python3/dist-packages/x-1.dist-info", "a/x.egg-info", "a/EGG-INFO"),
    *("a/node_modules/b", "a/node_modules/@s/b", "g/specifications", "usr/share/doc/zlib", "var/lib/rpm", "usr/bin"),
    *("usr/local/cuda", "usr/include/python3.11", "s/tensorflow/python/platform", "var/lib/rpmmanifest", "models/m/1"),
)
_NAMES = (
    *("status", "zlib1g", "zlib1g.md5sums", "zlib1g.list", "copyright", "installed", "METADATA", "PKG-INFO", "RECORD"),
    *("direct_url.json", "__editable__.a-1.pth", "easy-install.pth", "a.egg-link", "a-1.egg-info", "a-1.egg", "x.json"),
    *("package.json", "a-1.gemspec", "build_info.py", "cuda.h", "cudnn_version.h", "patchlevel.h", "version.json"),
    *("os-release", "passwd", "rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages", "Packages.db", "container-manifest-2"),
    *("saved_model.pb", "m.tflite", "a.jar", "a.war", "libcudart.so.12", "plain", "a.b.", ".hidden", "noend"),
)


@settings(max_examples=500)
@given(st.sampled_from(_FOLDERS), st.sampled_from(_NAMES))
def test_who_is_not_asked_would_not_have_wanted_the_file(folder: str, name: str) -> None:
    """Nobody wants a file that is not among those that anybody is asked about."""
    path = f"{folder}/{name}" if folder else name
    if not layer.is_known(path, name):
        assert layer.wanted_by(path) == []
        assert layer.archive_reader(path) is None


def test_each_cataloger_wants_something_of_what_is_tried() -> None:
    """The files that are tried say something about every cataloger."""
    paths = [f"{folder}/{name}" if folder else name for folder in _FOLDERS for name in _NAMES]
    assert [one.name for one in layer.CATALOGERS if not any(map(one.wants, paths))] == []
