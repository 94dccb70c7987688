"""The session: a compiled model, ready to be called on arrays from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlc.runtime.ahead import announced
from dlc.runtime.arrays import aligned_copy, describe, is_aligned
from dlc.runtime.artifact import (
    Artifact,
    Manifest,
    Sizes,
    Variant,
    image_sizes,
    load_artifact,
    save_artifact,
    show_sizes,
)
from dlc.runtime.data.pictures import read_picture
from dlc.runtime.device import require_device
from dlc.runtime.device_executor import DeviceExecutor
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.executor import Executor, StepTime
from dlc.runtime.library import load_code, load_cuda
from dlc.runtime.names import suggest
from dlc.runtime.plan import Program, TensorSpec, WeightSpec
from dlc.runtime.transformed import layouts_of, transformed

AnyExecutor = Executor | DeviceExecutor

Specialise = Callable[[Artifact, Sizes], Variant]
"""Makes a program for images of other sizes. Raises RuntimeFault where there can be none."""


def load(path: str | Path, threads: int | None = None, specialise: Specialise | None = None) -> Session:
    """Opens an artifact that `dlc compile`, `dlc train` or `Session.save` wrote. The compiler is not needed.

    `threads` is the number of cores a call may use, None for all. `specialise` makes programs for images of sizes that the
    artifact has none for; without it they are refused. Raises RuntimeFault where the file is missing, cut off, damaged, no
    artifact, of another version, or made for another machine.
    """
    return Session(load_artifact(path), threads, specialise)


def executor_of(
    program: Program, code: bytes | memoryview, weights: Mapping[str, np.ndarray], threads: int | None = None
) -> AnyExecutor:
    """What runs a program on the device that it is compiled for. Raises RuntimeFault where that is not here."""
    require_device(program.device)
    if program.device == "cpu":
        return Executor(program, load_code(code), weights, threads)
    load_cuda()  # knows how to load the code
    return DeviceExecutor(program, load_code(code), weights)


class Results(Mapping[str, np.ndarray]):
    """A model's several outputs, by name: `results.logits`, `results["logits"]`, or unpacked in order."""

    __slots__ = ("_arrays",)

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self._arrays[name]
        except KeyError:
            raise RuntimeFault(
                "R0208", f"there is no output {name!r}", help=suggest(str(name), list(self._arrays))
            ) from None

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self._arrays[name]
        except KeyError:
            raise AttributeError(f"there is no output {name!r}: {suggest(name, list(self._arrays))}") from None

    def __reduce__(self) -> tuple[type[Results], tuple[dict[str, np.ndarray]]]:
        return Results, (self._arrays,)  # copies and pickles ask a blank object for attributes otherwise

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return "Results(" + ", ".join(f"{n}: {describe(a.shape)}" for n, a in self._arrays.items()) + ")"


