"""The protocols of the papers, one file each; importing this registers them."""

from disback_plugin.config_base import nearest
from disback_plugin.errors import ConfigError
from disback_plugin.lab.evaluation.protocol import PROTOCOLS, Protocol
from disback_plugin.lab.evaluation.protocols import (
    adm,
    coco_256,
    coco_512,
    coco_lcm,
    dmd2_imagenet,
    edm,
)


def get_protocol(name: str) -> Protocol:
    """The registered protocol; ConfigError with the nearest name where there is none."""
    if name not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {name!r}; {nearest(name, list(PROTOCOLS))}")
    return PROTOCOLS[name]
