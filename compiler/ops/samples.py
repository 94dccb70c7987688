"""The samples of all operators, and arrays for them: what the shared tests run."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import numpy as np

from dlc.compiler import ops
from dlc.compiler.ir import DType, N, Op, Sample, TensorType


def operators() -> list[type[Op]]:
    """Every concrete op class of the package, in order of module and name."""
    found = []
    for info in sorted(pkgutil.iter_modules(ops.__path__), key=lambda m: m.name):
        module = importlib.import_module(f"{ops.__name__}.{info.name}")
        for _, item in inspect.getmembers(module, inspect.isclass):
            if item.__module__ == module.__name__ and issubclass(item, Op) and not inspect.isabstract(item):
                found.append(item)
    return found


def cases() -> Iterator[tuple[str, Sample]]:
    """All samples, each with a name for test reports ("Conv2d-3")."""
    for op in operators():
        for number, sample in enumerate(op.samples()):
            yield f"{op.__name__}-{number}", sample


def bound(type_: TensorType, batch: int) -> TensorType:
    """A type with its batch fixed."""
    return type_.with_shape(*(batch if d is N else d for d in type_.shape))


def arrays(sample: Sample, batch: int, seed: int = 0, precision: DType | None = None) -> list[np.ndarray]:
    """Random operands for a sample, the floating-point ones in `precision` where it is given."""
    generator = np.random.default_rng(seed)
    return [_array(sample, bound(o, batch), generator, precision) for o in sample.operands]


def _array(sample: Sample, type_: TensorType, generator: np.random.Generator, precision: DType | None) -> np.ndarray:
    shape = tuple(int(d) for d in type_.shape)  # type: ignore[arg-type]  # the batch is bound
    if type_.dtype is DType.BOOL:
        return np.asarray(generator.random(shape) < 0.5)
    if not type_.dtype.is_float:
        return np.asarray(generator.integers(0, sample.integer_high, shape)).astype(type_.dtype.numpy)
    if sample.distinct:
        size = int(np.prod(shape))
        values = np.linspace(sample.low, sample.high, size + 2)[1:-1]
        result = generator.permutation(values).reshape(shape)
    else:
        result = generator.uniform(sample.low, sample.high, shape)
    if type_.dtype.is_reduced:  # numbers that 16 bits hold, in any precision
        result = np.asarray(result, type_.dtype.numpy)
    return np.asarray(result, (precision or type_.dtype).numpy)
