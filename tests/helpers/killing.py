"""Trainings whose process is killed in the middle, at a batch that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helpers.code import CodeRoot

NETWORK = """
    import os
    import pathlib
    import signal

    import torch
    from torch import nn


    class Net(nn.Module):
        '''The i-th process that trains is killed in its forward pass number kills[i] (from 0).'''

        def __init__(self, marks, kills, classes=3):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))
            self.head = nn.Linear(8, classes)
            self._marks, self._kills, self._calls = pathlib.Path(marks), kills, 0

        def forward(self, x):
            if self.training and torch.is_grad_enabled():
                process = len(list(self._marks.glob("*")))
                if process < len(self._kills) and self._calls == self._kills[process]:
                    (self._marks / str(process)).touch()
                    other = self._marks.with_name("other.py")
                    if other.exists():
                        os.replace(other, __file__)
                    os.kill(os.getpid(), signal.SIGKILL)
                self._calls += 1
            return self.head(self.body(x))
"""


def killed_network(code_root: CodeRoot, marks: Path, *kills: int) -> dict[str, Any]:
    """A ``model`` section: 4 inputs, 3 classes, dropout and batch statistics.

    If there is a file ``other.py`` beside ``marks``, it takes the place of the network's own code when that is killed.

    Args:
        marks: an empty folder, in which each killed process leaves a file.
        kills: how many batches each process trains before it is killed.
    """
    code_root.write("killed.py", NETWORK)
    marks.mkdir(exist_ok=True)
    return {"id": "killed:Net", "config": {"marks": str(marks), "kills": list(kills)}}
