"""Training scripts and their rules."""

import pytest

from tidewaiter.core.project import LintSection
from tidewaiter.lint.check import check
from tidewaiter.lint.files import Source
from tidewaiter.lint.finding import Span
from tidewaiter.lint.python.parse import parse
from tidewaiter.lint.text import Text


def rules(text: str) -> list[tuple[str, int]]:
    return [(one.rule, one.span.line) for one in check(Source("train.py", "python", text), LintSection())]


MIXED = "import tensorflow as tf\nfrom tensorflow.keras import layers as kl, mixed_precision\n"
SET = 'mixed_precision.set_global_policy("mixed_float16")\n'


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ("model = tf.keras.Sequential([kl.Dense(8), kl.Dense(1)])\n", [4]),
        ("model = tf.keras.Sequential()\nmodel.add(kl.Dense(8))\nmodel.add(kl.Dense(1))\n", [6]),
        ("x = kl.Input(3)\ny = kl.Dense(8)(x)\ny = kl.Dense(1)(y)\nm = tf.keras.Model(x, y)\n", [6]),
        ("x = kl.Input(3)\nm = tf.keras.Model(inputs=x, outputs=kl.Dense(1)(x))\n", [5]),
        ("model = tf.keras.Sequential([kl.Dense(8), kl.Dense(1, dtype='float32')])\n", []),
        ("model = tf.keras.Sequential([kl.Dense(8), kl.Activation('linear', dtype=tf.float32)])\n", []),
        ("model = tf.keras.Sequential([kl.Dense(8), kl.Dense(1, **options)])\n", []),
        ("model = tf.keras.Sequential(build())\n", []),
        ("items = []\nitems.append(kl.Dense(1))\n", []),
    ],
)
def test_the_last_layer_under_mixed_precision(body: str, lines: list[int]) -> None:
    """In lists, behind `add`, and as a functional model's output; only with the policy, and only without a dtype."""
    assert rules(MIXED + SET + body) == [("python/mixed-precision-output", line) for line in lines]
    assert rules(MIXED + body) == []


def test_an_older_name_of_the_policy() -> None:
    """`Policy` as an object, through the experimental module."""
    text = MIXED + "p = mixed_precision.experimental.Policy('mixed_float16')\n"
    used = "tf.keras.mixed_precision.experimental.set_policy(mixed_precision.experimental.Policy('mixed_float16'))\n"
    assert rules(text + used + "tf.keras.Sequential([kl.Dense(1)])\n") == [("python/mixed-precision-output", 5)]


STRATEGY = "tf.distribute.MultiWorkerMirroredStrategy()"


@pytest.mark.parametrize(
    ("body", "late"),
    [
        (f"x = tf.constant(1)\ns = {STRATEGY}\n", True),
        (f"x = tf.data.Dataset.range(3)\ndef main():\n    s = {STRATEGY}\n", True),
        (f"def main():\n    x = tf.random.uniform([2])\n    s = {STRATEGY}\n", True),
        (f"s = {STRATEGY}\nx = tf.constant(1)\n", False),
        (f"def data():\n    return tf.constant(1)\ns = {STRATEGY}\n", False),
        (f"if one:\n    x = tf.constant(1)\nelse:\n    s = {STRATEGY}\n", False),
        (f"tf.random.set_seed(1)\ngpus = tf.config.list_physical_devices()\ns = {STRATEGY}\n", False),
        (f"f = lambda: tf.constant(1)\ns = {STRATEGY}\n", False),
    ],
)
def test_the_strategy_comes_first(body: str, late: bool) -> None:
    """What functions do that nobody has called yet, and the other branch, does not count."""
    assert [rule for rule, _ in rules("import tensorflow as tf\n" + body)] == ["python/late-strategy"] * late


