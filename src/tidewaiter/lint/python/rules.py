"""Rules about training scripts."""

import ast
import re
from collections.abc import Iterator

from tidewaiter.lint.finding import Found
from tidewaiter.lint.python.parse import Call, Scope, Script, dotted, text_of
from tidewaiter.lint.rule import rule

_POLICY = frozenset(
    {
        "keras.mixed_precision.set_global_policy",
        "keras.mixed_precision.experimental.set_policy",
        "keras.config.set_dtype_policy",
        "keras.mixed_precision.set_dtype_policy",
    }
)
_JIT = frozenset({"tensorflow.config.optimizer.set_jit", "tensorflow.config.experimental.set_jit"})
_EAGERLY = frozenset(
    {"tensorflow.config.run_functions_eagerly", "tensorflow.config.experimental_run_functions_eagerly"}
)
_OUTPUT_LAYERS = frozenset({"keras.layers.Dense", "keras.layers.Activation", "keras.layers.Softmax"})
_MODELS = frozenset({"keras.Model", "keras.models.Model"})
_SEQUENTIAL = frozenset({"keras.Sequential", "keras.models.Sequential"})
_STRATEGIES = frozenset(
    {
        "tensorflow.distribute.MultiWorkerMirroredStrategy",
        "tensorflow.distribute.experimental.MultiWorkerMirroredStrategy",
    }
)
_STARTS_RUNTIME = re.compile(
    r"tensorflow\.(?:constant|Variable|zeros|ones|fill|range|eye|convert_to_tensor|cast|reshape|one_hot|random\.(?!set_seed)\w+"
    r"|data\.Dataset\.\w+|config\.(?:experimental\.)?list_logical_devices|math\.\w+|reduce_\w+|matmul)"
)
_WORKER = re.compile(r"chief|task_type|task_id|task_index|worker_id|worker_index|TF_CONFIG|\brank\b", re.IGNORECASE)
_SAVES = frozenset({"save", "save_weights", "export"})
_SAVED = "tensorflow.saved_model.save"


@rule("python/mixed-precision-output", "warning")
def mixed_precision_output(script: Script) -> Iterator[Found]:
    """With mixed precision the last layer computes in float16.

    Under the policy `mixed_float16` a softmax or a loss in float16 overflows and underflows, and the training diverges
    or stands still. The last layer must be float32. On GPUs below compute capability 7.0 the policy gains nothing.
    """
    sets = [call for call in script.calls if call.name in _POLICY and _is_float16(call.argument(0, "policy"))]
    if not sets:
        return
    for scope in script.scopes:
        for call in _outputs(scope):
            name = call.name.rpartition(".")[2]
            if "dtype" in {one.arg for one in call.node.keywords} or any(one.arg is None for one in call.node.keywords):
                continue
            yield Found(
                span=script.span(call.node),
                message=f"This {name} is the last layer, and computes in float16 (the policy is set in line "
                f"{sets[0].node.lineno}).",
                remedy='Give it `dtype="float32"`, or end with `keras.layers.Activation("linear", dtype="float32")`.',
            )


def _is_float16(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Call) and node.args:
        node = node.args[0]  # Policy("mixed_float16")
    return text_of(node) == "mixed_float16"


def _outputs(scope: Scope) -> Iterator[Call]:
    """The layers that models of a scope end with, where that can be told."""
    by_node = {id(call.node): call for call in scope.calls}
    assigned = _assignments(scope)
    last_added: dict[str, Call] = {}
    for call in scope.calls:
        if call.name in _SEQUENTIAL:
            layers = call.argument(0, "layers")
            if isinstance(layers, ast.List | ast.Tuple) and layers.elts:
                yield from _layer(by_node.get(id(layers.elts[-1])))
        elif call.name in _MODELS:
            yield from _layer(by_node.get(id(_applied(call, assigned))))
        elif isinstance(call.node.func, ast.Attribute) and call.node.func.attr == "add":
            added = by_node.get(id(call.node.args[0])) if call.node.args else None
            if added is not None and added.name.startswith("keras.layers."):
                last_added[dotted(call.node.func.value)] = added
    for added in last_added.values():
        yield from _layer(added)


def _applied(model: Call, assigned: dict[str, list[tuple[int, ast.expr]]]) -> ast.expr | None:
    """The call that makes the layer whose result is a functional model's output."""
    output = model.argument(1, "outputs")
    if isinstance(output, ast.Name):
        earlier = [value for line, value in assigned.get(output.id, []) if line <= model.node.lineno]
        output = earlier[-1] if earlier else None
    return output.func if isinstance(output, ast.Call) else None


