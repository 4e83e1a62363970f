"""Optimizers and learning-rate schedules of ``torch.optim`` from the ``training`` section."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from modyn.core.config.pipeline import LrSchedulerSection, OptimizerSection, ParamGroup
from modyn.core.config.problems import nearest
from modyn.core.errors import InvalidInputError, ModynError, NotAvailableError
from modyn.models.usercode import describe_error, load_attribute
from modyn.trainer_server.learning_rates import CustomScheduler, Scheduler
from modyn.trainer_server.schedule import Schedule

PLACEHOLDERS = ("MODYN_NUM_BATCHES", "MODYN_NUM_EPOCHS")


def build_optimizers(model: nn.Module, sections: Sequence[OptimizerSection]) -> dict[str, Optimizer]:
    """Optimizers by name. Parameters in no group are not trained.

    Raises:
        InvalidInputError: unknown algorithm, module or option, or a parameter in two groups; the message has the key.
        NotAvailableError: an optimizer source this release does not have.
    """
    owners: dict[int, str] = {}
    return {section.name: _optimizer(model, i, section, owners) for i, section in enumerate(sections)}


_EXAMPLES = {"torch.optim": "SGD, Adam or AdamW", "apex.optimizers": "FusedSGD, FusedAdam or FusedLAMB"}


def _algorithm(name: str, module: Any, key: str) -> Callable[..., Optimizer]:
    cls = getattr(module, name, None)
    if not (isinstance(cls, type) and issubclass(cls, Optimizer)) or cls is Optimizer:
        names = [other for other in dir(module) if isinstance(getattr(module, other), type)]
        where = module.__name__
        raise InvalidInputError(
            f"{key}.algorithm: no optimizer {name!r} in {where}{nearest(name, names)}; "
            f"expected one such as {_EXAMPLES[where]}"
        )
    if cls is torch.optim.LBFGS:
        raise InvalidInputError(f"{key}.algorithm: LBFGS evaluates a batch many times, which the loop does not do")
    return cls


def _optimizer(model: nn.Module, index: int, section: OptimizerSection, owners: dict[int, str]) -> Optimizer:
    key = f"training.optimizers[{index}]"
    cls = _algorithm(section.algorithm, torch.optim if section.source == "PyTorch" else _apex(key), key)
    groups: list[dict[str, Any]] = []
    for position, group in enumerate(section.param_groups):
        group_key = f"{key}.param_groups[{position}]"
        parameters = _parameters(model, group, group_key)
        _claim(model, parameters, owners, group_key)
        try:
            cls(parameters, **group.config)  # groups are not checked otherwise: a misspelt option would be ignored
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidInputError(f"{group_key}.config of {section.algorithm}: {error}") from error
        groups.append({"params": parameters, **group.config})
    return cls(groups)


def _apex(key: str) -> Any:
    try:
        return importlib.import_module("apex.optimizers")
    except ImportError as error:
        raise NotAvailableError(
            f"{key}.source: APEX: importing apex.optimizers failed ({error}); build NVIDIA Apex with its CUDA "
            "extensions on the trainer server, or set source: PyTorch, whose optimizers take fused: true in config"
        ) from error


def _parameters(model: nn.Module, group: ParamGroup, key: str) -> list[nn.Parameter]:
    """Parameters of a module named as ``model``, ``model.fc`` or ``fc``."""
    path = group.module
    candidates = [""] if path == "model" else []
    if path.startswith("model."):
        candidates.append(path.removeprefix("model."))
    candidates.append(path)
    for candidate in candidates:
        try:
            found = model.get_submodule(candidate)
        except AttributeError:
            continue
        parameters = list(found.parameters())
        if not parameters:
            raise InvalidInputError(f"{key}.module: {path!r} ({type(found).__name__}) has no parameters to train")
        return parameters
    names = [name for name, _ in model.named_modules() if name]
    children = ", ".join(name for name, _ in model.named_children())
    raise InvalidInputError(
        f"{key}.module: the model has no module {path!r}{nearest(path.removeprefix('model.'), names)}; expected "
        f"'model' for all of it, or a path that starts with one of {children}"
    )


def _claim(model: nn.Module, parameters: Sequence[nn.Parameter], owners: dict[int, str], key: str) -> None:
    for parameter in parameters:
        if id(parameter) in owners:
            name = next((name for name, other in model.named_parameters() if other is parameter), "?")
            raise InvalidInputError(
                f"{key}.module: parameter {name!r} is already in {owners[id(parameter)]}; "
                "each parameter may be in one group of one optimizer"
            )
    owners.update((id(parameter), key) for parameter in parameters)


def build_scheduler(
    section: LrSchedulerSection, optimizers: dict[str, Optimizer], schedule: Schedule, root: str | None = None
) -> Scheduler:
    """The learning-rate schedule, with the placeholders in its config replaced by the expected totals.

    ``MODYN_NUM_BATCHES`` stands for optimizer steps, after which schedulers step: with accumulated gradients there are
    fewer of them than batches.

    Args:
        root: folder that a scheduler of the user's own may be imported from, or None.

    Raises:
        InvalidInputError: unknown class, optimizer or option, or not what a scheduler must be.
    """
    totals = dict(zip(PLACEHOLDERS, (schedule.total_steps, schedule.epochs), strict=True))
    config = _replaced(section.config, totals)
    missing = [name for name in section.optimizers if name not in optimizers]
    if missing:
        raise InvalidInputError(
            f"{_KEY}.optimizers: there is no optimizer {missing[0]!r}; expected one of {', '.join(optimizers)}"
        )
    driven = [optimizers[name] for name in section.optimizers]
    if section.source == "Custom":
        return _custom(section, driven, config, root)
    cls = getattr(lr_scheduler, section.name, None)
    if not (isinstance(cls, type) and issubclass(cls, lr_scheduler.LRScheduler)):
        names = [name for name in dir(lr_scheduler) if name.endswith("LR") or name.startswith("Cosine")]
        raise InvalidInputError(
            f"{_KEY}.name: no class {section.name!r} in torch.optim.lr_scheduler{nearest(section.name, names)}; "
            "expected one such as StepLR, CosineAnnealingLR or OneCycleLR"
        )
    if len(driven) != 1:
        raise InvalidInputError(f"{_KEY}.optimizers: {section.optimizers}; expected the name of one optimizer")
    try:
        return cls(driven[0], **config)
    except (TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise InvalidInputError(f"{_KEY}.config of {section.name}: {error}") from error


_KEY = "training.lr_scheduler"


def _custom(section: LrSchedulerSection, driven: list[Optimizer], config: Any, root: str | None) -> Scheduler:
    """What the user's function makes of the optimizers, in the order of ``lr_scheduler.optimizers``."""
    build = load_attribute(section.name, root)
    if not callable(build):
        raise InvalidInputError(
            f"{_KEY}.name: {section.name!r} is a {type(build).__name__}; expected a class or function"
        )
    try:
        scheduler = build(driven, **config)
    except ModynError:
        raise
    except Exception as error:
        raise InvalidInputError(
            f"{_KEY}: {section.name}(optimizers, **config) raised {describe_error(error)}"
        ) from error
    missing = [
        name for name in ("step", "state_dict", "load_state_dict") if not callable(getattr(scheduler, name, None))
    ]
    if missing:
        raise InvalidInputError(
            f"{_KEY}.name: what {section.name!r} returned ({type(scheduler).__name__}) has no {missing[0]}(); expected "
            "step(), and state_dict() and load_state_dict(state) for checkpoints"
        )
    return cast("CustomScheduler", scheduler)


def _replaced(tree: Any, values: dict[str, int]) -> Any:
    """A config with its placeholders replaced, at any depth."""
    match tree:
        case dict():
            return {key: _replaced(item, values) for key, item in tree.items()}
        case list():
            return [_replaced(item, values) for item in tree]
        case str():
            return values.get(tree, tree)
    return tree
