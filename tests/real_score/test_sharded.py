"""Two gloo processes: what each holds of a node is the whole node's bits, read ahead or not."""

import pytest
import torch
from torch import distributed, nn

from disback_plugin import DegradationPath, PathNodeScheduler
from disback_plugin.path import TeacherReference
from disback_plugin.real_score import InPlace
from disback_plugin.schedule import FixedInterval
from disback_plugin.testing.ranks import start_ranks
from tests.real_score.test_installation import make_path
from tests.toy import ToyHost, network, same, tensors_of


class Guidance(nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.teacher, self.fake_score = network(1).to(dtype), network(1)


def join(number, folder):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=number, world_size=2)


def leave():
    distributed.barrier()
    distributed.destroy_process_group()


def expected_walk(path, dtype):
    """Of one process, whole and without prefetch: per step the switch and the tensors."""
    host = ToyHost(teacher_dtype=dtype)
    reference = TeacherReference.of(tensors_of(network(1)))
    installation = InPlace(host.teacher, host.fake_score, "stochastic", reference)
    strategy = PathNodeScheduler(installation, path, FixedInterval(interval=1), prefetch=False)
    return [(strategy.begin_step(step), tensors_of(host.teacher)) for step in range(3)]


def walk_fsdp(number, folder):
    join(number, folder)
    from torch.distributed.fsdp import FullyShardedDataParallel

    from disback_plugin.real_score.sharded import ShardedInPlace

    reference = TeacherReference.of(tensors_of(network(1)))
    path, seen = DegradationPath.open(f"{folder}/path", reference), {}
    for dtype in (torch.float32, torch.bfloat16):
        expected = torch.load(f"{folder}/{dtype}.pt", weights_only=False)
        for prefetch in (False, True):
            halves = Guidance(dtype).eval()
            root = FullyShardedDataParallel(
                halves, device_id=torch.device("cpu"), ignored_modules=[halves.fake_score]
            )
            installation = ShardedInPlace(root, "teacher", "fake_score", "stochastic", reference)
            schedule = FixedInterval(interval=1)
            strategy = PathNodeScheduler(installation, path, schedule, prefetch=prefetch)
            for step, (switch, tensors) in enumerate(expected):
                found = strategy.begin_step(step)
                assert found.changed_tensors == switch.changed_tensors
                assert found == seen.setdefault((dtype, step), found)  # prefetch on as off
                with FullyShardedDataParallel.summon_full_params(root, writeback=False):
                    assert same(tensors_of(root.teacher), tensors), (dtype, prefetch, step)
            strategy.close()
    leave()


def record(folder):
    """A path, and what one process sees on the way back."""
    path = make_path(folder / "path", ToyHost())
    for dtype in (torch.float32, torch.bfloat16):
        torch.save(expected_walk(path, dtype), folder / f"{dtype}.pt")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_fsdp_ranks_hold_the_nodes_bits(tmp_path):
    record(tmp_path)
    start_ranks(walk_fsdp, (str(tmp_path),))


def read_the_fake_score(number, folder):
    """Teacher and fake score lie in one flat parameter, of which the teacher's is left alone."""
    join(number, folder)
    from torch.distributed.fsdp import FullyShardedDataParallel

    from disback_plugin.real_score.sharded import ShardedInPlace

    reference = TeacherReference.of(tensors_of(network(1)))
    halves = Guidance()
    for position, value in enumerate(halves.fake_score.parameters()):
        value.data.add_(position + 1)
    expected = tensors_of(halves.fake_score)
    root = FullyShardedDataParallel(halves.eval(), device_id=torch.device("cpu"))
    installation = ShardedInPlace(root, "teacher", "fake_score", "nearest", reference)
    handle, sent, send = root._handle, [], distributed.send

    def counted(value, dst):
        sent.append(value.numel())
        send(value, dst)

    def gathers(*args, **kwargs):
        raise AssertionError("the root's unit was gathered")

    handle.unshard, distributed.send = gathers, counted
    found = installation.read_fake_score()
    distributed.send = send
    if number == 0:
        assert list(found) == list(reference.tensors)
        assert same(found, expected)
        assert sent == []
    else:
        assert found == {}
        held = [piece for piece in installation._pieces("fake_score").values() if piece.part]
        assert sum(sent) == sum(piece.own.numel() for piece in held) > 0
    leave()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_fake_score_alone_is_gathered_and_sent_once(tmp_path):
    start_ranks(read_the_fake_score, (str(tmp_path),))


class Answering(Guidance):
    """Called through its root, as FSDP wants of the units in it."""

    def forward(self, x):
        with torch.no_grad():
            real = self.teacher(x)
        return real, self.fake_score(x)


def ask_after_install(number, folder):
    """What answers after an install is the node, in whichever unit and strategy its weights lie."""
    join(number, folder)
    from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    from disback_plugin.real_score.sharded import ShardedInPlace

    x, teacher = torch.ones(2, 4), network(1).eval()
    reference = TeacherReference.of(tensors_of(teacher))
    node = {name: 2 * value for name, value in reference.tensors.items()}
    plain = teacher(x)
    teacher.load_state_dict(node)
    doubled = teacher(x)
    for strategy, policy in (
        (ShardingStrategy.FULL_SHARD, None),  # all in the root's unit
        (ShardingStrategy.SHARD_GRAD_OP, ModuleWrapPolicy({nn.Sequential})),
    ):
        root = FullyShardedDataParallel(
            Answering().eval(),
            sharding_strategy=strategy,
            auto_wrap_policy=policy,
            use_orig_params=policy is None,
            device_id=torch.device("cpu"),
        )
        installation = ShardedInPlace(root, "teacher", "fake_score", "nearest", reference)
        for before in ("nothing", "a step", "a measure"):
            installation.install(0, reference.tensors)
            if before != "nothing":
                assert torch.equal(root(x)[0], plain), (strategy, before)
                root(x)[1].sum().backward()
            if before == "a measure":  # no backward comes to free what was gathered
                with torch.no_grad():
                    root(x)
            installation.install(1, node)
            assert torch.equal(root(x)[0], doubled), (strategy, before)
            root(x)[1].sum().backward()
    leave()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_installed_node_answers_whatever_the_last_forward_left_gathered(tmp_path):
    start_ranks(ask_after_install, (str(tmp_path),))
