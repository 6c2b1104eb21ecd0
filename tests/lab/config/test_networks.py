import pytest
import torch

from disback_plugin.errors import DisBackError
from disback_plugin.lab.config.networks import (
    ResidualMLPConfig,
    ScaledDenoiserConfig,
    SmallUNetConfig,
    SongUNetConfig,
    make_teacher,
)
from disback_plugin.lab.networks import LabelledSongUNet
from tests.lab.trainer.conftest import same_bits

EDM = ScaledDenoiserConfig(kind="edm")
MLP = ResidualMLPConfig(hidden=8, num_blocks=1)


def test_weights_depend_on_the_seed_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (make_teacher(EDM, MLP, (2,), 0, s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same_bits(first.state_dict(), again.state_dict())
    assert not same_bits(first.state_dict(), other.state_dict())


@pytest.mark.parametrize("conditional", [False, True])
def test_networks_know_labels_only_where_asked(conditional: bool) -> None:
    network = SmallUNetConfig(channels=8, multipliers=(1,), attention=False)
    teacher = make_teacher(EDM, network, (1, 8, 8), 10 if conditional else 0, seed=0)
    x, sigma = torch.randn(2, 1, 8, 8), torch.ones(2)
    assert teacher(x, sigma).shape == x.shape
    if conditional:
        zeros, sevens = teacher(x, sigma, torch.tensor([0, 0])), torch.tensor([7, 7])
        assert not torch.equal(zeros, teacher(x, sigma, sevens))
    else:
        with pytest.raises(DisBackError, match="num_classes=0"):
            teacher(x, sigma, torch.tensor([0, 0]))


def test_a_song_unet_is_built_as_the_settings_say() -> None:
    config = SongUNetConfig(channels=8, multipliers=(1, 2), num_blocks=2, attn_resolutions=(4,))
    network = make_teacher(EDM, config, (3, 8, 8), num_classes=2, seed=0).network
    assert isinstance(network, LabelledSongUNet)
    assert (network.num_classes, network.unet.img_resolution) == (2, 8)
    blocks = [name for name in network.unet.enc if "block" in name]
    assert blocks == ["8x8_block0", "8x8_block1", "4x4_block0", "4x4_block1"]
    assert hasattr(network.unet.enc["4x4_block0"], "qkv")
    assert not hasattr(network.unet.enc["8x8_block0"], "qkv")
