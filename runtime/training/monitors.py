"""What stopping rules, schedules and the choice of the best weights look at."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.runtime.errors import RuntimeFault
from dlc.runtime.training.options import TrainingOptions


def monitored(options: TrainingOptions, measured: Sequence[str], validated: Sequence[str]) -> str | None:
    """What decides which epoch is the best; None: the latest always is.

    `measured` names the values of the log, `validated` those that a validation part would give. Raises RuntimeFault (R0425)
    where a stopping rule or a schedule looks at anything else.
    """
    looked_at = {"the stopping rule": options.stop.monitor if options.stop is not None else None}
    for schedule in options.schedules:
        condition = schedule.condition()
        monitor = condition.monitor if condition is not None else getattr(schedule, "monitor", None)
        looked_at[f"the schedule `{schedule.keyword}`"] = monitor
    for rule, monitor in looked_at.items():
        if monitor is not None and monitor not in measured:
            missing = monitor in validated
            raise RuntimeFault(
                "R0425",
                f"{rule} monitors {monitor}, "
                + ("but no samples are split off for validation" if missing else "which is not measured"),
                help="write `validate 10%` in the data section" if missing else f"measured: {', '.join(measured)}",
            )
    if options.stop is not None:
        return options.stop.monitor
    return "val.error" if "val.error" in measured else None
