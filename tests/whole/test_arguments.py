"""A sweep of all public calls: each argument is given values of the wrong kind, one at a time.

A wrong value is refused at the call, by an error of gpucnn's that names the parameter or the value; what
is accepted must be a value that makes sense there. Callables are found by introspection, so a new layer
or a new argument is swept without a line here, unless it must be given or takes one of the values.
"""

import inspect
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gpucnn
from gpucnn import metrics
from gpucnn.errors import ArgumentError, FileError, GpucnnError
from gpucnn.profiling import trials

MODULES = (
    gpucnn.layers,
    gpucnn.optimizers,
    gpucnn.optimizers.schedules,
    gpucnn.losses,
    gpucnn.metrics,
    gpucnn.callbacks,
    gpucnn.regularizers,
    gpucnn.constraints,
    gpucnn.initializers,
    gpucnn.activations,
    gpucnn.datasets,
    gpucnn.utils,
    gpucnn.models,
)
METHODS = ("compile", "fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch")


class Thing:
    """An object that fits nowhere."""

    def __repr__(self):
        return "<a thing>"


WRONG = {
    "true": True,
    "text": "x",
    "minus 3": -3,
    "nan": math.nan,
    "infinity": math.inf,
    "2**40": 2**40,
    "none": None,
    "a mixture": (1, "x"),
    "nothing": (),
    "a thing": Thing(),
}

NEEDED = {
    "units": 2,
    "filters": 2,
    "kernel_size": 3,
    "rate": 0.5,
    "target_shape": (4,),
    "dims": (1,),
    "shape": (8,),
    "activation": "relu",
    "scale": 0.5,
    "learning_rate": 0.1,
    "initial_learning_rate": 0.1,
    "decay_steps": 10,
    "first_decay_steps": 10,
    "decay_rate": 0.5,
    "boundaries": [1],
    "values": [1.0, 0.5],
    "function": "relu",
    "identifier": None,
    "fn": metrics.binary_accuracy,
    "filepath": "model.safetensors",
    "filename": "log.csv",
    "backup_dir": "backup",
    "schedule": lambda epoch: 0.1,
    "reduction": "mean",
    "seed": 1,
    "x": np.array([[0.5, 0.25]], np.float32),
    "y_true": np.array([[0, 1]]),
    "y_pred": np.array([[0.5, 0.5]], np.float32),
    "name": "digits",
    "path": "images",
    "data": "images",
    "size": 28,
    "pool_size": 2,
    "height": 2,
    "width": 2,
    "factor": 0.1,
    "height_factor": 0.1,
    "width_factor": 0.1,
}
"""A good value for each parameter that must be given."""

OF_CALL = {
    "layers.InputLayer": {"shape": (8,)},
    "layers.DepthwiseConv2D": {"kernel_size": 3},
    "utils.to_categorical": {"x": [0, 1]},
    "losses.sparse_categorical_crossentropy": {"y_true": np.array([1])},
    "metrics.sparse_categorical_accuracy": {"y_true": np.array([1])},
    "metrics.sparse_top_k_categorical_accuracy": {"y_true": np.array([1])},
    "metrics.classification_report": {"y_true": [0, 1], "y_pred": [0, 1]},
    "metrics.get": {"identifier": "mse"},
    "activations.UserFunction": {"function": lambda x: (x, lambda dy: dy)},
    "models.load_model": {"filepath": "model.safetensors"},
    "Sequential.fit": {"x": NEEDED["x"], "y": np.array([1])},
    "Sequential.evaluate": {"x": NEEDED["x"], "y": np.array([1])},
    "Sequential.train_on_batch": {"y": np.array([1])},
    "Sequential.test_on_batch": {"y": np.array([1])},
    "Sequential.compile": {"loss": "mse"},
}
"""Good values where the name alone does not say them; they are given in each call."""

BETWEEN_ROOMS = {
    "check_labels",
    "forward",
    "from_logits_twin",
    "reduce",
    "shares",
    "penalty",
    "add_gradient",
    "apply",
    "Check",
    "Dataset",
    "Found",
    "ImageSet",
    "CallbackList",
    "clone_model",
    "ladder",
}
"""What rooms of gpucnn call in each other with values that they have checked, or takes only a model."""

TEXT = {"name", "monitor", "algorithm", "filename", "filepath", "backup_dir", "data_dir", "log_dir"}
"""Any text is a name; an algorithm may be one of a kernel that is loaded later."""

