"""What articles about TensorFlow images get wrong is found: mistakes of Dockerfiles, manifests, scripts, arguments."""

import pytest

from tidewaiter.core.project import LintSection
from tidewaiter.frameworks import advising
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Kind, Source

SERVER = "FROM tensorflow/serving:2.13.0\nUSER 65532\n"
MIRROR = "registry.cn-hangzhou.aliyuncs.com"
PLAIN = "FROM tensorflow/tensorflow:2.14.0\n"


SERVED = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: net}}
spec:
  selector: {{matchLabels: {{app: net}}}}
  template:
    metadata: {{labels: {{app: net}}}}
    spec:
      {pod}
      containers:
        - name: net
          image: tensorflow/serving:2.15.1{gpu}
          args: ["--model_name=net"]
          {container}
"""
PROCESSES = 'livenessProbe: {exec: {command: ["ps", "aux", "|", "grep", "model_server"]}}'
LIMIT = "resources: {limits: {nvidia.com/gpu: 1}}"
TOLERATION = "tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]"


def served(pod: str = "", container: str = "", gpu: str = "") -> str:
    """A Deployment of TensorFlow Serving."""
    return SERVED.format(pod=pod, container=container, gpu=gpu)


@pytest.mark.parametrize(
    ("rule", "kind", "text"),
    [
        # The official images run as root.
        ("dockerfile/root-user", "dockerfile", PLAIN + 'CMD ["python", "fit.py"]\n'),
        ("dockerfile/root-user", "dockerfile", "FROM tensorflow/serving:2.15.1\n"),
        # Flags of the server that do not exist, or not in this version.
        ("dockerfile/server-flag", "dockerfile", SERVER + 'CMD ["--use_xla=true"]\n'),
        ("dockerfile/server-flag", "dockerfile", SERVER + 'CMD ["--batch_timeout_micros=500"]\n'),
        ("dockerfile/server-flag", "dockerfile", SERVER + 'CMD ["--xla_gpu_compilation_enabled"]\n'),
        ("dockerfile/server-flag", "dockerfile", SERVER + 'ENTRYPOINT ["tensorflow_model_server", "--port", "8500"]\n'),
        ("dockerfile/server-flag", "dockerfile", SERVER + "CMD tensorflow_model_server --use_xla\n"),
        ("dockerfile/server-batching", "dockerfile", SERVER + 'CMD ["--batching_parameters_file=/etc/b.txt"]\n'),
        ("shell/server-flag", "shell", "tensorflow_model_server --use_xla --port=9000 &\n"),
        ("shell/server-flag", "shell", "docker run tensorflow/serving:2.4.1 --xla_cpu_compilation_enabled\n"),
        # A float model in the place of an int8 one.
        ("shell/converter-flag", "shell", "tflite_convert --output_file=a.tflite --quantize_to_int8=true\n"),
        (
            "dockerfile/converter-flag",
            "dockerfile",
            PLAIN + "RUN tflite_convert --saved_model_dir=m --quantize_to_int8\n",
        ),
        (
            "python/int8-without-data",
            "python",
            "import tensorflow as tf\nc = tf.lite.TFLiteConverter(m)\nc.inference_output_type = tf.uint8\n",
        ),
        # Mixed precision to the last layer.
        (
            "python/mixed-precision-output",
            "python",
            (
                "from tensorflow import keras\nkeras.mixed_precision.set_global_policy('mixed_float16')\n"
                "net = keras.models.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])\n"
            ),
        ),
        (
            "python/jit-without-effect",
            "python",
            "import tensorflow as tf\ntf.config.optimizer.set_jit(True)\nnet.compile(loss='mse', run_eagerly=True)\n",
        ),
        # Probes that never pass, and an end that drops requests.
        ("kubernetes/probe-without-shell", "kubernetes", served(container=PROCESSES)),
        ("kubernetes/probe-of-processes", "kubernetes", served(container=PROCESSES)),
        ("kubernetes/serving-readiness", "kubernetes", served()),
        ("kubernetes/serving-pre-stop", "kubernetes", served()),
        (
            "kubernetes/serving-liveness",
            "kubernetes",
            served(container="livenessProbe: {httpGet: {path: /v1/models/net, port: 8501}}"),
        ),
        (
            "kubernetes/serving-grpc-probe",
            "kubernetes",
            served(container="livenessProbe: {grpc: {port: 8500, service: PredictionService}}"),
        ),
        # GPUs with a toleration alone, a limit alone, a fraction, a request that is not the limit.
        ("kubernetes/gpu-toleration-only", "kubernetes", served(pod=TOLERATION, gpu="-gpu")),
        ("kubernetes/gpu-without-toleration", "kubernetes", served(container=LIMIT, gpu="-gpu")),
        ("kubernetes/gpu-fraction", "kubernetes", served(container=LIMIT.replace("1", "0.5"), gpu="-gpu")),
        (
            "kubernetes/gpu-request-only",
            "kubernetes",
            served(container="resources: {requests: {nvidia.com/gpu: 1}}", gpu="-gpu"),
        ),
        (
            "kubernetes/gpu-request-differs",
            "kubernetes",
            served(container="resources: {limits: {nvidia.com/gpu: 2}, requests: {nvidia.com/gpu: 1}}", gpu="-gpu"),
        ),
        (
            "kubernetes/serving-metrics",
            "kubernetes",
            served().replace("labels: {app: net}}", 'labels: {app: net}, annotations: {prometheus.io/scrape: "true"}}'),
        ),
        # Bases, stages and files.
        ("dockerfile/copy-of-official", "dockerfile", f"FROM {MIRROR}/tensorflow/serving:2.15.1\n"),
        ("dockerfile/notebook-base", "dockerfile", "FROM tensorflow/tensorflow:2.15.0-jupyter\nCMD python fit.py\n"),
        ("dockerfile/moving-tag", "dockerfile", "FROM tensorflow/tensorflow:latest-gpu\nCMD python fit.py\n"),
        ("dockerfile/copy-before-install", "dockerfile", PLAIN + "COPY . .\nRUN pip install -r requirements.txt\n"),
        ("dockerfile/pip-unpinned", "dockerfile", PLAIN + "RUN pip install pandas\n"),
        ("dockerfile/pip-cache", "dockerfile", PLAIN + "RUN pip install pandas==2.2.2\n"),
        ("dockerfile/test-packages", "dockerfile", PLAIN + "RUN pip install pytest==8.0.0\nCMD python s.py\n"),
        ("dockerfile/test-packages", "dockerfile", PLAIN + "RUN pip install seaborn==0.13.2\nCMD python s.py\n"),
        (
            "dockerfile/compilers-left",
            "dockerfile",
            PLAIN + "RUN apt-get install -y build-essential\nCMD python s.py\n",
        ),
        ("dockerfile/shell-form", "dockerfile", PLAIN + "CMD python serve.py\n"),
        ("dockerfile/base-without-digest", "dockerfile", PLAIN),
        ("dockerfile/false-health-check", "dockerfile", PLAIN + "HEALTHCHECK CMD curl localhost || true\n"),
        ("dockerfile/no-health-check", "dockerfile", PLAIN + "EXPOSE 8501\nCMD python serve.py\n"),
        ("dockerfile/unpublished-tag", "dockerfile", "FROM tensorflow/tensorflow:2.14.0-gpu-cuda11.8\n"),
        ("dockerfile/unpublished-tag", "dockerfile", "FROM docker.io/tensorflow/tensorflow:serving-2.12.1\n"),
        ("dockerfile/unpublished-tag", "dockerfile", "FROM tensorflow/serving:serving-2.13.0\n"),
        (
            "dockerfile/copies-whole-stage",
            "dockerfile",
            "FROM python:3.11 AS base\nRUN make\nFROM base AS production\n",
        ),
        ("dockerfile/unknown-stage", "dockerfile", "FROM python:3.11\nCOPY --from=builder /a /a\n"),
        (
            "dockerfile/requirements-unused",
            "dockerfile",
            PLAIN + "COPY requirements.txt /app/\nRUN pip install keras==3.0\n",
        ),
        ("dockerfile/needs-source-build", "dockerfile", PLAIN + "RUN pip install wandb==0.15.0\n"),
        ("dockerfile/needs-source-build", "dockerfile", PLAIN + 'RUN pip install "tensorflow[and-cuda]==2.15.0"\n'),
        ("dockerfile/server-model-path", "dockerfile", SERVER + 'CMD ["--model_base_path=/srv/models/v3"]\n'),
        ("shell/server-model-path", "shell", "tensorflow_model_server --model_base_path=/exports/net/v1\n"),
        (
            "shell/server-metrics",
            "shell",
            "tensorflow_model_server --rest_api_port=8501 &\nwget -q localhost:8501/monitoring/prometheus/metrics\n",
        ),
        ("shell/cache-from", "shell", "docker build --cache-from=registry.example/net:latest .\n"),
        # Two processes in one container.
        (
            "dockerfile/two-processes",
            "dockerfile",
            PLAIN + 'CMD ["sh", "-c", "python fit.py & tensorboard --logdir /l"]\n',
        ),
    ],
)
def test_the_mistake_is_found(rule: str, kind: Kind, text: str) -> None:
    """Each by the rule that explains it."""
    assert rule in {one.rule for one in check(Source("file", kind, text), LintSection())}


def test_the_driver_of_cuda_11_is_none_for_cuda_12() -> None:
    """\"450.80.02 or later\" holds for CUDA 11; TensorFlow 2.15 is built for 12.2 and needs 525.60.13."""
    old, new = (
        advising.advise(advising.read(f"GPU training, TF 2.15, driver {one}"), {}) for one in ("450.80.02", "525.60.13")
    )
    assert not old.possible
    assert any("525.60.13" in one for one in old.why)
    assert new.possible


def test_everything_copied_without_an_ignore_file_is_found() -> None:
    """Said where something lies beside the Dockerfile that nobody wants in an image."""
    source = Source("Dockerfile", "dockerfile", PLAIN + "COPY . .\n", frozenset({".git", ".env"}))
    assert "dockerfile/no-dockerignore" in {one.rule for one in check(source, LintSection())}
