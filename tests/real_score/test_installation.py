"""Installing nodes: strict, exact, counted; the teacher's bytes come back."""

import copy

import pytest
import torch
from torch import nn

from disback_plugin import DegradationPath, FixedTeacher, PathNodeScheduler
from disback_plugin.errors import InstallError
from disback_plugin.real_score import InPlace, SeparateModule
from disback_plugin.schedule import FixedInterval
from tests.toy import ToyHost, network, same, tensors_of


def moved(tensors, amount, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value.float() + amount * torch.randn(value.shape, generator=generator)
        if value.is_floating_point()
        else value
        for name, value in tensors.items()
    }


def make_path(folder, host, amounts=(0.01, 0.02, 0.03), codec="full"):
    path = DegradationPath.create(folder, tensors_of(host.teacher), codec=codec)
    for step, amount in enumerate(amounts, start=1):
        path.append(moved(tensors_of(host.teacher), amount, step), step=step)
    path.finish()
    return path


@pytest.fixture(params=[InPlace, SeparateModule])
def kind(request):
    return request.param


def walk(installation, path, interval=1):
    return PathNodeScheduler(installation, path, FixedInterval(interval=interval))


def test_the_scheduled_node_answers_at_every_step_and_the_teacher_comes_back(tmp_path, kind):
    host = ToyHost()
    original = tensors_of(host.teacher)
    path = make_path(tmp_path, host)
    strategy = walk(kind(host.teacher, host.fake_score, "stochastic"), path, interval=2)
    visited = []
    for step in range(7):
        switch = strategy.begin_step(step)
        assert strategy.begin_step(step) is None  # idempotent
        node = [2, 2, 1, 1, 0, 0, 0][step]
        assert (switch is not None) == (step in (0, 2, 4))
        visited.append(strategy.installed)
        with strategy.evaluate() as real:
            expected = path.read(node) if node else original
            assert same(tensors_of(real), {k: expected[k] for k in tensors_of(real)})
    assert visited == [2, 2, 1, 1, 0, 0, 0]
    assert same(tensors_of(host.teacher), original)


def test_switch_reports_changed_tensors_and_distance(tmp_path, kind):
    host = ToyHost()
    path = make_path(tmp_path, host)
    strategy = walk(kind(host.teacher, host.fake_score, "nearest"), path)
    switch = strategy.begin_step(0)
    floating = sum(value.is_floating_point() for value in tensors_of(host.teacher).values())
    assert (switch.node, switch.num_nodes) == (2, 3)
    assert switch.changed_tensors == floating == switch.num_tensors - 1  # all but the counter
    assert switch.distance == pytest.approx(switch.installed_distance, rel=1e-6)
    assert switch.distance == path.nodes[1].distance > 0


def test_in_place_changes_the_hosts_module_and_separate_does_not(tmp_path):
    for kind, untouched in ((InPlace, False), (SeparateModule, True)):
        host = ToyHost()
        original = tensors_of(host.teacher)
        path = make_path(tmp_path / kind.name, host)
        installation = kind(host.teacher, host.fake_score, "nearest")
        walk(installation, path).begin_step(0)
        assert same(tensors_of(host.teacher), original) == untouched


def test_separate_node_follows_the_teachers_mode_and_is_frozen(tmp_path):
    host = ToyHost()
    path = make_path(tmp_path, host)
    strategy = walk(SeparateModule(host.teacher, host.fake_score, "nearest"), path)
    strategy.begin_step(0)
    for training in (True, False):
        host.teacher.train(training)
        with strategy.evaluate() as real:
            assert real.training is training
            assert not any(parameter.requires_grad for parameter in real.parameters())


def ones_in_bfloat16(size):
    """A teacher whose weights are all 1, where one bfloat16 unit is 2^-7, and its fake score."""
    teacher, fake_score = nn.Linear(size, size).bfloat16(), nn.Linear(size, size)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.fill_(1.0)
    return teacher, fake_score