def _layer(call: Call | None) -> Iterator[Call]:
    if call is not None and call.name in _OUTPUT_LAYERS:
        yield call


def _assignments(scope: Scope) -> dict[str, list[tuple[int, ast.expr]]]:
    """By name, the lines and values of plain assignments in a scope."""
    found: dict[str, list[tuple[int, ast.expr]]] = {}
    for node in ast.walk(scope.node):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append((node.lineno, node.value))
    return {name: sorted(values, key=lambda one: one[0]) for name, values in found.items()}


@rule("python/jit-without-effect", "warning")
def jit_without_effect(script: Script) -> Iterator[Found]:
    """XLA is switched on where nothing is compiled.

    `tf.config.optimizer.set_jit` concerns graphs alone: under `run_eagerly=True` or
    `tf.config.run_functions_eagerly(True)` nothing becomes a graph, and the switch does nothing. Its values are
    `"autoclustering"`, the older `True`, and `False`.
    """
    calls = [call for call in script.calls if call.name in _JIT]
    for call in calls:
        value = call.argument(0, "enabled")
        if isinstance(value, ast.Constant) and value.value not in {True, False, "autoclustering"}:
            yield Found(
                span=script.span(value),
                message=f"set_jit knows no {value.value!r}.",
                remedy='Write `tf.config.optimizer.set_jit("autoclustering")`.',
            )
    on = next((call for call in calls if _true(call.argument(0, "enabled"), "autoclustering")), None)
    for call in script.calls if on is not None else ():
        eager = call.argument(0, "run_eagerly") if call.name in _EAGERLY else None
        if isinstance(call.node.func, ast.Attribute) and call.node.func.attr == "compile":
            eager = next((one.value for one in call.node.keywords if one.arg == "run_eagerly"), None)
        if on is not None and eager is not None and _true(eager):
            yield Found(
                span=script.span(eager),
                message=f"What runs eagerly is no graph: XLA, switched on in line {on.node.lineno}, does nothing.",
                remedy="Take this out where speed matters; it is for debugging.",
            )


def _true(node: ast.expr | None, *other: str) -> bool:
    return isinstance(node, ast.Constant) and (node.value is True or node.value in other)


@rule("python/late-strategy", "error")
def late_strategy(script: Script) -> Iterator[Found]:
    """MultiWorkerMirroredStrategy is created after TensorFlow has started.

    It must set up the connections between workers before the runtime begins. Once a tensor, a variable or a dataset was
    made, TensorFlow ends with "Collective ops must be configured at program startup".
    """
    module = script.scopes[0]
    for scope in script.scopes:
        for call in scope.calls:
            if call.name not in _STRATEGIES:
                continue
            before = list(scope.calls[: scope.calls.index(call)])
            if scope is not module:
                before = [one for one in module.calls if one.node.lineno < scope.node.lineno] + before  # type: ignore[union-attr]  # only the module has no line
            early = next((one for one in before if _STARTS_RUNTIME.match(one.name) and not one.excludes(call)), None)
            if early is not None:
                yield Found(
                    span=script.span(call.node),
                    message=f"{early.name.replace('tensorflow.', 'tf.')} in line {early.node.lineno} comes first, and "
                    "starts the runtime.",
                    remedy="Create the strategy first of all, right behind the imports.",
                )


@rule("python/every-worker-saves", "warning")
def every_worker_saves(script: Script) -> Iterator[Found]:
    """All workers save the model to one path.

    With MultiWorkerMirroredStrategy each worker runs the whole script, and saving takes part in all of them. When they
    write into one folder on shared storage they overwrite each other, and the model is broken now and then.
    """
    if not any(call.name in _STRATEGIES for call in script.calls) or _WORKER.search(script.text.content):
        return
    for call in script.calls:
        path = _saved_path(call)
        if path is not None and text_of(path):
            yield Found(
                span=script.span(path),
                message=f"Every worker writes {text_of(path)}.",
                remedy="Let all save, but only the chief (task type `chief`, or worker 0) into this path, the others "
                "into a folder that is deleted.",
            )


