"""`exec`: run an image here."""

from typing import Annotated

from tidewaiter.assembly import execution
from tidewaiter.cli.parameters import Parameter
from tidewaiter.cli.workshop import workshop
from tidewaiter.pipelines import images


def execute(
    image: str,
    /,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    env: tuple[str, ...] = (),
    volume: tuple[str, ...] = (),
) -> int:
    """Run a command in an image: its user and environment, a read-only root, no network.

    Without a command the image's own entry point runs. The exit code is the command's. Options stand before
    the image.

    Args:
        image: a store name (NAME:TAG), oci:PATH[:TAG], an archive, or HOST/REPO:TAG.
        command: command and arguments, after `--`.
        env: NAME=VALUE, put over the image's variables; may be given several times.
        volume: HOST:CONTAINER[:ro], a file or folder of this machine; may be given several times.
    """
    with workshop() as shop:
        opened = images.open_named(shop, image)
        code = execution.run(
            opened.image, command, variables=env, volumes=volume, wanted=shop.settings, progress=shop.progress
        )
        home = shop.settings.home
    execution.keep_few(home)
    return code