def test_workers_that_write_to_one_path() -> None:
    """A script that knows its task is left alone, and so is one without several workers."""
    save = 'model.save("/shared/out.keras")\ntf.saved_model.save(model, "/shared/out")\n'
    head = "import tensorflow as tf\n"
    assert rules(f"{head}s = {STRATEGY}\n{save}") == [
        ("python/every-worker-saves", 3),
        ("python/every-worker-saves", 4),
    ]
    assert rules(f"{head}s = {STRATEGY}\nif s.cluster_resolver.task_id == 0:\n    pass\n{save}") == []
    assert rules(f"{head}s = tf.distribute.MirroredStrategy()\n{save}") == []


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/models/digits", True),
        ("exports/v2", True),
        ("/models/digits/1", False),
        ("out/model.keras", False),
        ("results/v2", False),
        ("model", False),
    ],
)
def test_where_models_are_saved_for_a_server(path: str, wrong: bool) -> None:
    """Folders of a model server whose last part is no number; files are not for it."""
    text = f'import tensorflow as tf\ntf.saved_model.save(model, "{path}")\n'
    assert rules(text) == [("python/model-path", 2)] * wrong


def test_a_fallback_to_float_is_no_int8() -> None:
    """With the float operations allowed as well, nothing is refused."""
    text = "import tensorflow as tf\nc = tf.lite.TFLiteConverter(m)\nc.target_spec.supported_ops = [{}]\n"
    ops = "tf.lite.OpsSet.TFLITE_BUILTINS_INT8"
    assert rules(text.format(ops)) == [("python/int8-without-data", 3)]
    assert rules(text.format(f"{ops}, tf.lite.OpsSet.TFLITE_BUILTINS")) == []


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        ("subprocess.run('tensorboard --logdir x --bind_all', shell=True)", True),
        ("os.system('tensorboard --host 0.0.0.0 --logdir x')", True),
        ("board.configure(argv=[None, '--logdir', 'x', '--host', '0.0.0.0'])", True),
        ("app.run(host='0.0.0.0')", False),
        ("subprocess.run(['uvicorn', '--host', '0.0.0.0'])", False),
    ],
)
def test_tensorboard_on_all_addresses(call: str, wrong: bool) -> None:
    """Started as a program or as a module; other servers are none of its business."""
    assert (
        rules(f"import os, subprocess\nfrom tensorboard import program\n{call}\n")
        == [("python/open-tensorboard", 3)] * wrong
    )


def test_columns_are_characters() -> None:
    """The compiler counts bytes."""
    (one,) = check(
        Source("a.py", "python", "import tensorflow as tf\nx = 'äö'; tf.saved_model.save(m, '/models/a')\n"),
        LintSection(),
    )
    assert one.span == Span(2, 34, 2, 45)


def test_what_cannot_be_parsed() -> None:
    """Python 3 that is broken is a finding; Python 2, nesting without end and other scripts are not."""
    assert rules("import tensorflow\nif:\n") == [("python/syntax", 2)]
    assert rules("import tensorflow\nprint 'x'\n") == []
    assert rules("if:\n") == []
    assert rules("import tensorflow\n" + "(" * 5000 + ")" * 5000 + "\n") == [("python/syntax", 2)]
    assert rules("import tensorflow\nx = " + "-" * 100_000 + "1\n")[0][0] == "python/syntax"


def test_long_chains_and_deep_blocks_are_read() -> None:
    """What is written in a row nests in the tree: rules neither fail nor take long."""
    chain = "import tensorflow as tf\nx = model" + ".a" * 2000 + ".add(1)\n"
    branches = "if a == 0:\n    pass\n" + "".join(f"elif a == {n}:\n    f({n})\n" for n in range(1000))
    assert rules(chain) == []
    assert rules(f"import tensorflow\n{branches}") in ([], [("python/syntax", 2)])


def test_nothing_is_run() -> None:
    """A script is data: what it would do on import does not happen."""
    script = parse(Text("a.py", "import tensorflow\nraise SystemExit(1)\n"))
    assert script.calls[0].name == "SystemExit"


def test_names_follow_imports() -> None:
    """However Keras was imported, a layer has one name."""
    for line, use in (
        ("import tensorflow as tf", "tf.keras.layers.Dense(1)"),
        ("import tensorflow.keras.layers as kl", "kl.Dense(1)"),
        ("from tensorflow.keras.layers import Dense as D", "D(1)"),
        ("from tensorflow import keras", "keras.layers.Dense(1)"),
        ("import keras", "keras.layers.Dense(1)"),
        ("import tensorflow.compat.v1 as tf", "tf.keras.layers.Dense(1)"),
    ):
        assert [call.name for call in parse(Text("a.py", f"{line}\n{use}\n")).calls] == ["keras.layers.Dense"], line
