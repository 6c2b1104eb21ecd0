"""The walk watches its own footing: what else writes to the real score is seen and named."""

import pytest
import torch
from torch import distributed, nn

from disback_plugin import DisBack, FixedTeacher
from disback_plugin.errors import PathError, SessionError
from disback_plugin.path import TeacherReference
from disback_plugin.real_score.copying import copy_node
from disback_plugin.real_score.footing import Footing
from disback_plugin.real_score.pieces import whole_pieces
from disback_plugin.testing.ranks import start_ranks
from tests.session.common import attach, settings
from tests.toy import ToyHost, network, same, tensors_of


def one_weight(teacher):
    with torch.no_grad():
        teacher[3].weight[1, 2] += 1e-3


def reload(teacher):
    teacher.load_state_dict(network(1).state_dict())


def average(teacher):
    for value in teacher.parameters():
        value.data.lerp_(torch.ones_like(value), 0.01)


@pytest.mark.parametrize("write", [one_weight, reload, average])
@pytest.mark.parametrize(("at", "due"), [(7, "node 3, before node 2"), (11, "1, before the teac")])
def test_what_the_host_writes_to_the_teacher_on_the_way_back_is_an_error_at_the_switch(
    tmp_path, write, at, due
):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(at))
    write(host.teacher)
    with pytest.raises(SessionError, match=f"wrote to the real score, which was .*{due}.* EMA"):
        host.run(disback, range(at, 14))


def test_what_was_written_while_recording_is_an_error_at_the_first_switch(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(3))
    one_weight(host.teacher)
    match = r"which was the teacher, before node 3 was due: 1 of 9 .*first: \['3.weight'\]"
    with pytest.raises(SessionError, match=match):
        host.run(disback, range(3, 7))


def test_a_teacher_written_between_attach_and_the_first_step_is_an_error_there(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    one_weight(host.teacher)
    with pytest.raises(SessionError, match="before the first step: 1 of 9 .*load_state_dict"):
        disback.begin_step(0)
    assert list(tmp_path.iterdir()) == []


def test_swapped_roles_are_named(tmp_path):
    host = ToyHost()
    host.run(attach(host, settings(tmp_path)), range(6))  # a path to reuse
    host = ToyHost()
    host.teacher, host.fake_score = host.fake_score, host.teacher
    roles = {**host.roles, "teacher": host.fake_score, "fake_score": host.teacher}
    host.fake_optimizer = torch.optim.Adam(host.fake_score.parameters(), lr=1e-3)
    disback = DisBack.attach(roles=roles, config=settings(tmp_path, record=None))
    with pytest.raises(SessionError, match="are teacher and fake_score swapped"):
        for step in range(4):
            host.train_step(step, disback.begin_step(step).update_student)
            disback.end_step(step)


def test_swapped_roles_are_named_at_the_first_node_that_equals_the_teacher(tmp_path):
    host = ToyHost()
    swapped = {**host.roles, "teacher": host.fake_score, "fake_score": host.teacher}
    disback = DisBack.attach(roles=swapped, config=settings(tmp_path))
    with pytest.raises(PathError, match=r"equals the teacher.* fake_score swapped\?$"):
        host.run(disback, range(6))


def test_after_the_last_switch_it_is_told_at_the_end(tmp_path, caplog):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(14))
    disback.close()
    assert caplog.text == ""
    average(host.teacher)
    disback.close()
    assert "the real score is not the teacher any more, as it was left: 5 of 9" in caplog.text


def test_the_hosts_teacher_beside_the_node_is_watched_too(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path, installation="separate"))
    host.run(disback, range(9))
    one_weight(host.teacher)
    with pytest.raises(SessionError, match=r"before the teacher was due: 1 of 9 .*'3.weight'"):
        host.run(disback, range(9, 13))


def test_buffers_that_the_teacher_moves_by_itself_are_a_warning(tmp_path, caplog):
    host = ToyHost()
    host.teacher.train()  # its BatchNorm keeps statistics
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(9))
    assert "moved while it answered (1.num_batches_tracked, 1.running_mean" in caplog.text
    assert disback.installed_node == 2


def test_a_host_that_says_so_may_write(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(8))
    disback.restore_teacher()
    one_weight(host.teacher)
    assert [turn.node for turn in host.run(disback, range(8, 13))] == [2, 2, 1, 1, 0]
    assert same(tensors_of(host.teacher), tensors_of(network(1)))