class Session:
    """A compiled model.

    Called with one array per input, by position or by name, it returns the output, or `Results` if there are several.
    Arrays are numpy's, or anything that speaks DLPack, of exactly the type and shape that `inputs` says; the first
    dimension is the number of samples, which may differ from call to call. Images may have another height and width than
    `inputs` says where the network does not depend on them: `sizes` are those for which there is a program already, for
    others one is compiled at the first call, where the compiler is installed. Arrays that are contiguous and start at a
    multiple of 64 bytes are read where they are. Nothing is converted silently. Any number of threads may call at once.
    """

    def __init__(self, artifact: Artifact, threads: int | None = None, specialise: Specialise | None = None) -> None:
        program = artifact.manifest.program
        require_device(program.device, artifact.manifest.target.name)
        self._artifact = artifact
        self._specialise = specialise
        self._layouts = layouts_of(program.weights)
        self._transformed = transformed(program.weights, artifact.weights, self._layouts)
        self._weights: dict[str, np.ndarray] = {}
        self._weights = self._weights_of(program, {})
        self._executor = executor_of(program, artifact.code, self._weights, threads)
        self._sizes = image_sizes(program)
        self._variants = {image_sizes(v.program): v for v in artifact.variants}
        self._others: dict[Sizes, AnyExecutor] = {}
        self._making = threading.Lock()
        self._positions = {spec.name: i for i, spec in enumerate(self.inputs)}
        self._names = [spec.name for spec in self.outputs]
        self._only = len(self._names) == 1

    @property
    def manifest(self) -> Manifest:
        """All that the artifact says about the model."""
        return self._artifact.manifest

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs: name, shape (-1 stands for the number of samples) and element type."""
        return self._artifact.manifest.program.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs: name, shape (-1 stands for the number of samples) and element type."""
        return self._artifact.manifest.program.outputs

    @property
    def sizes(self) -> tuple[Sizes, ...]:
        """The sizes of images for which there is a program: for each, height and width of every input that is an image."""
        return tuple(dict.fromkeys((self._sizes, *self._variants, *self._others))) if self._sizes else ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes by index; empty if the artifact holds none."""
        return self._artifact.manifest.classes

    @property
    def executor(self) -> AnyExecutor:
        """What runs the program for images of the size that `inputs` says: memory plans, and runs with arrays given for the
        outputs."""
        return self._executor

    @property
    def threads(self) -> int:
        """The number of cores a call may use; it can be set."""
        return self._executor.threads

    @threads.setter
    def threads(self, count: int | None) -> None:
        for executor in (self._executor, *self._others.values()):
            executor.threads = count

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """The output as a new array, or `Results` for several. Raises RuntimeFault for arrays that do not fit."""
        if named or len(arrays) != len(self._positions):
            arrays = self._arranged(arrays, named)
        executor = self._others.get(_sizes_of(arrays), self._executor) if self._others else self._executor
        try:
            results = executor.execute(arrays)
        except RuntimeFault as fault:
            results = self._executor_for(arrays, fault).execute(arrays)
        if self._only:
            return results[0]
        return Results(dict(zip(self._names, results, strict=True)))

    def each(self, batches: Iterable[Any]) -> Iterator[Any]:
        """What a call gives for each batch, an array or a tuple of one array per input, in order.

        On a GPU a batch is copied there while the one before it is computed with, so batches must not be changed in place.
        """

        def announce(batch: Any) -> None:
            arrays = batch if isinstance(batch, tuple) else (batch,)
            executor = self._others.get(_sizes_of(arrays), self._executor)
            if isinstance(executor, DeviceExecutor):
                executor.expect({spec.name: array for spec, array in zip(self.inputs, arrays, strict=False)})

        for batch in announced(batches, announce):
            yield self(*batch) if isinstance(batch, tuple) else self(batch)

    def preprocess(self, image: str | Path | np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """An image file, or an array of one or several images -> the network's input, [n, channels, height, width].

        Resized and normalised as the training data was, or to another `size` (height, width). Arrays are uint8 (0 to 255) or
        float (0 to 1), channels first or last. Raises RuntimeFault where the artifact has no preprocessing, or the image
        cannot be read or does not fit.
        """
        rule = self._artifact.manifest.preprocessing
        if rule is None:
            raise RuntimeFault(
                "R0210",
                "this artifact says nothing about preprocessing",
                help="prepare the input yourself: see net.inputs",
            )
        if isinstance(image, str | Path):
            if rule.channels not in (1, 3):
                raise RuntimeFault("R0210", f"the network takes {rule.channels} channels, which no image file has")
            image = read_picture(Path(image), 1 if rule.channels == 1 else 3)
        return (rule if size is None else rule.resized(*size)).apply(image)

    def save(self, path: str | Path) -> None:
        """Writes the model as one artifact, atomically. Raises RuntimeFault (R0110) where that fails."""
        save_artifact(path, self._artifact)

    def profile(self, *arrays: Any, repeats: int = 10, **named: Any) -> list[StepTime]:
        """The time of every step for these inputs: medians of `repeats` runs."""
        if named or len(arrays) != len(self._positions):
            arrays = self._arranged(arrays, named)
        named = {s.name: a for s, a in zip(self.inputs, arrays, strict=True)}
        executor = self._others.get(_sizes_of(arrays), self._executor)
        try:
            return executor.profile(named, repeats)
        except RuntimeFault as fault:
            return self._executor_for(arrays, fault).profile(named, repeats)

    def _executor_for(self, arrays: Sequence[Any], fault: RuntimeFault) -> AnyExecutor:
        """What runs images of the arrays' sizes, made now if need be. Raises `fault` where these are not what it is about."""
        sizes = _sizes_of(arrays)
        if fault.code != "R0204" or sizes == self._sizes or not self._differ_in_size_alone(arrays):
            raise fault
        with self._making:
            if sizes not in self._others:
                variant = self._variants.get(sizes)
                if variant is None and self._specialise is None:
                    raise self._no_program(sizes) from fault
                if variant is None and self._specialise is not None:
                    variant = self._specialise(self._artifact, sizes)
                assert variant is not None
                new = [spec for spec in variant.program.weights if spec.transform not in self._transformed]
                self._transformed |= transformed(new, self._artifact.weights, self._layouts)
                weights = self._weights_of(variant.program, variant.weights)
                self._others[sizes] = executor_of(variant.program, variant.code, weights, self.threads)
        return self._others[sizes]

    def _weights_of(self, program: Program, own: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The weights of a program as its kernels read them: its own, transformed ones, and those of the main program."""

        def one(spec: WeightSpec) -> np.ndarray:
            if spec.transform is not None:
                return self._transformed[spec.transform]
            if spec.name in own:
                return _usable(own[spec.name])
            shared = self._weights.get(spec.name)
            return _usable(self._artifact.weights[spec.name]) if shared is None else shared

        return {spec.name: one(spec) for spec in program.weights}

    def _differ_in_size_alone(self, arrays: Sequence[Any]) -> bool:
        """Whether each array has the dimensions of its input, and the same sizes but for samples, height and width."""
        for spec, array in zip(self.inputs, arrays, strict=True):
            shape = tuple(getattr(array, "shape", ()))
            fixed = slice(1, 2) if len(spec.shape) == 4 else slice(1, None)
            if len(shape) != len(spec.shape) or shape[fixed] != spec.shape[fixed]:
                return False
        return True

    def _no_program(self, sizes: Sizes) -> RuntimeFault:
        have = " and ".join(show_sizes(s) for s in self.sizes)
        return RuntimeFault(
            "R0218",
            f"{self.manifest.model} has no program for images of {show_sizes(sizes)}, it has one for {have}",
            help="add one when compiling: dlc compile SPEC "
            + " ".join(f"--size {show_sizes(s)}" for s in (*self.sizes, sizes)),
        )

    def __repr__(self) -> str:
        inputs = ", ".join(f"{s.name}: {describe(s.shape)}" for s in self.inputs)
        outputs = ", ".join(f"{s.name}: {describe(s.shape)}" for s in self.outputs)
        return f"<dlc.Session {self.manifest.model}: {inputs} -> {outputs}, {self.manifest.target.name}>"

    def _arranged(self, arrays: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """Arrays given by position and by name, in the program's order."""
        specs = self.inputs
        expected = ", ".join(f"{s.name} {describe(s.shape)} {s.dtype}" for s in specs)
        if len(arrays) > len(specs):
            raise RuntimeFault(
                "R0208", f"the model takes {len(specs)} inputs, got {len(arrays)}", help=f"pass {expected}"
            )
        ordered = dict(zip(self._positions, arrays, strict=False))
        for name, array in named.items():
            if name not in self._positions:
                raise RuntimeFault("R0208", f"there is no input {name!r}", help=suggest(name, list(self._positions)))
            if name in ordered:
                raise RuntimeFault("R0208", f"input {name!r} is given twice, by position and by name")
            ordered[name] = array
        for name in self._positions:
            if name not in ordered:
                raise RuntimeFault("R0208", f"input {name!r} is missing", help=f"pass {expected}")
        return tuple(ordered[name] for name in self._positions)


def _sizes_of(arrays: Sequence[Any]) -> Sizes:
    """Height and width of each array that may be a batch of images."""
    shapes = [tuple(getattr(array, "shape", ())) for array in arrays]
    return tuple((int(shape[2]), int(shape[3])) for shape in shapes if len(shape) == 4)


def _usable(array: np.ndarray) -> np.ndarray:
    """The weight itself where kernels can use it in place, as those of a mapped artifact, else a copy that they can."""
    return array if is_aligned(array) and array.flags.writeable else aligned_copy(array)
