"""What the wheels of an image must run on: Python, architecture and C library."""

import msgspec

from tidewaiter.core.errors import InputError

GLIBC = (2, 36)
"""glibc of the base; wheels may ask for this one or an older one."""

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class Target(msgspec.Struct, frozen=True):
    """What wheels must run on."""

    python: str
    """Minor version."""
    architecture: str = "amd64"
    glibc: tuple[int, int] = GLIBC

    @property
    def machine(self) -> str:
        """Architecture as Linux and wheels call it; raises `InputError` when no wheels are known for it."""
        try:
            return _MACHINES[self.architecture]
        except KeyError as error:
            raise InputError(
                f"wheels are not chosen for the architecture {self.architecture}",
                next_step=f"Choose one of {', '.join(_MACHINES)}.",
            ) from error

    @property
    def platform(self) -> str:
        """Platform as uv calls it."""
        return f"{self.machine}-manylinux_{self.glibc[0]}_{self.glibc[1]}"

    def __str__(self) -> str:
        return f"Python {self.python} on {self.machine} Linux"
