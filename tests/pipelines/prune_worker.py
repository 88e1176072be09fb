"""Tiny images built as a command builds them: layers from the cache, a manifest, a record, a tag. Also a process.

As a process, `prune_worker.py HOME SEED` builds image after image until its standard input ends, and
`prune_worker.py HOME prune` prunes again and again.
"""

import random
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tidewaiter.catalog.records import BuildRecord, BuiltLayer
from tidewaiter.core import clock, settings
from tidewaiter.core.progress import SILENT
from tidewaiter.oci import manifest as documents
from tidewaiter.oci.digest import Digest
from tidewaiter.oci.layer import Entry, LayerInfo, Sink, write_layer
from tidewaiter.oci.manifest import Descriptor, ImageConfig, Manifest, RootFS
from tidewaiter.pipelines import pruning
from tidewaiter.pipelines.workshop import Workshop, opened

LAYERS = 40
TAGS = 4


def _make(number: int, sink: Sink) -> LayerInfo:
    return write_layer(sink, [(Entry(path=f"opt/{number}", kind="file", size=2000), bytes([number]) * 2000)])


def layer(shop: Workshop, number: int) -> LayerInfo:
    """The layer with this number, reused when it is there."""
    info, _ = shop.layers.obtain({"kind": "test", "number": number}, partial(_make, number))
    return info


def build(shop: Workshop, numbers: list[int], tag: str, *, pause: float = 0) -> Digest:
    """An image of these layers, tagged `team/tiny:TAG`; it waits `pause` seconds after each step."""
    infos = []
    for number in numbers:
        infos.append(layer(shop, number))
        time.sleep(pause)
    config = documents.encode(
        ImageConfig(architecture="amd64", os="linux", rootfs=RootFS("layers", [one.diff_id for one in infos]))
    )
    document = documents.encode(
        Manifest(
            schema_version=2,
            media_type=documents.MANIFEST,
            config=Descriptor(media_type=documents.CONFIG, digest=shop.store.put(config), size=len(config)),
            layers=[Descriptor(media_type=documents.LAYER_GZIP, digest=one.digest, size=one.size) for one in infos],
        )
    )
    time.sleep(pause)
    digest = shop.store.put(document)
    time.sleep(pause)
    now = clock.now()
    shop.catalog.record_build(
        BuildRecord(
            repository="team/tiny",
            digest=digest,
            media_type=documents.MANIFEST,
            layers=tuple(BuiltLayer(digest=o.digest, diff_id=o.diff_id, size=o.size, kind="python") for o in infos),
            environment="staging",
            purpose="training",
            source="test",
            commit="0" * 40,
            dirty=False,
            builder="local",
            started=now,
            finished=now,
            seconds=0.0,
        )
    )
    shop.catalog.set_tag("team/tiny", tag, digest)
    return digest


def _until_input_ends() -> Iterator[None]:
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    while not ended.is_set():
        yield


def main(home: Path, what: str) -> None:
    """Build or prune; each time is its own command, as far as the home can tell. One line of output for each."""
    loaded = settings.load({"TIDEWAITER_HOME": str(home)})
    rng = random.Random(what)  # a test's choice of layers
    for _ in _until_input_ends():
        if what == "prune":
            pruning.prune(loaded, keep=0)
        else:
            with opened(loaded, SILENT) as shop:
                numbers = rng.sample(range(LAYERS), 3)
                build(shop, numbers, f"t{rng.randrange(TAGS)}", pause=rng.random() / 50)
        sys.stdout.write("done\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
