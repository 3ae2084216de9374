"""The node tests of the onnx package: each is computed right by the imported model, or refused for a reason."""

import re
import warnings

import numpy as np
from needs import onnx_here

from gpucnn import models
from gpucnn.errors import FileError

pytestmark = onnx_here

PASSED = {
    **{"AveragePool": 11, "BatchNormalization": 2, "Celu": 1, "Clip": 9, "Conv": 6, "Dropout": 4, "Elu": 3, "Exp": 2},
    **{"Flatten": 3, "Gelu": 4, "Gemm": 8, "GlobalAveragePool": 2, "GlobalMaxPool": 2, "HardSigmoid": 3},
    **{"HardSwish": 1, "LeakyRelu": 3, "LogSoftmax": 6, "MatMul": 1, "MaxPool": 11, "Mish": 1, "Neg": 2},
    **{"ReduceMax": 6, "ReduceMean": 6, "Relu": 1, "Reshape": 6, "Selu": 3, "Shrink": 2, "Sigmoid": 2, "Softmax": 6},
    **{"Softplus": 2, "Softsign": 2, "Squeeze": 1, "Tanh": 2, "ThresholdedRelu": 3, "Transpose": 2, "Unsqueeze": 6},
    **{"Add": 1, "Div": 1, "Mul": 1, "Sub": 1, "Identity": 1},
}
"""Operators, and how many of their tests a model computes; later versions of onnx may have more."""

REASONS = (
    r"takes \w+: models of float32 or uint8|of \w+: weights of float32 are read",  # other types
    r"has \d outputs|has \d inputs|of 1 axes|must be fixed",
    r"one value for each channel can be a layer|which no layer does|layers do not broadcast",
    r"as 'valid' or 'same' do|pooling layers have none|count_include_pad with ceil_mode",
    r"in training mode|training_mode=1",
    r"keeps the first axis, and that alone|keep the batch axis first|do not change the number of samples",
    r"the first is the batch axis|and not the first|the second and the last can be layers|keep the channels",
    r"transA=1|one number for each of \d outputs|float32 with 2 axes is needed|multiplies with a weight from the left",
    r"is not an activation of gpucnn|does not add zeros|does not convert to floats",
)
"""What Sequential cannot say, and no other reason."""


def cases():
    """(operator, name, model, inputs, outputs, tolerances) of each test of one node."""
    try:
        from onnx.backend.test.loader import load_model_tests
    except ImportError:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = load_model_tests(kind="node")
    single = [t for t in tests if len(t.model.graph.node) == 1 and t.model.graph.node[0].op_type in PASSED]
    return [(t.model.graph.node[0].op_type, t) for t in single if isinstance(t.data_sets[0][0][0], np.ndarray)]


def computed(case, path):
    """Whether the model computes the outputs; False if it is refused. All inputs but the first are weights."""
    import onnx

    inputs, outputs = case.data_sets[0]
    proto = onnx.ModelProto.FromString(case.model.SerializeToString())
    for entry, array in zip(proto.graph.input[1:], inputs[1:], strict=True):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), entry.name))
    x, expected = inputs[0], np.asarray(outputs[0])
    if x.ndim == 1 and expected.shape == x.shape:  # a batch of numbers: an axis of features is needed
        proto.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 1
        x, expected = x[:, None], expected[:, None]
    path.write_bytes(proto.SerializeToString())
    try:
        model = models.load_model(path)
    except FileError as error:
        if any(re.search(reason, str(error)) for reason in REASONS):
            return False
        raise
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the images look unscaled")
        y = model.predict(x, verbose=0)
    assert y.shape == expected.shape, case.name
    np.testing.assert_allclose(y, expected, rtol=case.rtol, atol=max(case.atol, 1e-6), err_msg=case.name)
    return True


def test_node_tests_are_computed_or_refused_for_a_reason(tmp_path):
    passed = dict.fromkeys(PASSED, 0)
    for op, case in cases():
        passed[op] += computed(case, tmp_path / "m.onnx")
    missing = {op: (count, PASSED[op]) for op, count in passed.items() if count < PASSED[op]}
    assert not missing, f"fewer tests than before are computed: {missing}"
