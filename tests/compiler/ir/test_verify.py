"""The verifier finds every kind of broken graph and names the value."""

import numpy as np
import pytest

from dlc.compiler import ops
from dlc.compiler.ir import Constant, DType, Graph, Input, N, Parameter, TensorType, Value, source
from dlc.compiler.ir.verify import VerifyError, verify
from dlc.runtime.layout import Layout

X = source(Input("x", TensorType((N, 3))))
W = source(Parameter("w", TensorType((2, 3))))


def graph(output, updates=None, inputs=(X,)):
    return Graph("g", inputs, {"y": output}, updates or {})


def test_a_good_graph_passes():
    verify(graph(ops.add(ops.linear(X, W), ops.constant(1.0)), {W: ops.multiply(W, 0.5)}))


def test_a_wrong_type_is_found():
    bad = Value(ops.Relu(), (X,), TensorType((N, 4)))

    with pytest.raises(VerifyError, match=r"should be float32\[N, 3\]: %0 = relu\(%x\) : float32\[N, 4\]"):
        verify(graph(bad))


def test_operands_that_do_not_fit_are_found():
    bad = Value(ops.Add(), (X, source(Input("y", TensorType((2,))))), TensorType((N, 3)))

    with pytest.raises(VerifyError, match=r"cannot add \[N, 3\] and \[2\]: %0 = add\(%x, %y\)"):
        verify(graph(bad))


def test_the_batch_must_be_first():
    bad = Value(ops.Relu(), (source(Input("y", TensorType((3, N)))),), TensorType((3, N)))

    with pytest.raises(VerifyError, match="the batch is not the first dimension: %y"):
        verify(graph(bad))


def test_names_are_unique():
    twin = source(Parameter("x", TensorType((3,))))

    with pytest.raises(VerifyError, match="two values are called x"):
        verify(graph(ops.add(X, twin)))


def test_updates_keep_the_type_and_belong_to_parameters():
    with pytest.raises(VerifyError, match=r"the update of w \(float32\[2, 3\]\) has another type"):
        verify(graph(X, {W: ops.reduce_sum(W, 0)}))
    with pytest.raises(VerifyError, match="only parameters can be updated: %x"):
        verify(graph(X, {X: ops.relu(X)}))


def test_sources_are_well_formed():
    cases = {
        r"the constant holds float64\[2\]": source(Constant("c", TensorType((3,)), np.zeros(2))),
        "a given value has no operands and its declared type": Value(
            Input("y", TensorType((3,))), (), TensorType((1,))
        ),
        "a parameter has no batch": source(Parameter("p", TensorType((N, 3)))),
        r"the layout gives \[3, 2\]": source(
            Parameter("p", TensorType((3,)), layout=Layout((2, 3), (2, 3), (2, 3), (2, 3), (1, 0), (3, 2)))
        ),
    }
    for message, bad in cases.items():
        with pytest.raises(VerifyError, match=message):
            verify(graph(ops.relu(bad) if bad.type.dtype is DType.FLOAT32 else bad))


def test_inputs_are_listed():
    with pytest.raises(VerifyError, match="an input that the graph does not list: %x"):
        verify(graph(ops.relu(X), inputs=()))
    with pytest.raises(VerifyError, match="listed as an input, but is none: %w"):
        verify(graph(ops.relu(X), inputs=(X, W)))
