"""What a child process that reads hostile input does first: it gives up whatever that does not need.

1. No gain of rights by running a program (`PR_SET_NO_NEW_PRIVS`).
2. A user and network namespace of its own: no network.
3. Landlock: no file is opened, no program run, no TCP port reached, no process outside signalled.
4. No capability, should it have been started by root, and no debugger of the same user.
5. Limits: memory, computing time, no file written, and no further descriptor, so nothing is opened by any other way.

Hosts may forbid step 2 and kernels may lack step 3 or parts of it; `Kept` says what is left. Steps 1, 4 and 5 hold
everywhere. Frames both ways are a length (four bytes, big-endian) and that many bytes.

Only the standard library is imported here, so that a child starts fast and holds little that could be misused.
"""

import ctypes
import os
import resource
import signal
from collections.abc import Sequence
from typing import NamedTuple

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522
# The system calls of Landlock have the same numbers on every architecture but alpha.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_VERSION = 1
_LANDLOCK_FILES = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many kinds of access to files a version of Landlock knows; later ones know as many as the last."""
_LANDLOCK_NETWORK_FROM, _LANDLOCK_NETWORK = 4, 0b11
_LANDLOCK_SCOPE_FROM, _LANDLOCK_SCOPE = 6, 0b11
_SMALL = 1 << 16


class Kept(NamedTuple):
    """What the host did not let this process give up."""

    network: bool
    files: bool
    """Whether files are kept away by the limit on descriptors alone."""


def _landlock(libc: ctypes.CDLL) -> bool:
    """Deny everything that this kernel's Landlock knows; whether it did."""
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if version < 1:
        return False
    handled = (ctypes.c_uint64 * 3)(
        (1 << _LANDLOCK_FILES[min(version, max(_LANDLOCK_FILES))]) - 1,
        _LANDLOCK_NETWORK if version >= _LANDLOCK_NETWORK_FROM else 0,
        _LANDLOCK_SCOPE if version >= _LANDLOCK_SCOPE_FROM else 0,
    )
    # Bytes that an old kernel does not know are fine as long as they are zero.
    rules = libc.syscall(_LANDLOCK_CREATE_RULESET, handled, ctypes.c_size_t(ctypes.sizeof(handled)), 0)
    if rules < 0:
        return False
    try:
        return bool(libc.syscall(_LANDLOCK_RESTRICT_SELF, rules, 0) == 0)
    finally:
        os.close(rules)


def _leave_network(libc: ctypes.CDLL) -> bool:
    # A new user namespace lets an ordinary user leave the network; hosts may forbid it, and then this is left out.
    return bool(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWNET) == 0)


def confine_program(*, memory: int) -> Kept:
    """Give up what a foreign program does not need that this process will start: steps 1, 2 and parts of 5.

    Args:
        memory: bytes of data of each process; programs in Go reserve far more addresses than they use.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # step 1
    apart = _leave_network(libc)  # step 2
    for kind, value in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CORE, 0)):  # step 5
        resource.setrlimit(kind, (value, value))
    return Kept(network=not apart, files=True)


def end_with_parent() -> None:
    """End this process when the thread that started it ends; for `preexec_fn` of a process with a single thread."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def confine(*, memory: int, threads: bool = False) -> Kept:
    """Give up what parsing does not need. Import everything first: afterwards no file can be opened.

    Args:
        memory: bytes of address space.
        threads: whether some may be started later.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # step 1
    apart = _leave_network(libc)  # step 2
    locked = _landlock(libc)  # step 3
    libc.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())  # step 4
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    bounds = {  # step 5
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 0,
    }
    if not threads:
        bounds[resource.RLIMIT_NPROC] = 0
    for kind, value in bounds.items():
        resource.setrlimit(kind, (value, value))
    return Kept(network=not apart, files=not locked)


def allow_cpu(seconds: float) -> None:
    """End this process some seconds of computing from now, should the parent not be there to do it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def answers() -> int:
    """A descriptor for answers; what a library prints goes elsewhere, so that it does not land between two frames."""
    out = os.dup(1)
    os.dup2(2, 1)
    return out


def fill(buffer: memoryview) -> bool:
    """Read as many bytes of a frame as `buffer` has room for, without a copy; False when the input ends before."""
    while buffer:
        taken = os.readv(0, [buffer])
        if not taken:
            return False
        buffer = buffer[taken:]
    return True


def announced(largest: int) -> int | None:
    """Bytes of the next frame, for `fill`; None at the end of the input, or when the frame is over `largest` bytes."""
    header = bytearray(4)
    if not fill(memoryview(header)):
        return None
    size = int.from_bytes(header, "big")
    return None if size > largest else size


def receive(largest: int) -> bytearray | None:
    """The next frame; None at the end of the input, or when the frame is over `largest` bytes."""
    size = announced(largest)
    if size is None:
        return None
    data = bytearray(size)
    return data if fill(memoryview(data)) else None


def whole(parts: Sequence[bytes]) -> Sequence[bytes]:
    """`parts` of a frame as one piece, where copying them takes less than another reading and writing."""
    return [b"".join(parts)] if sum(map(len, parts)) < _SMALL else parts


def send(out: int, *parts: bytes) -> None:
    """Write one frame of all `parts`."""
    for part in whole((sum(map(len, parts)).to_bytes(4, "big"), *parts)):
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(out, rest) :]
