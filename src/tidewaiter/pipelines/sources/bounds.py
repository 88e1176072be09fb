"""What a checkout may take, all that it brings along together: a limit on each part is none when the parts are many."""

from tidewaiter.core import limits
from tidewaiter.core.errors import LimitError


class Left:
    """What one checkout may still take, with its submodules and large files. It is counted down."""

    def __init__(self) -> None:
        self._files = 0
        self._bytes = 0
        self._submodules = 0
        self._packed = 0
        self._large = 0
        self._large_bytes = 0

    @property
    def pack_bytes(self) -> int:
        """What the next fetch may write."""
        return max(limits.SOURCE_PACK_BYTES - self._packed, 0)

    def take_file(self, size: int) -> None:
        """Count a file of a tree. Raises `LimitError`."""
        self._files += 1
        self._bytes += size
        if self._files > limits.SOURCE_TREE_FILES or self._bytes > limits.SOURCE_TREE_BYTES:
            raise LimitError(
                f"the commit has over {limits.SOURCE_TREE_FILES} files or {limits.SOURCE_TREE_BYTES} bytes",
                next_step="Keep data elsewhere, or large files in Git LFS.",
            )

    def take_packed(self, size: int) -> None:
        """Count what a fetch wrote; Git itself is held to `pack_bytes`."""
        self._packed += size

    def take_submodules(self, number: int, *, depth: int) -> None:
        """Count the submodules of one repository, which itself lies `depth` deep. Raises `LimitError`."""
        self._submodules += number
        if depth >= limits.SOURCE_SUBMODULE_DEPTH or self._submodules > limits.SOURCE_SUBMODULES:
            raise LimitError(
                f"there are over {limits.SOURCE_SUBMODULES} submodules, or more than {limits.SOURCE_SUBMODULE_DEPTH} "
                "within each other",
                next_step="Fetch without submodules, and name what is needed as packages.",
            )

    def take_large(self, number: int, size: int) -> None:
        """Count large files of one repository. Raises `LimitError`."""
        self._large += number
        self._large_bytes += size
        if self._large > limits.LFS_OBJECTS or self._large_bytes > limits.LFS_BYTES:
            raise LimitError(
                f"the commit has over {limits.LFS_OBJECTS} large files, or they have over {limits.LFS_BYTES} bytes",
                next_step="Keep data elsewhere, and name it in [[models]].",
            )
