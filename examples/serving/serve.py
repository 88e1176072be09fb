"""Serves a SavedModel over HTTP, in the manner of TensorFlow Serving's REST API.

    GET  /v1/models/NAME          is it ready, and which version
    POST /v1/models/NAME:predict  {"instances": [...]} gives {"predictions": [...]}

The models lie where the image has them: /models/NAME/VERSION, the highest version is served.
"""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

MODELS = Path("/models")
PORT = 8501
LARGEST_REQUEST = 32 << 20


class Model:
    """The highest version of one model."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.version = max(int(path.name) for path in folder.iterdir())
        self._loaded = tf.saved_model.load(str(folder / str(self.version)))
        self._call = self._loaded.signatures["serving_default"]
        ((self._input, self._spec),) = self._call.structured_input_signature[1].items()

    def predict(self, instances: list[Any]) -> list[Any]:
        """One prediction for each instance; raises `ValueError` when they do not fit the model."""
        given = np.asarray(instances, self._spec.dtype.as_numpy_dtype)
        if not self._spec.shape.is_compatible_with(given.shape):
            raise ValueError(f"instances have the shape {given.shape[1:]}, the model takes {self._spec.shape[1:]}")
        (found,) = self._call(**{self._input: tf.constant(given)}).values()
        return found.numpy().tolist()


class Handler(BaseHTTPRequestHandler):
    """Answers for all models that were loaded."""

    models: ClassVar[dict[str, Model]] = {}

    def do_GET(self) -> None:
        """Say whether a model is ready."""
        model = self.models.get(self.path.removeprefix("/v1/models/"))
        if model is None:
            self._answer(404, {"error": f"there is no {self.path}"})
            return
        status = {"version": str(model.version), "state": "AVAILABLE"}
        self._answer(200, {"model_version_status": [status]})

    def do_POST(self) -> None:
        """Predict."""
        name, _, verb = self.path.removeprefix("/v1/models/").partition(":")
        model = self.models.get(name)
        size = int(self.headers.get("Content-Length") or 0)
        if model is None or verb != "predict":
            self._answer(404, {"error": f"there is no {self.path}"})
        elif not 0 < size <= LARGEST_REQUEST:
            self._answer(413, {"error": f"a request has at most {LARGEST_REQUEST} bytes and says how many"})
        else:
            try:
                instances = json.loads(self.rfile.read(size))["instances"]
                self._answer(200, {"predictions": model.predict(instances)})
            except (ValueError, KeyError, TypeError) as error:
                self._answer(400, {"error": str(error)})

    def _answer(self, code: int, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> int:
    """Load every model, then answer until the container is stopped."""
    Handler.models = {folder.name: Model(folder) for folder in sorted(MODELS.iterdir())}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ThreadingHTTPServer(("", PORT), Handler) as server:
        print(f"serving {', '.join(Handler.models)} on port {PORT}", flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
