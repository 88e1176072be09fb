"""What of a fetched image stands in the catalog."""

from pathlib import Path

from images import make_image
from tidewaiter.catalog.catalog import Catalog
from tidewaiter.core import settings
from workplace import run

SECRETS = ("hunter2hunter2", "s3cretvalue99", "me:pa55word")
COMMANDS = (
    "RUN curl --password hunter2hunter2 https://example.com/a",
    "RUN API_TOKEN=s3cretvalue99 make install",
    "RUN pip install --index-url https://me:pa55word@example.com/simple six",
    "COPY main.py /app",
)


def test_a_secret_in_the_history_does_not_reach_the_catalog(tmp_path: Path) -> None:
    """Titles of layers are the commands with secrets masked; nothing of the home but the image itself holds them."""
    layout, image = make_image(tmp_path / "from", sizes=(10, 20, 30, 40), commands=COMMANDS)
    layout.tag("v1", image)
    home = tmp_path / "home"
    done = run(home, "pull", f"oci:{layout.path}:v1", "team/app:1")
    assert done.code == 0, done.err
    with Catalog.open(settings.load({"TIDEWAITER_HOME": str(home)})) as catalog:
        titles = [layer.title for layer in catalog.image("team/app:1").layers]
    assert titles == [
        "RUN curl --password **** https://example.com/a",
        "RUN API_TOKEN=**** make install",
        "RUN pip install --index-url https://****@example.com/simple six",
        "COPY main.py /app",
    ]
    files = [path for path in home.rglob("*") if path.is_file() and not path.is_relative_to(home / "store/blobs")]
    assert home / "catalog.db" in files
    for path in files:
        data = path.read_bytes()
        assert [secret for secret in SECRETS if secret.encode() in data] == [], path
    assert [secret for secret in SECRETS if secret in done.out + done.err] == []
