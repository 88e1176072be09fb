"""`os-release` and `passwd`: which distribution an image is, and which numbers its user names stand for."""

from tidewaiter.inspection.catalogers import Cataloger
from tidewaiter.inspection.catalogers.text import clean
from tidewaiter.inspection.layer_facts import Collector, OsRelease

OS_RELEASES = ("etc/os-release", "usr/lib/os-release")
PASSWD = "etc/passwd"  # noqa: S105  a file name
_USERS = 10_000
_LARGEST_UID = 2**31 - 1


def os_release(data: bytes) -> OsRelease:
    """The fields of an os-release file (os-release(5)); quotes are removed, shell escapes are not interpreted."""
    fields: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            text = value.strip()
            if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
                text = text[1:-1]
            fields[key] = clean(text, 200)
    return OsRelease(
        id=fields.get("ID", "").lower(),
        version_id=fields.get("VERSION_ID", ""),
        version=fields.get("VERSION", ""),
        name=fields.get("PRETTY_NAME", "") or fields.get("NAME", ""),
    )


def users(data: bytes) -> dict[str, int]:
    """Numbers of the user names in a passwd file; the lowest where a name stands twice, so that root cannot hide."""
    found: dict[str, int] = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        fields = line.split(":")
        if len(fields) < 4 or not fields[2].isascii() or not fields[2].isdigit() or len(fields[2]) > 10:
            continue
        uid = int(fields[2])
        name = clean(fields[0], 100)
        if uid <= _LARGEST_UID and name and (name in found or len(found) < _USERS):
            found[name] = min(uid, found.get(name, uid))
    return found


def _read_os_release(path: str, data: bytes, collector: Collector) -> None:
    collector.os_releases[path] = os_release(data)


def _read_passwd(path: str, data: bytes, collector: Collector) -> None:
    collector.users[path] = users(data)


OS_RELEASE = Cataloger("os-release", ("os-release",), lambda path: path in OS_RELEASES, _read_os_release, 64 * 1024)
USERS = Cataloger("passwd", ("passwd",), lambda path: path == PASSWD, _read_passwd)
