"""What the permission bits of an entry allow that they seldom should."""

from tidewaiter.inspection.layer_facts import Collector, Exposure
from tidewaiter.oci.layer import Entry

_SET_UID, _SET_GID, _STICKY, _WRITABLE, _RUNNABLE = 0o4000, 0o2000, 0o1000, 0o0002, 0o0111


def read(path: str, entry: Entry, collector: Collector) -> None:
    """Record set-uid and set-gid programs, files that anybody may write, and folders where anybody may delete.

    A set-gid folder only hands its group down, and a sticky one (`/tmp`) protects what others put there.
    """
    mode = entry.mode
    if not mode & (_SET_UID | _SET_GID | _WRITABLE) or entry.kind == "symlink":
        return
    if entry.kind == "directory":
        if mode & _WRITABLE and not mode & _STICKY:
            collector.add_exposure(Exposure(path, "world_writable"))
        return
    if mode & _SET_UID:
        collector.add_exposure(Exposure(path, "set_uid"))
    if mode & _SET_GID and mode & _RUNNABLE:
        collector.add_exposure(Exposure(path, "set_gid"))
    if mode & _WRITABLE:
        collector.add_exposure(Exposure(path, "world_writable"))