def close_nodes(folder, teacher, gaps):
    path = DegradationPath.create(folder, tensors_of(teacher))
    for step, gap in enumerate(gaps, start=1):
        node = {name: value.float() + gap for name, value in tensors_of(teacher).items()}
        path.append(node, step=step)
    return path


def test_an_installation_without_effect_is_an_error(tmp_path):
    # nodes so close that a plain cast to bfloat16 erases them: never a silent no-op
    teacher, fake_score = ones_in_bfloat16(4)
    path = close_nodes(tmp_path, teacher, (1e-4, 2e-4, 3e-4))
    installation = InPlace(teacher, fake_score, "nearest")
    strategy = walk(installation, path)
    with pytest.raises(InstallError, match="changed none of 2 tensors.*'stochastic'"):
        strategy.begin_step(0)


def test_stochastic_rounding_carries_a_close_node_into_a_bfloat16_teacher(tmp_path):
    teacher, fake_score = ones_in_bfloat16(256)
    path = close_nodes(tmp_path, teacher, (1e-3, 2e-3))
    original = tensors_of(teacher)
    strategy = walk(InPlace(teacher, fake_score, "stochastic"), path)
    strategy.begin_step(0)
    shift = (teacher.weight.detach().float() - 1).mean().item()
    assert shift == pytest.approx(1e-3, rel=0.05)  # unbiased: the mean change survives
    first = tensors_of(teacher)
    strategy.forget()
    strategy.begin_step(0)
    assert same(tensors_of(teacher), first)  # every rank and resume rounds the same way
    strategy.begin_step(1)
    assert same(tensors_of(teacher), original)


@pytest.mark.parametrize(("gap", "erased"), [(3e-3, True), (8e-3, False)])
def test_a_node_erased_by_the_cast_is_warned_about(tmp_path, caplog, gap, erased):
    teacher, fake_score = ones_in_bfloat16(16)
    path = DegradationPath.create(tmp_path, tensors_of(teacher))
    for step in (1, 2):
        node = {name: value.float() + step * gap for name, value in tensors_of(teacher).items()}
        node["bias"][0] = 1 + step * 0.0078  # one weight survives any cast
        path.append(node, step=step)
    installation = InPlace(teacher, fake_score, "nearest")
    switch = walk(installation, path).begin_step(0)
    assert ("node 1 is mostly lost to rounding" in caplog.text) == erased
    assert (switch.installed_distance < 0.5 * switch.distance) == erased
    assert (switch.rounding_error > 0.9) == erased


@pytest.mark.parametrize("rounding", ["nearest", "auto"])
def test_rounding_noise_that_leaves_the_change_in_place_is_no_loss(tmp_path, caplog, rounding):
    """The fake score's start has digits below bfloat16: they carry a close node over."""
    torch.manual_seed(0)
    fake_score = nn.Linear(512, 512)
    teacher = copy.deepcopy(fake_score).bfloat16()
    installation = InPlace(teacher, fake_score, rounding)
    path = DegradationPath.create(tmp_path, installation.reference)
    for step in (1, 2):
        start = tensors_of(fake_score)
        path.append({name: value + step * 1e-6 for name, value in start.items()}, step=step)
    switch = walk(installation, path).begin_step(0)
    assert switch.rounding_error > 10  # of the weights
    weights = [network.weight.detach() for network in (teacher, fake_score.bfloat16())]
    shift = (weights[0].double() - weights[1].double()).mean()
    assert float(shift) == pytest.approx(1e-6, rel=0.2)
    assert caplog.text == ""


def test_reinstalling_after_a_checkpoint_was_loaded_is_no_error(tmp_path, kind):
    host = ToyHost()
    path = make_path(tmp_path, host)
    strategy = walk(kind(host.teacher, host.fake_score, "nearest"), path)
    strategy.begin_step(0)
    strategy.forget()
    assert strategy.installed is None
    switch = strategy.begin_step(0)
    assert (switch.node, switch.changed_tensors) == (2, 0)