SIGNED = {
    "axis",
    "offset",
    "scale",
    "mean",
    "minval",
    "maxval",
    "gain",
    "value",
    "fill_value",
    "alpha",
    "threshold",
    "min_delta",
    "baseline",
    "initial_value_threshold",
    "order",
}
UNLIMITED = {"max_value", "order"}
"""Parameters of which -3, or infinity, is a sensible value."""

REAL = (
    SIGNED
    | UNLIMITED
    | {
        "weight_decay",
        "clipnorm",
        "clipvalue",
        "global_clipnorm",
        "warmup_target",
        "warmup_steps",
        "initial_learning_rate",
        "decay_rate",
        "decay_steps",
        "first_decay_steps",
        "learning_rate",
        "seed",
    }
)
"""Parameters of which 2**40 is a sensible value, as of those whose default is a float."""

NONE = {"name", "reduction", "activation", "identifier", "loss"}
"""Parameters of which None is a sensible value, as of initializers, and of those whose default it is."""

EMPTY = {"callbacks", "metrics", "weighted_metrics", "layers", "thresholds"}
"""Parameters that may be an empty list."""

SENSIBLE = {
    ("normalize", "x", "nothing"): "an array without elements",
    ("fans", "shape", "nothing"): "the shape of a single number",
    ("get", "y_shape", "nothing"): "the shape of a single number",
    ("get", "pred_shape", "nothing"): "the shape of a single number",
    ("to_categorical", "x", "true"): "a label",
    ("compile", "jit_compile", "true"): "accepted as in Keras, and changes nothing",
    ("CSVLogger", "separator", "text"): "one character",
    ("classification_report", "zero_division", "true"): "equals 1.0, as in scikit-learn",
    ("classification_report", "zero_division", "nan"): "a score that is left out of the averages",
}
"""Single values that are legal, and why."""


def public():
    """(owner, callable) of everything public that can be called, each once."""
    seen, calls = set(), []
    for module in MODULES:
        for name in getattr(module, "__all__", None) or vars(module):
            call = getattr(module, name)
            home = getattr(call, "__module__", None) or ""
            of_the_room = home == module.__name__ or home.startswith(f"{module.__name__}.")
            if name.startswith("_") or not callable(call) or not of_the_room or id(call) in seen:
                continue
            seen.add(id(call))
            calls.append((module.__name__.removeprefix("gpucnn."), call))
    return calls


