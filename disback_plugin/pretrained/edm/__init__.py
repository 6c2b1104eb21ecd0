"""EDM's networks and preconditionings, with the tensor names of NVlabs/edm's checkpoints."""

from disback_plugin.pretrained.edm.build import build_edm, describe
from disback_plugin.pretrained.edm.networks import DhariwalUNet, SongUNet
from disback_plugin.pretrained.edm.preconditioning import Precond
