"""Classifier of bags of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from modyn.core.plugins.models import MODELS, ModelPlugin

if TYPE_CHECKING:
    import torch


@MODELS.register("TextClassifier")
class TextClassifier(ModelPlugin):
    """Mean of learned token embeddings, then fully connected layers; takes what the parser ``text`` makes (Joulin et
    al., "Bag of tricks for efficient text classification", arXiv:1607.01759).

    >>> import torch
    >>> inputs = {"ids": torch.tensor([[5, 7, 0]]), "mask": torch.tensor([[True, True, False]])}
    >>> TextClassifier(vocabulary_size=10, num_classes=2).build()(inputs).shape
    torch.Size([1, 2])
    """

    vocabulary_size: PositiveInt = Field(2**15, description="That of the parser.")
    dim: PositiveInt = Field(64, description="Width of the embeddings.")
    hidden: list[PositiveInt] = Field([], description="Width of each hidden layer; empty: a linear model.")
    num_classes: PositiveInt = Field(description="Outputs per sample.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Probability, after each hidden layer.")

    def build(self) -> torch.nn.Module:
        from modyn.models.modules.text_classifier import TextClassifierNet

        return TextClassifierNet(self.vocabulary_size, self.dim, self.hidden, self.num_classes, self.dropout)
