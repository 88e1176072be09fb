"""Reading a member front to back in a small window: what lies ahead is skipped, never kept."""

import io
from typing import IO


class Forward:
    """A file of `size` bytes that is read once; `head` holds what was read of it before, from its start."""

    def __init__(self, file: IO[bytes], size: int, head: bytes = b"") -> None:
        self._file = file
        self._head = head
        self.size = size
        self.position = 0

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        size = min(size, self.size - self.position)
        data = self._head[self.position : self.position + size]
        if len(data) < size:
            data += self._file.read(size - len(data))
        self.position += len(data)
        return data

    def skip_to(self, position: int) -> bool:
        """Go on to `position`; False when that is behind, or past the end."""
        if not self.position <= position <= self.size:
            return False
        unread = max(self.position, len(self._head))  # where `file` stands
        if position > unread:
            self._file.seek(position - unread, io.SEEK_CUR)
        self.position = position
        return True
