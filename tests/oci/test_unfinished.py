"""What a process began to write and could not finish."""

import subprocess
import sys
from pathlib import Path

_INTERRUPTED = """
import sys
from pathlib import Path
from tidewaiter.oci.layout import BlobWriter, Layout

layout = Layout(Path(sys.argv[1]))
layout.create()
writer = BlobWriter(layout)
assert len(list(layout.ingest.iterdir())) == 1
raise KeyboardInterrupt
"""


def test_interrupted_before_with_leaves_nothing(tmp_path: Path) -> None:
    """A signal between the beginning of a blob and its `with` leaves no file behind."""
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, tmp_path / "store"], capture_output=True, text=True, check=False
    )
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert list((tmp_path / "store/.ingest").iterdir()) == []
