"""From what a checkpoint says, a class name and arguments, to the denoiser; and back to words."""

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, create_model
from torch import nn

from disback_plugin.config_base import StrictModel, parse_settings
from disback_plugin.diffusion import Description
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.pretrained.edm.networks import DhariwalUNet, SongUNet
from disback_plugin.pretrained.edm.preconditioning import (
    EDMPrecond,
    Precond,
    VEPrecond,
    VPPrecond,
    iDDPMPrecond,
)
from disback_plugin.pretrained.edm.unet import Labels, Size, UNet

NETWORKS: dict[str, type[UNet]] = {"SongUNet": SongUNet, "DhariwalUNet": DhariwalUNet}
# and the network that each has where the arguments name none
PRECONDITIONINGS: dict[str, tuple[type[Precond], str]] = {
    "VPPrecond": (VPPrecond, "SongUNet"),
    "VEPrecond": (VEPrecond, "SongUNet"),
    "iDDPMPrecond": (iDDPMPrecond, "DhariwalUNet"),
    "EDMPrecond": (EDMPrecond, "DhariwalUNet"),
}
Chosen = TypeVar("Chosen")


class _Arguments(StrictModel):
    """In checkpoints a number is a number: nothing is converted."""

    model_config = ConfigDict(strict=True, allow_inf_nan=True)


def build_edm(class_name: str, init_kwargs: Mapping[str, Any]) -> Precond:
    """The denoiser of NVlabs/edm's class of that name, with random weights.

    class_name: `EDMPrecond`, also as `training.networks.EDMPrecond`; init_kwargs: the class's and
    its network's arguments in one mapping, as checkpoints hold them. `use_fp16` becomes
    precision `fp16`. Under `torch.device("meta")` no memory is taken: load with assign=True.
    Raises CheckpointError naming an unknown class or argument, or a value out of range.
    """
    name = class_name.removeprefix("training.networks.")
    precond, usual = _chosen(PRECONDITIONINGS, name, "EDM preconditioning")
    given = dict(init_kwargs)
    model_type = given.pop("model_type", usual)
    network = _chosen(NETWORKS, model_type, f"model_type of {name}")
    what = f"{name} with {model_type}"
    value = _checked(what, _SHARED | _own(precond) | _own(network), given)
    channels = value["img_channels"]
    try:
        model = network(
            img_resolution=value["img_resolution"],
            in_channels=channels,
            out_channels=2 * channels if precond is iDDPMPrecond else channels,
            label_dim=value["label_dim"],
            **{key: value[key] for key in _own(network)},
        )
    except ConfigError as error:
        raise CheckpointError(f"{what}: {error}") from None
    denoiser = precond(model, **{key: value[key] for key in _own(precond)})
    denoiser.precision = "fp16" if value["use_fp16"] else None
    return denoiser


def describe(denoiser: Precond, source: str) -> Description:
    """What a denoiser is, for reports."""
    size = denoiser.img_resolution
    return Description.of(
        denoiser,
        source=source,
        architecture=denoiser.model.architecture,
        data_shape=(denoiser.img_channels, size, size),
        num_classes=denoiser.label_dim,
        parametrisation=denoiser.parametrisation,
    )


_SHARED: dict[str, Any] = {  # name: (type, default), as pydantic takes it
    "img_resolution": (Size, ...),
    "img_channels": (Size, ...),
    "label_dim": (Labels, 0),
    "use_fp16": (bool, False),
}
# which build_edm fills in itself
_FILLED = {"self", "model", "img_resolution", "in_channels", "out_channels", "label_dim"}


def _own(module: type[nn.Module]) -> dict[str, Any]:
    """The arguments that a checkpoint gives to this class, with their types and defaults."""
    return {
        name: (parameter.annotation, parameter.default)
        for name, parameter in inspect.signature(module.__init__).parameters.items()
        if name not in _FILLED
    }


def _chosen(table: Mapping[str, Chosen], name: Any, what: str) -> Chosen:
    if not isinstance(name, str) or name not in table:
        raise CheckpointError(f"unknown {what} {name!r}; known are {', '.join(table)}")
    return table[name]


def _checked(what: str, fields: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """All values, defaults filled in; CheckpointError names every wrong one."""
    schema = create_model(what, __base__=_Arguments, **fields)
    try:
        return dict(parse_settings(schema, given, what))
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
