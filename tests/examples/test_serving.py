"""The example of a model server: a SavedModel and a script on the TensorFlow of the training example."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from workplace import ROOT, Done, example_home, run

pytestmark = pytest.mark.slow

SERVING = ROOT / "examples" / "serving"
ASK = """
import json, subprocess, sys, time, urllib.error, urllib.request
sys.path.insert(0, "/app")

def ask(path, document=None):
    data = None if document is None else json.dumps(document).encode()
    try:
        with urllib.request.urlopen("http://127.0.0.1:8501" + path, data, timeout=20) as answer:
            return [answer.status, json.load(answer)]
    except urllib.error.HTTPError as error:
        return [error.code, json.load(error)]

server = subprocess.Popen(["python", "/app/serve.py"], stdout=subprocess.PIPE, text=True)
ready = server.stdout.readline().strip()
dark = [[[0.0] * 1 for _ in range(16)] for _ in range(16)]
eight = [[[0.0] for _ in range(16)] for _ in range(16)]
for row in range(11):
    for column in range(7):
        if row in (0, 1, 5, 9, 10) or column in (0, 1, 5, 6):
            eight[2 + row][4 + column] = [0.9]
print(json.dumps([
    ready,
    ask("/v1/models/digits"),
    ask("/v1/models/digits:predict", {"instances": [eight, dark]}),
    ask("/v1/models/digits:predict", {"instances": [[1, 2]]}),
    ask("/v1/models/other"),
]))
server.terminate()
sys.exit(server.wait())
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """The home of the training example, whose wheels and layers this one shares."""
    with example_home() as folder:
        yield folder


@pytest.fixture(scope="module")
def cleared(home: Path) -> Done:
    """The example, taken the whole way."""
    done = run(home, "ci", SERVING, "--format", "json", seconds=900)
    assert done.code == 0, done.err
    return done


@pytest.mark.thorough
def test_the_model_answers(home: Path, cleared: Done) -> None:
    """In the sandbox the server starts, names its model, recognises a digit, and refuses what does not fit."""
    done = run(home, "exec", cleared.json["reference"], "--", "python", "-c", ASK)
    assert done.code == 0, done.err
    ready, status, predicted, odd, missing = json.loads(done.out.splitlines()[-1])
    assert ready == "serving digits on port 8501"
    assert status == [200, {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]}]
    code, document = predicted
    eight, dark = document["predictions"]
    assert (code, len(eight), len(dark)) == (200, 10, 10)
    assert max(range(10), key=eight.__getitem__) == 8
    assert sum(eight) == pytest.approx(1.0, abs=1e-3)
    assert (odd[0], missing[0]) == (400, 404)


def test_both_examples_share_the_wheels(home: Path, cleared: Done) -> None:
    """Of a company's two images on one TensorFlow, only app and model differ."""
    training = run(home, "build", ROOT / "examples" / "mnist", "--format", "json", seconds=900).json
    shared = {layer["digest"] for layer in training["layers"] if layer["kind"] != "app"}
    own = [layer for layer in cleared.json["layers"] if layer["digest"] not in shared]
    assert [layer["kind"] for layer in own] == ["model", "app"]
    assert sum(layer["size"] for layer in own) < 200_000