def test_fixed_teacher_never_switches_and_brings_the_teacher_back_after_a_checkpoint():
    host = ToyHost()
    original = tensors_of(host.teacher)
    strategy = FixedTeacher(InPlace(host.teacher, host.fake_score, "nearest"))
    assert [strategy.begin_step(step) for step in range(3)] == [None] * 3
    host.teacher.load_state_dict(tensors_of(network(9)))  # a checkpoint that held a node
    strategy.forget()
    assert strategy.begin_step(3).node == 0
    assert same(tensors_of(host.teacher), original)


def test_different_architectures_are_refused_with_names(kind):
    with pytest.raises(
        InstallError, match=r"different architectures.*'0.weight' has shape .*7 in all"
    ):
        kind(network(1), network(1, width=6), "nearest")
    with pytest.raises(InstallError, match=r"missing .*9 in all., unexpected .*2 in all"):
        kind(network(1), nn.Linear(4, 4), "nearest")


def test_a_node_with_other_tensors_is_refused_before_anything_is_copied(kind):
    host = ToyHost()
    installation = kind(host.teacher, host.fake_score, "nearest")
    node = moved(tensors_of(host.teacher), 0.1)
    node["3.bias"] = torch.zeros(7)
    before = tensors_of(host.teacher)
    with pytest.raises(InstallError, match=r"'3.bias' has shape \(7,\)"):
        installation.install(1, node)
    node.pop("3.bias")
    with pytest.raises(InstallError, match=r"missing \['3.bias'\]"):
        installation.install(1, node)
    assert same(tensors_of(host.teacher), before)


def test_compiled_and_parallel_wrappers_are_looked_through(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        host = ToyHost()
        wrapped = nn.parallel.DistributedDataParallel(host.fake_score)
        installation = InPlace(torch.compile(host.teacher), wrapped, "nearest")
        assert installation.teacher is host.teacher
        assert installation.fake_score is host.fake_score
        assert installation.read_fake_score().keys() == tensors_of(host.teacher).keys()
    finally:
        torch.distributed.destroy_process_group()


def test_a_state_dict_of_copies_is_refused():
    class Copying(nn.Linear):
        def state_dict(self, *args, **kwargs):
            return {name: value.clone() for name, value in super().state_dict().items()}

    with pytest.raises(InstallError, match="gives copies of its weights .2 of 2"):
        InPlace(Copying(2, 2), nn.Linear(2, 2), "nearest")


def test_a_teacher_cast_after_attach_is_refused(tmp_path, kind):
    host = ToyHost()
    path = make_path(tmp_path, host)
    installation = kind(host.teacher, host.fake_score, "nearest")
    host.teacher.bfloat16()
    strategy = walk(installation, path)
    with pytest.raises(InstallError, match=r"was torch.float32 .* is torch.bfloat16 now"):
        strategy.begin_step(0)


def test_a_path_of_one_node_has_nothing_to_walk_back(tmp_path):
    host = ToyHost()
    path = make_path(tmp_path, host, amounts=(0.01,))
    with pytest.raises(InstallError, match="has 1 node: with fewer than 2"):
        walk(InPlace(host.teacher, host.fake_score, "nearest"), path)


def test_a_fake_score_coarser_than_its_teacher_does_not_cost_the_teacher_its_bytes(tmp_path, kind):
    teacher, fake_score = nn.Linear(8, 8), nn.Linear(8, 8).bfloat16()
    with torch.no_grad():
        fake_score.load_state_dict(teacher.state_dict())
    original = tensors_of(teacher)
    installation = kind(teacher, fake_score, "nearest")
    installation.check_start()
    path = DegradationPath.create(tmp_path, installation.reference)
    for step in (1, 2):
        path.append(moved(original, 0.1 * step), step=step)
    strategy = walk(installation, path)
    for step, node in ((0, 1), (1, 0)):
        assert strategy.begin_step(step).node == node
        with strategy.evaluate() as real:
            assert same(tensors_of(real), original) == (node == 0)
