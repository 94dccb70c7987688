"""TVM's schedule without checks of its arguments' Python types, which take more than half of the time of a call."""

from __future__ import annotations

from tvm.s_tir import Schedule


class UncheckedSchedule(Schedule):  # type: ignore[misc]  # tvm has no types
    """A schedule whose primitives hand their arguments to TVM at once; what is wrong with a loop or block is still said."""

    __slots__ = ()


for _name, _method in vars(Schedule).items():
    if hasattr(_method, "__wrapped__"):
        setattr(UncheckedSchedule, _name, _method.__wrapped__)
