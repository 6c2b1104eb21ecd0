"""Small networks for the reference trainer; each is called as network(x, c, cond)."""

from disback_plugin.lab.networks.conditioning import Conditioning
from disback_plugin.lab.networks.mlp import MLPGenerator, ResidualMLP
from disback_plugin.lab.networks.unets import LabelledSongUNet, SmallUNet
