"""`audit checkpoint`, `cosign`, `accept`: what is exchanged with a witness of an audit log, as files."""

from pathlib import Path
from typing import Annotated

import msgspec

from tidewaiter.cli import console
from tidewaiter.cli.console import Format, emit, emit_bytes, emit_json
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.core import durable
from tidewaiter.pipelines.audit import witnessing
from tidewaiter.signing.tlog import checkpoint, note


def show_checkpoint(
    *,
    request: int | None = None,
    file: Annotated[Path | None, Parameter(name="--output")] = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Print the signed checkpoint of the log with the signatures of witnesses, or the request for one.

    Args:
        request: print what a witness is handed (C2SP tlog-witness, add-checkpoint) that signed so many entries last; 0
            when it was not asked before.
        file: write it there.
        output: text or json.
    """
    with workshop(looking=True) as shop:
        signed = witnessing.current(shop)
        data = signed if request is None else witnessing.request(shop, request)
    if file is not None:
        durable.write_atomically(file, data)
        console.tell(f"wrote {file}")
    elif output == "json":
        parsed = checkpoint.parse(note.split(signed)[0])
        emit_json(
            {
                "origin": parsed.origin,
                "size": parsed.size,
                "root": parsed.root.hex(),
                "checkpoint": signed.decode(),
                "request": None if request is None else data.decode(),
            }
        )
    else:
        emit_bytes(data)
    return 0


def cosign(
    source: Path,
    /,
    *,
    log: str,
    key: Path | None = None,
    file: Annotated[Path | None, Parameter(name="--output")] = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Be the witness of another log: sign its checkpoint when it goes on from the last one that was signed.

    This home remembers what it signed of each log. A log that was rewritten, or that shrank, is refused.

    Args:
        source: a request that `audit checkpoint` wrote, or a folder that `audit export` wrote.
        log: public key of the log, as NAME+ID+KEY or a file with it.
        key: file with the witness's private key; default witness/witness.key in the home, made when it is missing.
        file: write the signature there.
        output: text or json.
    """
    with workshop() as shop:
        given = witnessing.cosign(shop, source, log=log, key=key)
    line = given.signature.line
    console.tell(f"{given.checkpoint.origin}: {given.checkpoint.size} entries, signed by {given.key}")
    if file is not None:
        durable.write_atomically(file, line.encode())
        console.tell(f"wrote {file}")
    elif output == "json":
        emit_json(
            {
                "origin": given.checkpoint.origin,
                "size": given.checkpoint.size,
                "root": given.checkpoint.root.hex(),
                "witness": str(given.key),
                "cosignature": line,
            }
        )
    else:
        emit_bytes(line.encode())
    return 0


def accept(
    answer: Path,
    /,
    *,
    checkpoint: Annotated[Path | None, Parameter(name="--checkpoint")] = None,
    output: Annotated[Format, Parameter(name="--format")] = "text",
) -> int:
    """Keep what a witness signed of this log, once it is verified.

    The witness must be one of the setting `audit_witnesses`.

    Args:
        answer: file with the signature lines that the witness answered.
        checkpoint: the checkpoint, or the request, that it was asked to sign; default the log's current one.
        output: text or json.
    """
    with workshop() as shop:
        added = witnessing.take(shop, answer, checkpoint)
    if output == "json":
        emit_json({"added": msgspec.to_builtins(added)})
        return 0
    for one in added:
        emit(f"{one.witness} signed {one.size} entries at {one.at}")
    return 0