def test_a_checkpoint_loaded_before_the_state_is_no_foreign_write(tmp_path):
    host = ToyHost()
    disback = attach(host, settings(tmp_path))
    host.run(disback, range(9))
    again = ToyHost()
    resumed = attach(again, settings(tmp_path))
    again.load(host)
    resumed.load_state_dict(disback.state_dict())
    assert [turn.node for turn in again.run(resumed, range(9, 13))] == [2, 1, 1, 0]


def test_a_copy_notes_what_it_leaves_and_finds_any_single_bit():
    for dtype in (torch.float32, torch.bfloat16, torch.complex64, torch.int8):
        own = {"a": torch.zeros(7, 3, dtype=dtype), "none": torch.zeros(0, 2, dtype=dtype)}
        node = {"a": torch.ones(7, 3, dtype=dtype), "none": own["none"]}
        footing = Footing()
        report = copy_node(whole_pieces(own), node, footing=footing).report()
        assert (report.changed_tensors, report.overwritten) == (1, ())
        assert footing.moved(whole_pieces(own)) == []
        own["a"].view(torch.uint8)[3, 2] ^= 1
        assert footing.moved(whole_pieces(own)) == ["a"]
        assert footing.moved(whole_pieces(own)) == []  # told once
        footing.forget()
        own["a"][0, 0] = 5
        assert footing.moved(whole_pieces(own)) == []


def test_a_switch_reads_no_tensor_more_often_than_before(monkeypatch):
    """The check is in the pass that copies: one checksum of what is found, one of what is left."""
    from disback_plugin.real_score import copying as module

    sums = []
    plain = module.bit_sum
    monkeypatch.setattr(module, "bit_sum", lambda value: sums.append(value.shape) or plain(value))
    own, footing = {"a": torch.zeros(4), "b": torch.ones(2)}, Footing()
    copy_node(whole_pieces(own), {"a": torch.ones(4), "b": torch.ones(2)}, footing=footing)
    assert sums == [(4,), (4,), (2,)]  # b did not change


def test_a_lora_base_that_trains_is_told_at_the_end(caplog):
    from disback_plugin.real_score.lora import LoRAAdapter
    from tests.real_score.lora_host import adapted, moved

    model = moved(adapted())
    installation = LoRAAdapter(model, "nearest")
    installation.install(1, installation.read_fake_score())
    strategy = FixedTeacher(installation)
    moved(model)  # the host trains its own adapter
    strategy.warn_if_overwritten()
    assert caplog.text == ""
    assert isinstance(model.first.base_layer, nn.Linear)
    with torch.no_grad():
        model.first.base_layer.weight.add_(0.1)
    strategy.warn_if_overwritten()
    assert "tensors differ (first: ['first.base_layer.weight'])" in caplog.text
    with torch.no_grad():
        model.first.base_layer.weight.add_(0.1)
    report = installation.install(0, installation.reference.tensors)
    assert report.overwritten == ("first.base_layer.weight",)  # as the node gives way to the base


class Guidance(nn.Module):
    def __init__(self):
        super().__init__()
        self.teacher, self.fake_score = network(1), network(1)


def write_to_one_shard(number, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=number, world_size=2
    )
    from torch.distributed.fsdp import FullyShardedDataParallel

    from disback_plugin.real_score.sharded import ShardedInPlace

    reference = TeacherReference.of(tensors_of(network(1)))
    root = FullyShardedDataParallel(Guidance().eval(), device_id=torch.device("cpu"))
    installation = ShardedInPlace(root, "teacher", "fake_score", "nearest", reference)
    node = {name: value + 1 for name, value in reference.tensors.items()}
    assert installation.install(1, node).overwritten == ()
    assert installation.overwritten() == []
    own = installation._pieces("teacher")["3.bias"].own
    assert bool(own.numel()) == (number == 0)  # the teacher's half of all lies on rank 0
    own.add_(1)
    report = installation.install(0, reference.tensors)
    assert report.overwritten == ("3.bias",), report  # on both ranks
    strategy = FixedTeacher(installation)
    with pytest.raises(SessionError, match=r"1 of 9 tensors differ \(first: \['3.bias'\]\)"):
        strategy.refuse_overwritten(report.overwritten, "the teacher was due")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_is_written_to_one_ranks_shard_is_an_error_on_every_rank(tmp_path):
    start_ranks(write_to_one_shard, (str(tmp_path),))
