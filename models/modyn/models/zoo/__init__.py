"""Built-in models by id: one import line per plug-in. Nothing here imports torch until a model is built."""

from modyn.models.zoo import mlp, resnet, small_cnn

__all__ = ["mlp", "resnet", "small_cnn"]
