"""What stands in a state dict beside plain weights: used rightly, or refused by name at attach."""

import copy

import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

from disback_plugin import DisBack, DisBackConfig, RecordConfig
from disback_plugin.errors import InstallError, PathError, SessionError
from tests.toy import same

RECORD = RecordConfig(num_steps=2, at=(1, 2))


class Net(nn.Module):
    """A weight that is trained, and whatever a case adds."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 4)


class ExtraState(Net):
    def get_extra_state(self):
        return {"fp8": 1}

    def set_extra_state(self, state):
        pass


def with_buffer(value):
    net = Net()
    net.register_buffer("constant", value)
    return net


def with_parameter(value):
    net = Net()
    net.extra = nn.Parameter(value)
    return net


def tied():
    net = Net()
    net.other = nn.Linear(4, 4, bias=False)
    net.other.weight = net.linear.weight
    return net


def with_compiled_block():
    net = Net()
    net.linear = torch.compile(net.linear)
    return net


def channels_last():
    return with_parameter(torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last))


USED = {
    "extra state": ExtraState,
    "complex64": lambda: with_parameter(torch.randn(3, dtype=torch.complex64)),
    "a 0-d complex": lambda: with_parameter(torch.tensor(1 + 2j)),
    "zero size": lambda: with_parameter(torch.zeros(0, 3)),
    "a mask of -inf": lambda: with_buffer(torch.full((3, 3), -torch.inf).triu(1)),
    "a NaN placeholder": lambda: with_buffer(torch.full((3,), torch.nan)),
    "an expanded constant": lambda: with_buffer(torch.ones(1).expand(3)),
    "float8": lambda: with_buffer(torch.ones(5).to(torch.float8_e4m3fn)),
    "flags": lambda: with_buffer(torch.tensor([True, False, True])),
    "channels last": channels_last,
    "not contiguous": lambda: with_buffer(torch.arange(6.0).view(2, 3).t()),
    "tied weights": tied,
    "a compiled block": with_compiled_block,
}


def attach(folder, teacher, fake_score, student=None, **settings):
    config = DisBackConfig(
        path=folder / "path", record=RECORD, schedule={"name": "fixed", "interval": 1}, **settings
    )
    roles = {"teacher": teacher, "fake_score": fake_score, "student": student or nn.Linear(2, 2)}
    return DisBack.attach(roles=roles, config=config)


def state(module):
    found = module.state_dict()
    return {name: found[name].clone() for name in found if "_extra_state" not in name}


def identical(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(torch.nan_to_num(one[k].float()), torch.nan_to_num(other[k].float()))
        and one[k].dtype == other[k].dtype
        for k in one
    )


def move(module):
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.01)


def run(disback, fake_score, steps):
    turns = []
    for step in steps:
        turns.append(disback.begin_step(step))
        move(fake_score)
        disback.end_step(step)
    return turns


@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("codec", ["full", "delta", "bounded"])
@pytest.mark.parametrize("installation", ["in-place", "separate"])
@pytest.mark.parametrize("make", USED.values(), ids=USED)
def test_what_can_be_used_is_recorded_walked_and_the_teachers_own_at_the_end(
    tmp_path, caplog, make, installation, codec
):
    fake_score = make()
    teacher = copy.deepcopy(fake_score)
    before = state(teacher)
    disback = attach(tmp_path, teacher, fake_score, installation=installation, codec=codec)
    assert [turn.node for turn in run(disback, fake_score, range(2))] == [0, 0]
    assert 0 < disback.path.nodes[0].distance < disback.path.nodes[1].distance < 1
    disback.begin_step(2)
    with disback.real_score() as real:
        shown = state(real)
    name = next(name for name in before if name.endswith("weight"))
    assert torch.allclose(shown[name], before[name] + 0.01, atol=1e-4)
    assert not any(value.isnan().any() for name, value in shown.items() if "constant" not in name)
    assert run(disback, fake_score, range(2, 5))[-1].node == 0
    assert identical(state(teacher), before)
    disback.close()
    assert caplog.text == ""


@pytest.mark.parametrize("tie", [Net, tied])
def test_a_16_bit_teacher_with_tied_weights_rounds_them_once(tmp_path, tie):
    fake_score = tie()
    teacher = copy.deepcopy(fake_score).bfloat16()
    before = state(teacher)
    disback = attach(tmp_path, teacher, fake_score)
    run(disback, fake_score, range(4))
    assert same(state(teacher), before)


def test_a_teacher_made_in_inference_mode_is_written_to(tmp_path):
    fake_score = Net()
    with torch.inference_mode():
        teacher = copy.deepcopy(fake_score)
    disback = attach(tmp_path, teacher, fake_score)
    run(disback, fake_score, range(3))
    assert disback.installed_node == 1


class NoTensor(Net):
    def state_dict(self, *args, **kwargs):
        return {**super().state_dict(*args, **kwargs), "version": 3}


def partitioned():
    net = Net()
    net.linear.weight.ds_tensor = torch.zeros(4)
    return net


def quantised():
    net = Net()
    net.linear.weight = nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False)
    return net


def lazy():
    net = Net()
    net.linear = nn.LazyLinear(4)
    return net


def untied():
    net = tied()
    net.other.weight = nn.Parameter(net.linear.weight.detach().clone())
    return net


def expanded():
    return with_parameter(torch.ones(1).expand(3))


def sparse():
    return with_buffer(torch.eye(3).to_sparse())


def strange():
    return with_parameter(TwoTensor(torch.ones(2), torch.ones(2)))  # a subclass, as torchao's


REFUSED = [
    (nn.ReLU, None, r"the teacher .ReLU. has no weights: give its network"),
    (NoTensor, None, r"'version' in the teacher's state_dict\(\) is no tensor \(int\).*extra stat"),
    (lambda: Net().to("meta"), Net, "'linear.weight' of the teacher is on the meta device.*hook"),
    (Net, lambda: Net().to("meta"), "'linear.weight' of the fake score is on the meta device"),
    (strange, None, "'extra' of the teacher is a TwoTensor, no plain tensor"),
    (sparse, None, "'constant' .* is sparse or quantised"),
    (partitioned, Net, "'linear.weight' of the teacher is partitioned by DeepSpeed.*stage 2"),
    (lazy, None, "'linear.weight' of the teacher is not initialised yet"),
    (expanded, None, "'extra' of the teacher is expanded.*clone"),
    (lambda: with_parameter(torch.ones(1, dtype=torch.complex128)), None, "complex128.*complex64"),
    (lambda: with_buffer(torch.ones(2, dtype=torch.complex64).conj()), None, "a view that conjug"),
    (quantised, Net, "'linear.weight' is torch.int8 in the teacher and torch.float32 in the fake"),
    (tied, untied, "'linear.weight' and 'other.weight' are one tensor in the teacher and two"),
]


@pytest.mark.parametrize(("teacher", "fake_score", "message"), REFUSED)
def test_what_cannot_be_used_is_named_at_attach_with_what_to_do(
    tmp_path, teacher, fake_score, message
):
    with pytest.raises(InstallError, match=message):
        attach(tmp_path, teacher(), (fake_score or teacher)())
    assert list(tmp_path.iterdir()) == []


def test_a_student_that_cannot_be_watched_is_refused_and_any_dtype_or_shard_is_watched(tmp_path):
    with pytest.raises(InstallError, match="'weight' of the student is on the meta device"):
        attach(tmp_path, Net(), Net(), nn.Linear(2, 2).to("meta"))
    wide = with_parameter(torch.ones(2, dtype=torch.complex128))
    cut = partitioned()
    for number, (student, moving) in enumerate(
        [(wide, wide.extra), (cut, cut.linear.weight.ds_tensor)]
    ):
        fake_score = Net()
        disback = attach(tmp_path / str(number), Net(), fake_score, student)
        disback.begin_step(0)
        move(fake_score)
        with torch.no_grad():
            moving.add_(1)
        with pytest.raises(SessionError, match="the student changed during recording"):
            disback.end_step(0)


def test_a_divergence_beside_constants_is_still_one(tmp_path):
    for number, spoil in enumerate([torch.inf, torch.nan]):
        fake_score = with_buffer(torch.tensor([-torch.inf, torch.nan, 1.0]))
        disback = attach(tmp_path / str(number), copy.deepcopy(fake_score), fake_score)
        disback.begin_step(0)
        with torch.no_grad():
            fake_score.linear.bias[0] = spoil
        disback.end_step(0)
        with pytest.raises(PathError, match="is not finite: the fake score diverged"):
            disback.close()


def test_a_teacher_that_cannot_be_copied_is_told_of_the_other_installation(tmp_path):
    fake_score = Net()
    teacher = copy.deepcopy(fake_score)
    teacher.computed = teacher.linear.weight * 2  # a result of autograd, as old weight_norm keeps
    disback = attach(tmp_path, teacher, fake_score, installation="separate")
    run(disback, fake_score, range(2))
    with pytest.raises(InstallError, match="cannot be copied .*: use installation 'in-place'"):
        disback.begin_step(2)
