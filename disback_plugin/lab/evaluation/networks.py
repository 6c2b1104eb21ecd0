"""What turns images into features: Inception from its verified file, or what a user names.

Only Inception gives FID; with other features the number is named after them, as in
`Frechet distance (pixels)`.
"""

import hashlib
import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from disback_plugin.errors import ConfigError, DataError
from disback_plugin.files import read_metadata, read_tensors, sha256
from disback_plugin.lab.data.optional import needed
from disback_plugin.lab.evaluation.network_files import INCEPTION, find_file
from disback_plugin.lab.evaluation.pixels import INPUT
from disback_plugin.lab.metrics import ImageClassifier, coarse_pixels
from disback_plugin.reading import local_path, require_regular, told

POOL, SPATIAL = "pool", "spatial"
SPATIAL_BLOCK, SPATIAL_CHANNELS = "mixed_6", 7  # of sFID, as in openai/guided-diffusion


class FeatureNetwork(Protocol):
    """name and digest say which one it is; `layers`, `has_classes`: what it can give."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str | None: ...

    @property
    def layers(self) -> tuple[str, ...]: ...

    @property
    def has_classes(self) -> bool: ...

    def to(self, device: torch.device) -> Any:
        """Onto a device."""

    def features(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """(n, 3, h, w), uint8 or float32 in [0, 255] -> each layer (n, d) float32."""

    def classes(self, pool: Tensor) -> Tensor:
        """Class probabilities (n, k) of pool features (n, d)."""


class Inception:
    """A TorchScript with the interface of `inception-2015-12-05.pt` (NVlabs/stylegan2-ada-pytorch).

    `forward(images in [0, 255], return_features=True)` resizes as TensorFlow did and gives (n, d);
    `layers` is what comes after, in blocks; `output` the classes.
    """

    def __init__(self, file: Path, name: str, digest: str) -> None:
        self.name, self.digest, self.file = name, digest, file
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # TorchScript is what the file is
                self._net = torch.jit.load(str(file), map_location="cpu").eval()
        except (RuntimeError, OSError, ValueError) as error:
            raise DataError(f"{file} is no TorchScript network: {told(error)}") from None
        blocks = dict(getattr(self._net, "layers", torch.nn.Module()).named_children())
        self._blocks = blocks
        has_spatial = hasattr(blocks.get(SPATIAL_BLOCK), "conv")
        self.layers: tuple[str, ...] = (POOL, SPATIAL) if has_spatial else (POOL,)
        self.has_classes = hasattr(getattr(self._net, "output", None), "weight")

    def to(self, device: torch.device) -> "Inception":
        self._net.to(device)
        return self

    @torch.no_grad()
    def features(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        with _exact():
            resizes_itself = images.dtype == torch.uint8 and SPATIAL not in layers
            if resizes_itself or not self._blocks:
                found = {POOL: self._net(images.float(), return_features=True)}
            else:
                found = self._by_blocks(images.float(), SPATIAL in layers)
        return {name: value.flatten(1).float() for name, value in found.items()}

    def _by_blocks(self, x: Tensor, spatial: bool) -> dict[str, Tensor]:
        """What is INPUT wide already is not resized again, as clean-fid has it."""
        if x.shape[2:] != (INPUT, INPUT):
            like_tensorflow = needed(
                "torch_fidelity.interpolate_compat_tensorflow", "this layer", extra="eval"
            ).interpolate_bilinear_2d_like_tensorflow1x
            x = like_tensorflow(x, size=(INPUT, INPUT), align_corners=False)
        x, found = (x - 128) / 128, {}
        for name, block in self._blocks.items():
            if name == SPATIAL_BLOCK and spatial:
                found[SPATIAL] = block.conv(x)[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1)
            x = block(x)
        return {POOL: x, **found}

    @torch.no_grad()
    def classes(self, pool: Tensor) -> Tensor:
        """Without the bias of the last layer, as TensorFlow's inception score had it."""
        return (pool @ self._net.output.weight.to(pool).T).softmax(dim=1)


class Given:
    """Features by a function of images in [0, 255]; nothing but (n, d) is asked of it."""

    layers: tuple[str, ...] = (POOL,)
    has_classes = False

    def __init__(
        self,
        name: str,
        digest: str | None,
        function: Callable[[Tensor], Tensor],
        module: torch.nn.Module | None = None,
    ) -> None:
        self.name, self.digest, self._function, self._module = name, digest, function, module

    def to(self, device: torch.device) -> "Given":
        if self._module is not None:
            self._module.to(device)
        return self

    @torch.no_grad()
    def features(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        with _exact():
            found = self._function(images)
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(images):
            seen = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ConfigError(f"{self.name} gave {seen} for {len(images)} images, not (n, d)")
        return {POOL: found.float()}

    def classes(self, pool: Tensor) -> Tensor:
        raise NotImplementedError


def open_network(name: str, folder: Path | None, features: str | None) -> FeatureNetwork:
    """The protocol's network `name`, or what `features` names instead.

    features: pixels | classifier:FILE | torchscript:FILE | module:function. Raises DataError where
    the network's file is not there or another, ConfigError for features that are none.
    """
    if features is None:
        assert name == INCEPTION.name
        return Inception(find_file(INCEPTION, folder), name, INCEPTION.sha256)
    kind, _, rest = features.partition(":")
    if features == "pixels":
        return Given("pixels", None, lambda images: coarse_pixels(images.float() / 127.5 - 1))
    if not rest:
        raise ConfigError(
            f"--features {features}: give pixels, classifier:FILE, torchscript:FILE or "
            "module:function"
        )
    if kind in ("classifier", "torchscript"):
        file = local_path(Path(rest))
        require_regular(file, DataError)
        known = f"{kind}:{file.name}"
        if kind == "torchscript":
            return Inception(file, known, sha256(file))
        return _classifier(file, known)
    return _function(features, kind, rest)


def _classifier(file: Path, name: str) -> Given:
    """What `disback run` trains for `problem.classifier`."""
    tensors = read_tensors(file, DataError)[0]
    try:
        channels, in_channels = tensors["body.0.0.weight"].shape[:2]
        classifier = ImageClassifier(in_channels, channels, len(tensors["head.weight"]))
    except (KeyError, ValueError):
        raise DataError(f"{file} is no classifier of an image problem") from None
    classifier.load(file, f"{file} is no classifier of an image problem", "give another file")
    assert read_metadata(file, DataError)
    return Given(
        name,
        sha256(file),
        lambda images: classifier.features(images.float() / 127.5 - 1),
        classifier,
    )


def _function(name: str, module: str, attribute: str) -> Given:
    try:
        function = getattr(importlib.import_module(module), attribute)
        source = inspect.getsource(inspect.getmodule(function) or function)
    except (ImportError, AttributeError, OSError, TypeError) as error:
        raise ConfigError(f"--features {name}: {told(error)}; give MODULE:FUNCTION") from None
    inner = function if isinstance(function, torch.nn.Module) else None
    return Given(name, hashlib.sha256(source.encode()).hexdigest(), function, inner)


@contextmanager
def _exact() -> Iterator[None]:
    """Full float32, and no graph optimiser that answers differently from its third call on."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.jit.optimized_execution(False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
