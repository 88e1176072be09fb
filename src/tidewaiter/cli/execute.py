"""`exec`: run an image here."""

from typing import Annotated

from cyclopts import Parameter

from tidewaiter.assembly import execution
from tidewaiter.cli.workshop import workshop
from tidewaiter.pipelines import images


def execute(image: str, /, *command: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Run a command in an image: its user and environment, a read-only root, no network.

    Without a command the image's own entry point runs. The exit code is the command's.

    Args:
        image: a store name (NAME:TAG), oci:PATH[:TAG], an archive, or HOST/REPO:TAG.
        command: command and arguments, after `--`.
    """
    with workshop() as shop:
        opened = images.open_named(shop, image)
        return execution.run(opened.image, command, cache=shop.settings.home.cache, progress=shop.progress)
