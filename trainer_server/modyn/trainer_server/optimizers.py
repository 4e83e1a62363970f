"""Optimizers and learning-rate schedules of ``torch.optim`` from the ``training`` section."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from modyn.core.config.pipeline import LrSchedulerSection, OptimizerSection, ParamGroup
from modyn.core.config.problems import nearest
from modyn.core.errors import InvalidInputError, NotAvailableError
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


def _algorithm(name: str, key: str) -> Callable[..., Optimizer]:
    cls = getattr(torch.optim, name, None)
    if not (isinstance(cls, type) and issubclass(cls, Optimizer)) or cls is Optimizer:
        names = [other for other in dir(torch.optim) if isinstance(getattr(torch.optim, other), type)]
        raise InvalidInputError(
            f"{key}.algorithm: no optimizer {name!r} in torch.optim{nearest(name, names)}; "
            "expected one such as SGD, Adam or AdamW"
        )
    if cls is torch.optim.LBFGS:
        raise InvalidInputError(f"{key}.algorithm: LBFGS evaluates a batch many times, which the loop does not do")
    return cls


def _optimizer(model: nn.Module, index: int, section: OptimizerSection, owners: dict[int, str]) -> Optimizer:
    key = f"training.optimizers[{index}]"
    if section.source != "PyTorch":
        raise NotAvailableError(f"{key}.source: {section.source!r} is not in this release; use PyTorch")
    cls = _algorithm(section.algorithm, key)
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
    section: LrSchedulerSection, optimizers: dict[str, Optimizer], schedule: Schedule
) -> lr_scheduler.LRScheduler:
    """The learning-rate schedule, with the placeholders in its config replaced by the expected totals.

    Raises:
        InvalidInputError: unknown class, optimizer or option.
        NotAvailableError: a source this release does not have.
    """
    key = "training.lr_scheduler"
    if section.source != "PyTorch":
        raise NotAvailableError(f"{key}.source: {section.source!r} is not in this release; use PyTorch")
    cls = getattr(lr_scheduler, section.name, None)
    if not (isinstance(cls, type) and issubclass(cls, lr_scheduler.LRScheduler)):
        names = [name for name in dir(lr_scheduler) if name.endswith("LR") or name.startswith("Cosine")]
        raise InvalidInputError(
            f"{key}.name: no class {section.name!r} in torch.optim.lr_scheduler{nearest(section.name, names)}; "
            "expected one such as StepLR, CosineAnnealingLR or OneCycleLR"
        )
    if len(section.optimizers) != 1 or section.optimizers[0] not in optimizers:
        raise InvalidInputError(
            f"{key}.optimizers: {section.optimizers}; expected the name of one optimizer: {', '.join(optimizers)}"
        )
    totals = dict(zip(PLACEHOLDERS, (schedule.total_batches, schedule.epochs), strict=True))
    try:
        return cls(optimizers[section.optimizers[0]], **_replaced(section.config, totals))
    except (TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise InvalidInputError(f"{key}.config of {section.name}: {error}") from error


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
