"""EDM's networks and preconditionings, with the tensor names of NVlabs/edm's checkpoints."""

from disback_plugin.edm.build import Facts, build_edm, describe
from disback_plugin.edm.dhariwal_unet import DhariwalUNet
from disback_plugin.edm.labelled import LabelledSongUNet
from disback_plugin.edm.preconditioning import (
    EDMPrecond,
    Precond,
    VEPrecond,
    VPPrecond,
    iDDPMPrecond,
)
from disback_plugin.edm.song_unet import SongUNet

__all__ = [
    "DhariwalUNet",
    "EDMPrecond",
    "Facts",
    "LabelledSongUNet",
    "Precond",
    "SongUNet",
    "VEPrecond",
    "VPPrecond",
    "build_edm",
    "describe",
    "iDDPMPrecond",
]
