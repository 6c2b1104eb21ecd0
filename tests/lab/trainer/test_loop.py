"""The distillation step: what each arm trains, bit for bit."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from disback_plugin import DisBack, DisBackConfig
from disback_plugin.config import Arm
from disback_plugin.lab.trainer.loop import Distillation, Networks
from disback_plugin.lab.trainer.network import TrainedNetwork
from disback_plugin.lab.trainer.residuals import Residuals
from disback_plugin.lab.trainer.roles import attach, make_networks, make_sampler
from tests.lab.trainer.conftest import same_bits, tiny_config


def _loop(
    accelerator: Accelerator, *overrides: str, arm: Arm = "fixed", path: Path | None = None
) -> Distillation:
    config = tiny_config(*overrides)
    problem = config.problem.load()
    teacher = config.teacher.make(problem)
    networks = make_networks(config, teacher.requires_grad_(False).eval(), problem, 0, accelerator)
    sampler = make_sampler(config, problem, 0, accelerator)
    measure = Residuals(networks.student, sampler, config.distill, accelerator)
    disback = attach(config, arm, networks, path, measure)
    return Distillation(networks, config, sampler, accelerator, disback)


def _tensors(networks: Networks) -> dict[str, Tensor]:
    """Everything that training changes, copied: networks, EMA and optimizers."""
    found = {f"teacher.{k}": v.clone() for k, v in networks.teacher.state_dict().items()}
    for trained in (networks.student, networks.fake_score):
        _, groups = trained.state()
        for group, tensors in groups.items():
            found.update({f"{group}.{name}": value.clone() for name, value in tensors.items()})
    return found


def _students(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if name.startswith("student")}


def test_an_inactive_session_leaves_every_tensor_bit_identical(accelerator: Accelerator) -> None:
    loops = [_loop(accelerator), _loop(accelerator)]
    networks = loops[1].networks
    loops[1].disback = DisBack.attach(
        roles={
            "teacher": networks.teacher,
            "fake_score": networks.fake_score.network,
            "student": networks.student.network,
        },
        config=DisBackConfig(arm="fixed"),
    )
    start = _tensors(loops[0].networks)
    for step in range(6):
        without, attached = (loop.train_step(step) for loop in loops)
        assert without.fake_loss is not None
        assert attached.fake_loss is not None
        assert torch.equal(without.fake_loss, attached.fake_loss)
        assert attached.turn is not None
        assert attached.turn.stage == "teacher"
    ends = [_tensors(loop.networks) for loop in loops]
    assert same_bits(*ends)
    changed = {name for name in start if not torch.equal(start[name], ends[0][name])}
    assert any(name.startswith("student.") for name in changed)
    assert any(name.startswith("fake_score.") for name in changed)
    assert not any(name.startswith("teacher.") for name in changed)


@pytest.mark.parametrize("arm", ["disback", "warm"])
def test_recording_holds_the_student_still_and_counts_as_training(
    accelerator: Accelerator, tmp_path: Path, arm: Arm
) -> None:
    loop = _loop(accelerator, arm=arm, path=tmp_path / "path")
    start = _tensors(loop.networks)
    results = [loop.train_step(step) for step in range(6)]
    recorded = _tensors(loop.networks)
    assert same_bits(_students(start), _students(recorded))
    assert not same_bits(start, recorded)
    assert [result.student_loss for result in results] == [None] * 6
    assert [result.passes for result in results] == [4] * 6
    assert [r.entry.step for r in results if r.entry is not None] == [1, 3, 6]
    after = loop.train_step(6)
    assert after.passes == 9
    assert after.turn is not None
    assert after.turn.node == (2 if arm == "disback" else 0)
    assert not same_bits(_students(start), _students(_tensors(loop.networks)))


def test_arms_are_paired_and_part_only_at_the_first_node(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    arms: list[Arm] = ["disback", "warm"]
    loops = [_loop(accelerator, arm=arm, path=tmp_path / arm) for arm in arms]
    for step in range(6):
        for loop in loops:
            loop.train_step(step)
    recorded = [_tensors(loop.networks) for loop in loops]
    assert same_bits(*recorded)
    results = [loop.train_step(6) for loop in loops]
    assert results[0].student_loss != results[1].student_loss


def test_parts_of_a_batch_train_like_the_whole(accelerator: Accelerator) -> None:
    whole = _loop(accelerator)
    parts = _loop(accelerator, "distill.num_accumulation_steps=4")
    for step in range(4):
        for loop in (whole, parts):
            loop.train_step(step)
    first, second = (_students(_tensors(loop.networks)) for loop in (whole, parts))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-6)


def test_the_learning_rate_is_the_schedules_at_the_students_update(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    warm_up = "{kind: linear, num_warmup_steps: 3}"
    both = [f"distill.{role}_lr_schedule={warm_up}" for role in ("fake", "student")]
    loop = _loop(accelerator, *both, arm="disback", path=tmp_path / "path")
    fake, student = [], []
    for step in range(8):
        loop.train_step(step)
        fake.append(loop.networks.fake_score.optimizer.param_groups[0]["lr"])
        student.append(loop.networks.student.optimizer.param_groups[0]["lr"])
    factors = [1.0] * 6 + [1 / 4, 2 / 4]  # recording is at the full rate
    assert fake == pytest.approx([1e-3 * factor for factor in factors])
    assert student[6:] == pytest.approx(fake[6:])


def test_the_fake_score_has_a_learning_rate_of_its_own_while_recording(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    loop = _loop(accelerator, "distill.record_lr=5e-4", arm="disback", path=tmp_path / "path")
    seen = []
    for step in range(8):
        result = loop.train_step(step)
        assert result.turn is not None
        seen.append((result.turn.stage == "record", _lr_of(loop.networks.fake_score)))
    assert {lr for recording, lr in seen if recording} == {5e-4}
    assert {lr for recording, lr in seen if not recording} == {1e-3}


@pytest.mark.parametrize("schedule", ["{name: fixed, interval: 2}", "{name: adaptive, cap: 2}"])
def test_where_all_samples_are_pulled_alike_the_run_is_a_fixed_one(
    accelerator: Accelerator, tmp_path: Path, schedule: str
) -> None:
    auto = ("disback.record={num_steps: 6, auto: {}}", f"disback.schedule={schedule}")
    far = ("student.offset=[6,0]", "distill.batch_size=64")
    loop = _loop(accelerator, *far, *auto, arm="disback", path=tmp_path / "path")
    fixed = _loop(accelerator, *far)
    for step in range(4):
        result = loop.train_step(step)
        assert result.turn is not None
        assert result.turn.stage == "teacher"
        assert result.student_lr == fixed.train_step(step).student_lr == 1e-3
    assert same_bits(_tensors(fixed.networks), _tensors(loop.networks))


def test_recording_may_take_smaller_batches_and_is_counted_as_such(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    loop = _loop(accelerator, "distill.record_batch_size=2", arm="disback", path=tmp_path / "path")
    shapes: list[int] = []
    loop.networks.fake_score.raw.register_forward_pre_hook(
        lambda _, inputs: shapes.append(len(inputs[0]))
    )
    results = [loop.train_step(step) for step in range(7)]
    assert [result.passes for result in results] == [4 * 2 / 8] * 6 + [5 + 4]
    assert shapes == [2] * 6 + [8] * 2  # the student's turn asks the fake score as well


def _lr_of(trained: TrainedNetwork) -> float:
    return trained.optimizer.param_groups[0]["lr"]


def test_gradients_are_clipped_after_their_norm_is_read(accelerator: Accelerator) -> None:
    free, clipped = _loop(accelerator), _loop(accelerator, "distill.clip_grad_norm=1e-3")
    results = [loop.train_step(0) for loop in (free, clipped)]
    assert results[0].fake_grad_norm is not None
    assert results[0].fake_grad_norm == results[1].fake_grad_norm
    assert results[0].fake_grad_norm.item() > 1e-3
    # after one step of Adam with beta1 = 0, exp_avg is the gradient that was used
    for loop, expected in ((free, results[0].fake_grad_norm.item()), (clipped, 1e-3)):
        slots = loop.networks.fake_score.optimizer.optimizer.state.values()
        norm = torch.stack([slot["exp_avg"].norm() for slot in slots]).norm().item()
        assert norm == pytest.approx(expected, rel=1e-3)


def test_two_fake_updates_use_different_noise(accelerator: Accelerator) -> None:
    loop = _loop(accelerator, "distill.num_fake_updates=2", "distill.fake_lr=1e-30")
    first, _ = loop._update_fake_score(0, 0, recording=False)
    second, _ = loop._update_fake_score(0, 1, recording=False)
    assert first != second
    assert loop.train_step(1).passes == 5 + 2 * 4


def test_every_step_has_noise_of_its_own(accelerator: Accelerator) -> None:
    loop = _loop(accelerator, "distill.fake_lr=1e-30", "distill.student_lr=1e-30")  # no movement
    results = [loop.train_step(step) for step in (0, 1, 0)]
    fake, student = [r.fake_loss for r in results], [r.student_loss for r in results]
    assert fake[0] == fake[2] != fake[1]
    # at the start fake score and teacher agree, so the student's loss is 0 until one has moved
    assert student == [0.0, 0.0, 0.0]
