"""The executor on real kernels: any batch, any array that may come, from any thread."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import torch

from dlc.runtime.arrays import aligned_empty
from dlc.runtime.binding import PLANS
from dlc.runtime.errors import RuntimeFault
from dlc.runtime.executor import Executor
from dlc.runtime.library import load_code
from dlc.runtime.plan import BATCH, Slot, TensorSpec
from tests.runtime.conftest import expected, pair_program, samples, train_program


def check(
    executor: Executor, image: object, shift: object, values: tuple[np.ndarray, np.ndarray], bias: np.ndarray
) -> None:
    result = executor.run({"image": image, "shift": shift})
    total, difference = expected(*values, bias)
    np.testing.assert_array_equal(result["sum"], total)
    np.testing.assert_array_equal(result["difference"], difference)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 11, 64, 200])
def test_any_batch_runs_without_the_compiler(pair: Executor, bias: np.ndarray, count: int) -> None:
    for seed in range(3):
        values = samples(count, seed)
        check(pair, *values, values, bias)


def test_batches_of_all_sizes_take_turns_in_one_arena(pair: Executor, bias: np.ndarray) -> None:
    for count in [1, 64, 2, 200, *range(1, 2 * PLANS + 3), 1, 64, 300, 1]:
        values = samples(count)
        check(pair, *values, values, bias)


def aligned(array: np.ndarray) -> np.ndarray:
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def offset(array: np.ndarray, by: int) -> np.ndarray:
    raw = aligned_empty((array.nbytes + by,), "uint8")
    moved = raw[by:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


ODD: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "aligned": aligned,
    "4 bytes off": lambda a: offset(a, 4),
    "16 bytes off": lambda a: offset(a, 16),
    "1 byte off": lambda a: offset(a, 1),
    "fortran order": np.asfortranarray,
    "read-only": lambda a: read_only(aligned(a)),
    "read-only and off": lambda a: read_only(offset(a, 8)),
    "every second": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "subclass": lambda a: a.view(type("Mine", (np.ndarray,), {})),
    "torch": lambda a: torch.from_numpy(a.copy()),
    "torch, transposed": lambda a: torch.from_numpy(a.T.copy()).permute(*range(a.ndim)[::-1]),
}


@pytest.mark.parametrize("count", [1, 5, 40])
@pytest.mark.parametrize("kind", ODD)
def test_arrays_of_every_layout_give_the_same_result(pair: Executor, bias: np.ndarray, kind: str, count: int) -> None:
    values = samples(count)
    given = [ODD[kind](a) for a in values]

    check(pair, *given, values, bias)
    check(pair, given[0], values[1], values, bias)


def test_large_aligned_inputs_are_read_where_they_are(code: bytes, bias: np.ndarray) -> None:
    executor = Executor(pair_program(), load_code(code), {"bias": bias})
    image, shift = (aligned(a) for a in samples(64))
    executor.run({"image": image, "shift": shift})

    workspace = executor._free[-1]

    assert not workspace.copies
    assert workspace.arena.nbytes < executor.plan(64).peak + 1024


def test_the_callers_arrays_are_not_kept_alive(pair: Executor) -> None:
    image, shift = (aligned(a) for a in samples(64))
    results = pair.run({"image": image, "shift": shift})
    held = [weakref.ref(image), weakref.ref(shift), weakref.ref(results["sum"])]

    del image, shift, results
    gc.collect()

    assert [ref() for ref in held] == [None] * 3


@pytest.mark.parametrize("count", [1, 3, 64])
def test_outputs_are_new_arrays_or_the_callers_own(pair: Executor, bias: np.ndarray, count: int) -> None:
    values = samples(count)
    first = pair.run({"image": values[0], "shift": values[1]})
    kept = {name: array.copy() for name, array in first.items()}
    for out in (
        np.empty((count, 384), np.float32),
        aligned_empty((count, 384), "float32"),
        np.empty((384, count), np.float32).T,
    ):
        result = pair.run({"image": values[0], "shift": values[1]}, {"difference": out})
        assert result["difference"] is out
        np.testing.assert_array_equal(out, expected(*values, bias)[1])
        np.testing.assert_array_equal(result["sum"], expected(*values, bias)[0])

    pair.run({"image": -values[0], "shift": values[1]})

    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])


def test_weights_are_updated_in_place(code: bytes) -> None:
    weight = aligned_empty((16,), "float32")
    weight[...] = 1.0
    executor = Executor(train_program(), load_code(code), {"w": weight})

    for rate in (0.25, np.float32(0.25), np.array(0.25, np.float32), torch.tensor(0.25)):
        assert executor.run({"rate": rate}) == {}

    assert weight.tolist() == [0.0] * 16


def test_a_profile_names_every_step_with_its_time_and_work(pair: Executor) -> None:
    image, shift = samples(4)

    steps = pair.profile({"image": image, "shift": shift}, repeats=3)

    assert [s.what for s in steps] == ["double", "bias", "relu", "add", "subtract"]
    assert [s.flops for s in steps] == [384 * 4, 384 * 4, 7, 384 * 4, 384 * 4]
    assert all(0 < s.seconds < 1 for s in steps)
    assert pair.profile({"image": image[:1], "shift": shift[:1]}, 1)[3].kernel == "add_one"


def test_no_samples_give_no_results(pair: Executor) -> None:
    image, shift = samples(3)

    result = pair.run({"image": image[:0], "shift": shift[:0]})

    assert result["sum"].shape == (0, 384)


def test_nans_pass_through(pair: Executor) -> None:
    image, shift = samples(2)
    shift[0, 0] = np.nan

    assert np.isnan(pair.run({"image": image, "shift": shift})["sum"][0, 0])


def test_eight_threads_share_one_executor(pair: Executor, bias: np.ndarray) -> None:
    wrong: list[object] = []

    def work(seed: int) -> None:
        try:
            for turn in range(60):
                values = samples((seed * 7 + turn) % 70 + 1, seed)
                result = pair.run({"image": values[0], "shift": values[1]})
                total, difference = expected(*values, bias)
                if not (np.array_equal(result["sum"], total) and np.array_equal(result["difference"], difference)):
                    wrong.append((seed, turn))
        except BaseException as error:
            wrong.append(error)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert wrong == []


@pytest.mark.parametrize("threads", [1, 2, None])
def test_any_number_of_threads_gives_the_same_bits(code: bytes, bias: np.ndarray, threads: int | None) -> None:
    image, shift = samples(33)
    one = Executor(pair_program(), load_code(code), {"bias": bias}, 1).run({"image": image, "shift": shift})

    many = Executor(pair_program(), load_code(code), {"bias": bias}, threads).run({"image": image, "shift": shift})

    for name, array in one.items():
        assert array.tobytes() == many[name].tobytes()


FAULTS = {
    "double": ("image", lambda a: a.astype(np.float64), "R0203", 'astype("float32")'),
    "bytes": ("image", lambda a: a.astype(np.uint8), "R0203", "net.preprocess"),
    "half": ("shift", lambda a: a.astype(np.float16), "R0203", "got float16"),
    "swapped bytes": ("image", lambda a: a.astype(">f4"), "R0203", "byte-swapped"),
    "objects": ("image", lambda a: a.astype(object), "R0203", "different lengths"),
    "texts": ("image", lambda a: np.full(a.shape, "a"), "R0203", "float32"),
    "one image": ("image", lambda a: a[0], "R0204", "array[None]"),
    "channels last": ("image", lambda a: a.transpose(0, 2, 3, 1), "R0204", "transpose(0, 3, 1, 2)"),
    "one image, channels last": ("image", lambda a: a[0].transpose(1, 2, 0), "R0204", "transpose(2, 0, 1)[None]"),
    "wrong size": ("image", lambda a: a[..., :8], "R0204", "got [3, 3, 8, 8]"),
    "not flat": ("shift", lambda a: a.reshape(-1, 3, 128), "R0204", "reshape(len(array), -1)"),
    "a number": ("image", lambda a: np.float32(1), "R0204", "got []"),
    "more samples": ("shift", lambda a: np.concatenate([a, a]), "R0205", "holds 6 samples, but 'image' holds 3"),
    "a list": ("image", lambda a: a.tolist(), "R0201", "got list"),
    "none": ("image", lambda a: None, "R0201", "got NoneType"),
    "a text": ("image", lambda a: "cat.png", "R0201", "got str"),
    "torch double": ("image", lambda a: torch.from_numpy(a).double(), "R0203", "got float64"),
    "torch bfloat16": ("image", lambda a: torch.from_numpy(a).bfloat16(), "R0203", "got bfloat16"),
    "torch with gradients": ("image", lambda a: torch.from_numpy(a).requires_grad_(), "R0202", "detach()"),
    "torch without memory": ("image", lambda a: torch.from_numpy(a).to("meta"), "R0202", "meta"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_arrays_that_do_not_fit_are_refused_with_the_remedy(pair: Executor, case: str) -> None:
    name, change, code, text = FAULTS[case]
    values = dict(zip(("image", "shift"), samples(3), strict=True))
    pair.run(values)
    values[name] = change(values[name])

    with pytest.raises(RuntimeFault) as caught:
        pair.run(values)

    assert caught.value.code == code
    assert text in str(caught.value)
    assert repr(name) in caught.value.message


def test_unknown_and_missing_names_are_refused(pair: Executor) -> None:
    image, shift = samples(1)
    with pytest.raises(RuntimeFault, match=r"there is no input 'imag'[\s\S]*did you mean 'image'"):
        pair.run({"imag": image, "shift": shift})
    with pytest.raises(RuntimeFault, match="input 'shift' is missing"):
        pair.run({"image": image})
    with pytest.raises(RuntimeFault, match="there is no output 'summ'"):
        pair.run({"image": image, "shift": shift}, {"summ": image})


@pytest.mark.parametrize(
    "out",
    [np.empty((2, 384)), np.empty((1, 384), np.float32), [], read_only(np.empty((2, 384), np.float32))],
    ids=["type", "shape", "list", "read-only"],
)
def test_arrays_that_cannot_take_an_output_are_refused(pair: Executor, out: object) -> None:
    image, shift = samples(2)

    with pytest.raises(RuntimeFault, match="R0206"):
        pair.run({"image": image, "shift": shift}, {"sum": out})  # type: ignore[dict-item]


def test_a_fixed_batch_takes_no_other(code: bytes, bias: np.ndarray) -> None:
    executor = Executor(pair_program(batch=4), load_code(code), {"bias": bias})
    values = samples(4)
    check(executor, *values, values, bias)

    with pytest.raises(RuntimeFault, match=r"batches of 4, but input 'image' holds 5[\s\S]*\[4, 3, 8, 16\]"):
        executor.run(dict(zip(("image", "shift"), samples(5), strict=True)))


def test_weights_that_are_missing_or_do_not_fit_are_refused(code: bytes, bias: np.ndarray) -> None:
    kernels = load_code(code)
    with pytest.raises(RuntimeFault, match="'bias' is missing"):
        Executor(pair_program(), kernels, {})
    with pytest.raises(RuntimeFault, match=r"'bias' must be float32 \[16\], got float32 \[4\]"):
        Executor(pair_program(), kernels, {"bias": bias[:4]})
    with pytest.raises(ValueError, match="aligned"):
        Executor(pair_program(), kernels, {"bias": offset(bias, 4)})
    with pytest.raises(RuntimeFault, match="no kernel 'nothing'"):
        kernels("nothing")


def test_a_kernel_that_refuses_its_arguments_says_why(code: bytes, bias: np.ndarray) -> None:
    program = pair_program()
    slots = (program.slots[0], Slot((BATCH, 3, 8, 8), "float32", "arena", storage=0), *program.slots[2:])
    executor = Executor(msgspec.structs.replace(program, slots=slots), load_code(code), {"bias": bias})

    with pytest.raises(Exception, match="double"):
        executor.run(dict(zip(("image", "shift"), samples(2), strict=True)))


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2"])
def test_a_wrong_number_of_threads_is_refused(pair: Executor, count: object) -> None:
    with pytest.raises(RuntimeFault, match="R0510"):
        pair.threads = count  # type: ignore[assignment]


def test_a_program_of_one_fixed_size_keeps_its_shapes(code: bytes, bias: np.ndarray) -> None:
    program = pair_program()

    def fixed(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (5, *shape[1:]) if shape[0] == BATCH else shape

    def all_fixed(specs: tuple[TensorSpec | Slot, ...]) -> tuple[TensorSpec | Slot, ...]:
        return tuple(msgspec.structs.replace(s, shape=fixed(s.shape)) for s in specs)

    program = msgspec.structs.replace(
        program, batch=5, **{name: all_fixed(getattr(program, name)) for name in ("inputs", "outputs", "slots")}
    )
    executor = Executor(program, load_code(code), {"bias": bias})
    for _ in range(2):
        values = samples(5)
        check(executor, *values, values, bias)

    assert executor._quick_batch(values) == 5
    assert executor.profile({"image": values[0], "shift": values[1]}, 1)[0].flops == 5 * 384
    with pytest.raises(RuntimeFault, match=r"must have shape \[5, 3, 8, 16\], got \[4, 3, 8, 16\]"):
        executor.run({"image": values[0][:4], "shift": values[1]})


def test_memory_of_past_calls_can_be_given_back(pair: Executor, bias: np.ndarray) -> None:
    values = samples(100)
    check(pair, *values, values, bias)

    pair.trim()

    assert not pair._free
    check(pair, *values, values, bias)


def test_too_large_a_batch_is_a_fault(pair: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    def up_to_64_kb(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        if np.prod(shape) > 2**16:
            raise MemoryError
        return aligned_empty(shape, dtype)

    values = dict(zip(("image", "shift"), samples(70), strict=True))
    with monkeypatch.context() as patch:
        patch.setattr("dlc.runtime.binding.aligned_empty", up_to_64_kb)
        with pytest.raises(RuntimeFault, match=r"R0207.*a batch of 70 needs"):
            pair.run(values)

    assert pair.run(values)["sum"].shape == (70, 384)