def _saved_path(call: Call) -> ast.expr | None:
    """Where a call saves a model; None when it does something else."""
    if call.name == _SAVED:
        return call.argument(1, "export_dir")
    if call.name == "keras.callbacks.ModelCheckpoint":
        return call.argument(0, "filepath")
    function = call.node.func
    if isinstance(function, ast.Attribute) and function.attr in _SAVES and "model" in dotted(function.value).lower():
        return call.argument(0, "filepath")
    return None


@rule("python/model-path", "warning")
def model_path(script: Script) -> Iterator[Found]:
    """A model is saved where a model server does not see it.

    TensorFlow Serving serves `/models/NAME/NUMBER/`: folders named by whole numbers. It does not see a SavedModel in
    `/models/NAME` itself or in `v1`.
    """
    for call in script.calls:
        path = _saved_path(call)
        text = (text_of(path) or "").rstrip("/")
        folder, _, last = text.rpartition("/")
        if path is None or call.name == "keras.callbacks.ModelCheckpoint" or "." in last or not folder:
            continue
        attribute = call.node.func.attr if isinstance(call.node.func, ast.Attribute) else ""
        if attribute == "save_weights":
            continue
        version = re.fullmatch(r"v(\d+)", last, re.IGNORECASE)
        if version and re.search(r"model|export|serv", folder, re.IGNORECASE):
            instead = f"{folder}/{version[1]}"
        elif re.fullmatch(r"/models/[A-Za-z][\w-]*", text):
            instead = f"{text}/1"
        else:
            continue
        yield Found(
            span=script.span(path),
            message=f"A model server looks for folders named by numbers, and does not see {text}.",
            remedy=f'Save to "{instead}".',
        )


@rule("python/int8-without-data", "error")
def int8_without_data(script: Script) -> Iterator[Found]:
    """A model is converted to int8 without representative data.

    Without a `representative_dataset` the converter knows no ranges: `TFLITE_BUILTINS_INT8` and int8 inputs are
    refused, or what should be int8 stays float.
    """
    if "TFLiteConverter" not in script.text.content:
        return
    attributes = [node for node in ast.walk(script.tree) if isinstance(node, ast.Attribute)]
    if any(node.attr == "representative_dataset" for node in attributes):
        return
    if not any("lite.TFLiteConverter" in call.name for call in script.calls):
        return
    for node in ast.walk(script.tree):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not isinstance(node.targets[0], ast.Attribute):
            continue
        target = node.targets[0]
        converter = dotted(target).partition(".")[0] or "converter"
        names = {script.name(one) for one in ast.walk(node.value) if isinstance(one, ast.Attribute)}
        if (
            target.attr in {"inference_input_type", "inference_output_type"}
            and names & {"tensorflow.int8", "tensorflow.uint8"}
        ) or (
            target.attr == "supported_ops"
            and names >= {"tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8"}
            and "tensorflow.lite.OpsSet.TFLITE_BUILTINS" not in names
        ):
            yield Found(
                span=script.span(node),
                message="int8 is asked for, and nothing says which values the inputs have.",
                remedy=f"Add `{converter}.representative_dataset = GENERATOR`, which yields a "
                "hundred typical inputs or more.",
            )
            return


@rule("python/open-tensorboard", "warning")
def open_tensorboard(script: Script) -> Iterator[Found]:
    """TensorBoard listens on all addresses.

    It asks nobody who they are, and shows paths, parameters, samples of the training data and, with plug-ins, source
    code. Whoever reaches the port reads them.
    """
    for call in script.calls:
        words = _words(call)
        if not words or not (
            words[0].rpartition("/")[2] == "tensorboard"
            or words[1:3] == ["-m", "tensorboard.main"]
            or "tensorboard" in call.name.lower()
            or (isinstance(call.node.func, ast.Attribute) and call.node.func.attr == "configure")
        ):
            continue
        text = " ".join(words)
        if "--bind_all" in words or re.search(r"--host(?:=| )0\.0\.0\.0", text):
            yield Found(
                span=script.span(call.node),
                message="Everybody who reaches this machine reads what TensorBoard shows.",
                remedy="Listen on localhost, and come through `ssh -L` or `kubectl port-forward`.",
            )


def _words(call: Call) -> list[str]:
    """The words of the command that a call runs: of its first list, or of its first text."""
    first = call.argument(0, "args") or call.argument(0, "argv")
    if isinstance(first, ast.List | ast.Tuple):
        return [text_of(one) or "" for one in first.elts]
    return (text_of(first) or "").split()
