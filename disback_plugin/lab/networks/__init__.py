"""Small networks for the reference trainer; each is called as network(x, c, cond)."""

from disback_plugin.lab.networks.conditioning import Conditioning
from disback_plugin.lab.networks.mlp_generator import MLPGenerator
from disback_plugin.lab.networks.residual_mlp import ResidualMLP
from disback_plugin.lab.networks.small_unet import SmallUNet
from disback_plugin.lab.networks.song_unet import LabelledSongUNet
