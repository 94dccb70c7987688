"""Elaborates `train` sections: every setting to a value, checked against the network and the data it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dlc.compiler.averaging import CATALOG as AVERAGES
from dlc.compiler.averaging import Ema
from dlc.compiler.frontend import ast
from dlc.compiler.frontend.data import elaborate_data
from dlc.compiler.frontend.definitions import Definitions
from dlc.compiler.frontend.environment import Environment
from dlc.compiler.frontend.evaluator import Evaluator
from dlc.compiler.frontend.fits import check_fit
from dlc.compiler.frontend.losses import elaborate_loss
from dlc.compiler.frontend.models import called_model, elaborate
from dlc.compiler.frontend.regularizers import check_pattern, elaborate_regularizers
from dlc.compiler.frontend.sections import Settings, chosen, dotted, number, plain, read_settings, single, written
from dlc.compiler.frontend.suggestions import did_you_mean, listing
from dlc.compiler.frontend.values import SIZES, Measure, Poison, kind
from dlc.compiler.network import Network
from dlc.compiler.precision import SHORT
from dlc.compiler.recipe import DataRecipe, InitGroup, OptimizerGroup, Recipe

SETTINGS = (
    "model", "data", "loss", "optimizer", "schedule", "regularize", "init", "batch", "accumulate", "memory", "average", "precision",
    "epochs", "steps", "stop", "metrics", "watch", "seed",
)  # fmt: skip
REQUIRED = ("model", "data", "loss", "optimizer", "epochs|steps")
GROUPED = ("optimizer", "init")
PRECISIONS = ("float32", "tf32", "bfloat16")
LARGEST_BATCH = 1_000_000
LARGEST_SEED = 2**32 - 1


class Recipes:
    """Elaborates the sections of one file; data sections and networks are made once, however many recipes use them."""

    def __init__(
        self,
        evaluator: Evaluator,
        definitions: Definitions,
        networks: Mapping[str, Network],
        overridden: Mapping[int, ast.Section],
    ) -> None:
        """`networks` are the file's own, by name; `overridden` the data sections after `--set`, by what they were."""
        self.evaluator = evaluator
        self.definitions = definitions
        self.networks = networks
        self.overridden = overridden
        self.data: dict[int, DataRecipe | None] = {}

    def data_section(self, section: ast.Section) -> DataRecipe | None:
        """A data section of this file or of one it imports; None where it has mistakes, which are reported."""
        if id(section) not in self.data:
            self.data[id(section)] = elaborate_data(self.evaluator, self.overridden[id(section)])
        return self.data[id(section)]

    def _home(self, line: ast.Setting) -> Definitions:
        """The file whose names a setting means: the one that it is written in, or this one for one from the outside."""
        return self.definitions.homes.get(id(line), self.definitions)

    def recipe(self, section: ast.Section) -> Recipe | None:
        """A train section; None where something is wrong with it, which is reported."""
        evaluator = self.evaluator
        before = evaluator.report.count
        evaluator.steps = 0
        settings = read_settings(evaluator, section, SETTINGS, REQUIRED, GROUPED)
        network = self._network(settings)
        data = self._data(settings)
        loss = settings.line("loss")
        node = single(evaluator, loss, "a loss") if loss is not None else None
        losses = elaborate_loss(evaluator, node, network) if node is not None else []
        optimizers = self._groups(settings, "optimizer", network)
        regularizers = elaborate_regularizers(evaluator, settings.items("regularize"), network)
        init_from, init = self._init(settings, network)
        metrics = self._metrics(settings)
        schedules = self._schedules(settings, metrics, data)
        stop = self._stop(settings, metrics, data)
        length = self._length(settings)
        batch, seed = settings.line("batch"), settings.line("seed")
        size = self._batch(batch) if batch is not None else 32
        parts = self._parts(settings, size)
        memory = self._memory(settings)
        average = self._average(settings)
        precision = self._precision(settings)
        watch = self._watch(settings)
        start = number(evaluator, seed, most=LARGEST_SEED) if seed is not None else 0
        if network is not None and data is not None:
            line = settings.line("data")
            if line is not None:
                check_fit(evaluator, line.items[0].value.span, network, data, losses)
        if evaluator.report.count != before or network is None or data is None:
            return None
        if size is None or start is None or parts is None:
            return None
        return Recipe(
            name=section.name.name,
            network=network,
            data=data,
            losses=tuple(losses),
            optimizers=tuple(OptimizerGroup(made, pattern, node.span) for made, pattern, node in optimizers),
            schedules=schedules,
            regularizers=regularizers,
            init=init,
            init_from=init_from,
            batch=int(size),
            accumulate=int(parts),
            average=average,
            memory=memory,
            precision=precision,
            epochs=length.get("epochs"),
            steps=_whole(length.get("steps")),
            stop=stop,
            metrics=metrics,
            watch=watch,
            seed=int(start),
            settings=written(settings),
            span=section.name.span,
        )

    # What is trained, and on what

    def _network(self, settings: Settings) -> Network | None:
        line = settings.line("model")
        node = single(self.evaluator, line, "a model") if line is not None else None
        if line is None or node is None:
            return None
        home = self._home(line)
        called = called_model(self.evaluator, node, home.environment)
        if called is None:
            return None
        function, values = called
        own = self.definitions.own.get(function.name) is function
        if not values and own and function.name in self.networks and self.networks[function.name].name == function.name:
            return self.networks[function.name]
        self.evaluator.steps = 0
        return elaborate(self.evaluator, function, values, node.span)

    def _data(self, settings: Settings) -> DataRecipe | None:
        line = settings.line("data")
        node = single(self.evaluator, line, "a data section") if line is not None else None
        if line is None or node is None:
            return None
        name, names = dotted(node), self._home(line).data
        if name is None or name not in names:
            help = did_you_mean(name or "", names) or (f"this file has {listing(names)}" if names else "")
            if name in self.evaluator.vocabulary.sources:
                help = f"a data section is named here: `data NAME {{ source {name} }}`"
            self.evaluator.error("E0810", f"there is no data section `{node.span.text}`", node.span, help=help)
            return None
        return self.data_section(names[name])

    # How it is trained

    def _groups(
        self, settings: Settings, setting: str, network: Network | None, items: Sequence[ast.Item] | None = None
    ) -> list[tuple[Any, str | None, ast.Expression]]:
        """`optimizer` and `init`: members of a catalog, each for a pattern or, once, for all other parameters."""
        vocabulary = self.evaluator.vocabulary
        catalog: Mapping[str, type[Any]] = vocabulary.optimizers if setting == "optimizer" else vocabulary.initializers
        found: list[tuple[Any, str | None, ast.Expression]] = []
        seen: dict[str | None, ast.Item] = {}
        for item in settings.items(setting) if items is None else items:
            if item.name is not None:
                message = f"`{setting}` takes {listing(sorted(catalog), 20)}, not a named value"
                self.evaluator.error("E0805", message, item.name.span, help=f"write `sgd({item.span.text})`")
                continue
            pattern = item.pattern.name if item.pattern is not None else None
            if pattern in seen:
                where = f" for `{pattern}`" if pattern else ""
                help = "" if pattern else f"give one of them a group: `{setting} … for features.*`"
                self.evaluator.error(
                    "E0802", f"`{setting}` is set twice{where}", item.span, f"the first is at line {seen[pattern].span.line}",
                    help=help,
                )  # fmt: skip
            seen.setdefault(pattern, item)
            if item.pattern is not None and network is not None:
                check_pattern(self.evaluator, item.pattern, network)
            what = "optimizer" if setting == "optimizer" else "initializer"
            made = chosen(self.evaluator, catalog, what, item.value)
            if made is not None:
                found.append((made, pattern, item.value))
        return found

    def _schedules(self, settings: Settings, metrics: Sequence[Any], data: DataRecipe | None) -> tuple[Any, ...]:
        line = settings.line("schedule")
        node = single(self.evaluator, line, "a schedule") if line is not None else None
        if node is None:
            return ()
        steps = node.steps if isinstance(node, ast.Then) else (node,)
        made = [chosen(self.evaluator, self.evaluator.vocabulary.schedules, "schedule", step) for step in steps]
        for schedule, step, after in zip(made, steps, steps[1:], strict=False):
            if schedule is not None and schedule.length(100) is None and schedule.condition() is None:
                self.evaluator.error(
                    "E0814", f"`{schedule.keyword}` lasts to the end of training: what follows is never reached", step.span,
                    help=f"say how long it lasts: `{schedule.keyword}(…, duration=10 epochs) then {after.span.text}`",
                )  # fmt: skip
        for schedule, step in zip(made, steps, strict=True):
            condition = schedule.condition() if schedule is not None else None
            monitor = condition.monitor if condition is not None else getattr(schedule, "monitor", None)
            if monitor is not None:
                self._check_monitor(monitor, step, metrics, data)
        return tuple(m for m in made if m is not None)

    def _init(self, settings: Settings, network: Network | None) -> tuple[str | None, tuple[InitGroup, ...]]:
        """`init he`, `init normal(0.01) for features.*`, `init from "weights.safetensors" else he`."""
        path: str | None = None
        items: list[ast.Item] = []
        for item in settings.items("init"):
            if not isinstance(item.value, ast.FromFile):
                items.append(item)
                continue
            if item.pattern is not None or item.name is not None:
                span = (item.pattern or item.name or item).span
                self.evaluator.error("E0805", "weights are read from a file for the whole network, without `for`", span)
            if path is not None:
                self.evaluator.error("E0802", "`init from` is set twice", item.value.path.span)
            path = item.value.path.value
            if not path.endswith(".safetensors"):
                help = "a run leaves `best.safetensors` and `last.safetensors`"
                self.evaluator.error(
                    "E0806", "weights are read from a .safetensors file", item.value.path.span, help=help
                )
            if item.value.otherwise is not None:
                items.append(ast.Item(None, item.value.otherwise, None, span=item.value.otherwise.span))
        groups = self._groups(settings, "init", network, items)
        return path, tuple(InitGroup(made, pattern, node.span) for made, pattern, node in groups)

    def _batch(self, line: ast.Setting) -> float | None:
        """`batch 64`, or `batch all`: 0 stands for all training samples."""
        node = line.items[0].value
        if len(line.items) == 1 and isinstance(node, ast.Name) and node.name == "all":
            return 0
        return number(self.evaluator, line, least=1, most=LARGEST_BATCH)

    def _parts(self, settings: Settings, batch: float | None) -> float | None:
        """`accumulate 4`: in how many parts the batch goes through; they must be equal."""
        line = settings.line("accumulate")
        if line is None:
            return 1
        parts = number(self.evaluator, line, least=1, most=LARGEST_BATCH)
        if parts is None or not batch or batch % parts == 0:
            return parts
        message = f"a batch of {batch:g} cannot be divided into {parts:g} equal parts"
        divisors = [n for n in range(2, int(batch) + 1) if batch % n == 0]
        near = min(divisors, key=lambda n: (abs(n - parts), n), default=1)
        self.evaluator.error("E0807", message, line.items[0].value.span, help=f"write `accumulate {near}`")
        return None

    def _memory(self, settings: Settings) -> int | None:
        """`memory 2GB`: the bytes that training may take."""
        line = settings.line("memory")
        node = single(self.evaluator, line, "a size in memory") if line is not None else None
        if node is None:
            return None
        value = self.evaluator.evaluate(node, Environment())
        if isinstance(value, Poison):
            return None
        if not isinstance(value, Measure) or value.unit not in SIZES:
            message = f"`memory` takes a size, not {kind(value)}"
            self.evaluator.error("E0806", message, node.span, help="write `memory 2GB`; there are KB, MB, GB and TB")
            return None
        if value.amount <= 0:
            self.evaluator.error("E0807", f"`memory` must be above 0, not {value}", node.span)
            return None
        return int(value.amount * SIZES[value.unit])

    def _average(self, settings: Settings) -> Ema | None:
        """`average ema(0.999)`."""
        line = settings.line("average")
        node = single(self.evaluator, line, "an average of weights") if line is not None else None
        if node is None:
            return None
        return chosen(self.evaluator, AVERAGES, "average", node)

    def _precision(self, settings: Settings) -> str:
        """`precision bfloat16`, or `bf16`."""
        line = settings.line("precision")
        node = single(self.evaluator, line, "a precision") if line is not None else None
        if node is None:
            return PRECISIONS[0]
        name = SHORT.get(dotted(node) or "", dotted(node))
        if name not in PRECISIONS:
            help = did_you_mean(name or "", PRECISIONS)
            message = f"`precision` is one of {listing(PRECISIONS)}, not `{node.span.text}`"
            self.evaluator.error("E0806", message, node.span, help=help)
            return PRECISIONS[0]
        return name

    def _watch(self, settings: Settings) -> Any:
        """`watch 100 steps`: how often the layers' statistics are written down."""
        line = settings.line("watch")
        node = single(self.evaluator, line, "a duration") if line is not None else None
        if node is None:
            return None
        value = self.evaluator.evaluate(node, Environment())
        if isinstance(value, Poison):
            return None
        if not isinstance(value, Measure) or value.unit not in ("epoch", "step"):
            message = f"`watch` takes a duration, not {kind(value)}"
            self.evaluator.error("E0806", message, node.span, help="write `watch 100 steps` or `watch 1 epoch`")
            return None
        if value.amount <= 0:
            self.evaluator.error("E0807", f"`watch` must be longer than 0 {value.unit}s", node.span)
            return None
        return value

    def _length(self, settings: Settings) -> dict[str, float | None]:
        epochs, steps = settings.line("epochs"), settings.line("steps")
        if epochs is not None and steps is not None:
            message = "training is as long as `epochs` or as `steps` say, not both"
            self.evaluator.error("E0802", message, steps.name.span, help="keep one of the two")
        found: dict[str, float | None] = {}
        if epochs is not None:
            found["epochs"] = number(self.evaluator, epochs, unit="epoch", whole=False, above=True, most=1e9)
        if steps is not None:
            found["steps"] = number(self.evaluator, steps, unit="step", least=1, most=1e12)
        return found

    def _metrics(self, settings: Settings) -> tuple[Any, ...]:
        made: list[Any] = []
        for item in settings.items("metrics"):
            node = plain(self.evaluator, "metrics", item, "metrics")
            metric = (
                chosen(self.evaluator, self.evaluator.vocabulary.metrics, "metric", node) if node is not None else None
            )
            if metric is not None and any(m.name == metric.name for m in made):
                self.evaluator.error("E0802", f"metric `{metric.name}` is named twice", item.span)
            elif metric is not None:
                made.append(metric)
        return tuple(made)

    def _stop(self, settings: Settings, metrics: Sequence[Any], data: DataRecipe | None) -> Any:
        line = settings.line("stop")
        node = single(self.evaluator, line, "a stopping rule") if line is not None else None
        if node is None:
            return None
        rule = chosen(self.evaluator, self.evaluator.vocabulary.stops, "stopping rule", node)
        monitor = getattr(rule, "monitor", None)
        if monitor is not None:
            self._check_monitor(monitor, node, metrics, data)
        return rule

    def _check_monitor(
        self, monitor: str, node: ast.Expression, metrics: Sequence[Any], data: DataRecipe | None
    ) -> None:
        """Reports a value of the log that a rule looks at and nothing measures."""
        known = [
            f"{part}.{name}"
            for part in ("val", "train")
            for name in ("loss", "error", *(m.name for m in metrics if m.scalar))
        ]
        values = [a.value for a in getattr(node, "arguments", ())]
        values += [v.left for v in values if isinstance(v, ast.Binary)]
        place = next((v.span for v in values if v.span.text == monitor), node.span)
        if monitor not in known:
            help = did_you_mean(monitor, known) or f"there are {listing(dict.fromkeys(known), 20)}"
            self.evaluator.error("E0816", f"nothing measures `{monitor}`", place, help=help)
        elif monitor.startswith("val.") and data is not None and not data.validate:
            message = f"`{monitor}` is not measured: no samples are split off for validation"
            self.evaluator.error(
                "E0816", message, place, help=f"write `validate 10%` in data `{data.name}`, or monitor train.loss"
            )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
