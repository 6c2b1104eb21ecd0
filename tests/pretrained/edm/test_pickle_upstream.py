"""Files that NVlabs/edm's own code writes, where a checkout is present."""

import pickle

import pytest
import torch

from disback_plugin.pretrained.edm.opening import load_edm_pickle
from disback_plugin.pretrained.edm.pickle_reader import read_edm_pickle
from tests.pretrained.edm.cases import CASES
from tests.pretrained.edm.upstream import needs_checkout, nvlabs_networks

pytestmark = needs_checkout


KINDS = ("ddpmpp", "ncsnpp", "adm")
WRITTEN = [
    *((f"{kind}-{precond}", 4) for kind in KINDS for precond in ("vp", "ve", "iddpm", "edm")),
    *(("ddpmpp-edm", 3), ("ddpmpp-edm", 5)),
]


@pytest.mark.parametrize(("name", "protocol"), WRITTEN)
def test_nvlabs_files_are_read_as_nvlabs_reads_them(tmp_path, name, protocol):
    case = CASES[name]
    file = tmp_path / "network-snapshot.pkl"
    torch.manual_seed(0)
    with nvlabs_networks() as networks:
        net = getattr(networks, case.class_name)(**case.init_kwargs)
        net = net.eval().requires_grad_(False)
        data = {"ema": net, "augment_pipe": None, "dataset_kwargs": {"path": "x"}}
        file.write_bytes(pickle.dumps(data, protocol))
    found = read_edm_pickle(file)
    due = net.state_dict()
    assert found.class_name == case.class_name
    assert found.init_kwargs == case.init_kwargs
    assert list(found.tensors) == list(due)
    for key, value in due.items():
        assert found.tensors[key].dtype is value.dtype, key
        assert torch.equal(found.tensors[key], value), key


def test_the_losses_and_the_augmentation_beside_the_network_are_passed_over(tmp_path):
    with nvlabs_networks() as networks:
        from training import augment, loss

        net = networks.EDMPrecond(8, 3, model_type="SongUNet", model_channels=8, num_blocks=1)
        data = {"ema": net, "loss_fn": loss.EDMLoss(), "augment_pipe": augment.AugmentPipe(xflip=1)}
        (tmp_path / "snapshot.pkl").write_bytes(pickle.dumps(data))
    found = load_edm_pickle(tmp_path / "snapshot.pkl")
    assert found.img_resolution == 8
    for name, value in net.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name
