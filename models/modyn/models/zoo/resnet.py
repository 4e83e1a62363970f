"""ResNet-18, ResNet-50 and ResNet-152 (He et al., "Deep residual learning for image recognition", CVPR 2016)."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt, model_validator

from modyn.core.plugins.models import MODELS, ModelPlugin

if TYPE_CHECKING:
    from modyn.models.modules.resnet import BasicBlock, Bottleneck, ResNet


class _ResNetPlugin(ModelPlugin):
    num_classes: PositiveInt = Field(1000, description="Outputs per sample.")
    in_channels: PositiveInt = Field(3, description="Channels of the images.")
    stem: Literal["imagenet", "small"] = Field(
        "imagenet",
        description="imagenet: 7x7 convolution and pooling, for about 224x224 pixels; "
        "small: 3x3 convolution without pooling, for about 32x32.",
    )
    zero_init_residual: bool = Field(False, description="Start every residual block as the identity.")
    use_pretrained: bool = Field(
        False, description="Start from torchvision's ImageNet weights (torchvision and its weight file must be there)."
    )

    @model_validator(mode="after")
    def _check_pretrained(self) -> _ResNetPlugin:
        if not self.use_pretrained:
            return self
        if self.in_channels != 3 or self.stem != "imagenet":
            raise ValueError("use_pretrained needs in_channels 3 and stem imagenet, as the weights were trained")
        if importlib.util.find_spec("torchvision") is None:
            raise ValueError("use_pretrained needs torchvision, which is not installed; install it or leave it out")
        return self

    def _build(self, block: type[BasicBlock | Bottleneck], depths: tuple[int, ...]) -> ResNet:
        from modyn.models.modules.resnet import ResNet

        module = ResNet(
            block,
            depths,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            stem=self.stem,
            zero_init_residual=self.zero_init_residual,
        )
        if self.use_pretrained:
            from modyn.models.modules.pretrained import load_pretrained

            load_pretrained(module, self.plugin_name)
        return module


@MODELS.register("ResNet18")
class ResNet18(_ResNetPlugin):
    """ResNet-18: 11.7 M parameters with 1000 classes. Parameter names are those of torchvision."""

    def build(self) -> ResNet:
        from modyn.models.modules.resnet import BasicBlock

        return self._build(BasicBlock, (2, 2, 2, 2))


@MODELS.register("ResNet50")
class ResNet50(_ResNetPlugin):
    """ResNet-50: 25.6 M parameters with 1000 classes. Parameter names are those of torchvision."""

    def build(self) -> ResNet:
        from modyn.models.modules.resnet import Bottleneck

        return self._build(Bottleneck, (3, 4, 6, 3))


@MODELS.register("ResNet152")
class ResNet152(_ResNetPlugin):
    """ResNet-152: 60.2 M parameters with 1000 classes. Parameter names are those of torchvision."""

    def build(self) -> ResNet:
        from modyn.models.modules.resnet import Bottleneck

        return self._build(Bottleneck, (3, 8, 36, 3))