def small_model():
    model = gpucnn.Sequential([gpucnn.Input((2,)), gpucnn.layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def arguments_of(call):
    """Parameters of a call that can be named, those of the constructors above it included."""
    named = {}
    owners = call.__mro__ if isinstance(call, type) else [call]
    for owner in owners:
        function = vars(owner).get("__init__") if isinstance(call, type) else owner
        if function is None or not owner.__module__.startswith("gpucnn."):
            continue
        parameters = list(inspect.signature(function).parameters.values())
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self":
                named.setdefault(p.name, p)
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return {name: p for name, p in named.items() if name not in getattr(call, "sets_itself", ())}


def good_arguments(owner, call, parameters):
    own = OF_CALL.get(f"{owner}.{call.__name__}", {})
    values = NEEDED | own
    missing = [name for name, p in parameters.items() if p.default is p.empty and name not in values]
    assert not missing, f"give good values for {missing} of {call.__name__} in NEEDED"
    return {name: values[name] for name, p in parameters.items() if p.default is p.empty or name in own}


def makes_sense(call, parameter, label):
    """Whether the value, which was accepted, is one that the parameter may have."""
    name, default = parameter.name, parameter.default
    if (call.__name__, name, label) in SENSIBLE:
        return True
    if name == "x" and call.__module__ == "gpucnn.activations":
        return label in ("true", "minus 3", "nan", "infinity", "2**40", "nothing")
    if label == "none":
        return default is None or name in NONE or name.endswith("_initializer")
    if label == "nothing":
        return name in EMPTY
    if label == "true":
        return isinstance(default, bool) or name == "verbose"
    if label == "text":
        return name in TEXT
    return (
        (label == "2**40" and (isinstance(default, float) or name in REAL))
        or (label == "minus 3" and name in SIGNED)
        or (label == "infinity" and name in UNLIMITED)
    )


def ways_to_say(value):
    """How a message may name the value: by its text, its shape, or its first element."""
    parts = [repr(value), str(value)]
    if isinstance(value, tuple):
        parts += [f"{value[0]!r} is"] if value else [f"shape {np.shape(value)}"]
    return parts


def faults(owner, call, call_with):
    """What is wrong with the answers to each wrong value of each parameter."""
    parameters = arguments_of(call)
    good = good_arguments(owner, call, parameters)
    found = []
    for parameter in parameters.values():
        for label, value in WRONG.items():
            where = f"{owner}.{call.__name__}({parameter.name}={label})"
            try:
                call_with(**{**good, parameter.name: value})
            except GpucnnError as error:
                words = str(error)
                if not isinstance(error, (TypeError, ValueError, FileError)):
                    found.append(f"{where} raises {type(error).__name__}")
                elif parameter.name not in words and not any(said in words for said in ways_to_say(value)):
                    found.append(f"{where} does not name parameter or value: {words}")
            except Exception as error:
                found.append(f"{where} ends in {type(error).__name__}: {error}")
            else:
                if not makes_sense(call, parameter, label):
                    found.append(f"{where} is accepted")
    return found


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Files that a call writes or looks for lie in a new folder."""
    monkeypatch.chdir(tmp_path)
    for kind in ("cat", "dog"):
        Path("images", kind).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(f"images/{kind}/{number}.png")
    small_model().save("model.safetensors")
    seeds = np.random.get_state()  # noqa: NPY002
    yield
    np.random.set_state(seeds)  # noqa: NPY002


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("owner", "call"),
    [pytest.param(o, c, id=f"{o}.{c.__name__}") for o, c in public() if c.__name__ not in BETWEEN_ROOMS],
)
def test_an_argument_of_the_wrong_kind_is_refused_by_name(owner, call):
    assert faults(owner, call, call) == []


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", METHODS)
def test_an_argument_of_a_model_of_the_wrong_kind_is_refused_by_name(name):
    assert (
        faults(
            "Sequential",
            getattr(gpucnn.Sequential, name),
            lambda **arguments: getattr(small_model(), name)(**arguments),
        )
        == []
    )


def smallest_case(op):
    return min(
        (case for case in op.cases if not case.bench), key=lambda case: sum(np.prod(s.shape) for s in case.specs if s)
    )


def ops_with_parameters():
    return [op for op in trials.every_op() if op.cases[0].params]


REAL_OF_OPS = {
    "alpha",
    "negative_slope",
    "threshold",
    "max_value",
    "min_value",
    "scale",
    "offset",
    "epsilon",
    "momentum",
    "beta_1",
    "beta_2",
    "rho",
    "limit",
    "l1",
    "l2",
    "delta",
    "value",
}
"""Parameters of ops that are numbers: layers and optimizers know which make sense."""
MAY_BE_0 = {"seed", "stream", "purpose", "count", "rows", "steps", "rate", "label_smoothing", "kernel_index"}


@pytest.mark.parametrize("op", ops_with_parameters(), ids=lambda op: op.name)
def test_a_parameter_of_an_op_of_the_wrong_kind_is_refused_by_name(op):
    case = smallest_case(op)
    rng = np.random.default_rng(0)
    arrays = [None if draw is None else draw.sample(rng) for draw in case.operands]
    found = []
    for name, good in case.params.items():
        for label, value in {**WRONG, "zero": 0, "a list": [1, 1]}.items():
            try:
                op(*(None if a is None else a.copy() for a in arrays), **{**case.params, name: value})
            except GpucnnError as error:
                if name not in str(error) and str(value) not in str(error):
                    found.append(f"{name}={label} is not named: {error}")
            except Exception as error:
                found.append(f"{name}={label} ends in {type(error).__name__}: {error}")
            else:
                number = isinstance(good, float) and name in REAL_OF_OPS and label in ("minus 3", "2**40", "zero")
                flag = isinstance(good, bool) and label in ("true", "zero")
                whole = (name in MAY_BE_0 and label == "zero") or (
                    name in ("seed", "stream", "steps") and label == "2**40"
                )
                endless = name == "max_value" and label == "infinity"
                found += [] if number or flag or whole or endless or value == good else [f"{name}={label} is accepted"]
    assert found == []


@pytest.mark.parametrize("op", ops_with_parameters(), ids=lambda op: op.name)
def test_a_parameter_of_an_op_that_is_missing_or_unknown_is_named(op):
    case = smallest_case(op)
    for name in case.params:
        with pytest.raises(ArgumentError, match=f"lacks the parameter {name}"):
            op.specs(*case.specs, **{k: v for k, v in case.params.items() if k != name})
    with pytest.raises(ArgumentError, match="has no parameter strange"):
        op.specs(*case.specs, **case.params, strange=1)
