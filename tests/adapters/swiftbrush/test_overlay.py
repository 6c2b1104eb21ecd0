"""What the patched script calls, in one process, on two tiny UNets."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from disback_plugin import DegradationPath, DisBack, DisBackConfig
from disback_plugin.adapters import swiftbrush
from disback_plugin.adapters.swiftbrush import SwiftBrushHost
from disback_plugin.adapters.swiftbrush.measure import Draws
from disback_plugin.adapters.swiftbrush.overlay import (
    Overlay,
    add_arguments,
    check_arguments,
    loggable,
)
from disback_plugin.errors import AdapterError, SessionError
from tests.adapters.swiftbrush.lora_unet import (
    NUM_STEPS,
    answer,
    arguments,
    load,
    make_unets,
    move,
    real_score,
    started,
    train,
)
from tests.session.measured import APART, SAMPLES
from tests.toy import same, tensors_of


def test_off_it_does_nothing(inputs: Path, tmp_path: Path) -> None:
    unet, teacher_lora = make_unets(inputs)
    modules = len(list(teacher_lora.modules()))
    run = Overlay(arguments(None), unet, teacher_lora)
    answers = train(run, unet, teacher_lora, range(2))
    run.save(str(tmp_path))
    run.load(str(tmp_path))
    run.close()
    assert run.update_student is True
    assert run.metrics(0) == {}
    assert torch.equal(answers[0], answer(load(inputs)))
    assert len(list(teacher_lora.modules())) == modules
    assert list(tmp_path.iterdir()) == []


def test_the_node_answers_between_the_hosts_switches_and_nowhere_else(
    inputs: Path, tmp_path: Path
) -> None:
    run, unet, teacher_lora = started(inputs, tmp_path / "path")
    teacher = answer(load(inputs))
    train(run, unet, teacher_lora, range(1))
    node = answer(teacher_lora)  # the fake score after one step: node 1
    answers = train(run, unet, teacher_lora, range(1, NUM_STEPS))
    assert not torch.equal(node, teacher)
    for step, output in enumerate(answers, start=1):
        assert torch.equal(output, node if step in (3, 4) else teacher), f"step {step}"
    assert not torch.equal(answer(teacher_lora), node)  # the fake score has gone on
    teacher_lora.disable_adapters()
    assert torch.equal(answer(teacher_lora), teacher)


def test_base_lora_optimizer_and_flags_do_not_see_the_node(inputs: Path, tmp_path: Path) -> None:
    unet, teacher_lora = make_unets(inputs)
    optimizer = torch.optim.Adam(teacher_lora.parameters(), lr=1e-3)
    parameters = [(id(value), value.requires_grad) for value in teacher_lora.parameters()]
    before, random = tensors_of(teacher_lora), torch.get_rng_state()
    run = Overlay(arguments(tmp_path / "path"), unet, teacher_lora)
    train(run, unet, teacher_lora, range(3))
    moved = tensors_of(teacher_lora)
    run.begin_step(3)
    assert run.metrics(3)["disback/node"] == 1
    real_score(run, teacher_lora)
    assert same(tensors_of(teacher_lora), moved)  # names, trained LoRA and base: bit for bit
    for name, value in before.items():
        assert torch.equal(moved[name], value) == (".lora_" not in name), name
    assert [(id(value), value.requires_grad) for value in teacher_lora.parameters()] == parameters
    assert [id(value) for value in optimizer.param_groups[0]["params"]] == [
        number for number, _ in parameters
    ]
    assert teacher_lora.active_adapters() == ["default"]
    teacher_lora.save_lora_adapter(tmp_path / "saved")  # what the checkpoints hold
    assert torch.equal(torch.get_rng_state(), random)


def test_the_student_is_held_still_while_recording(inputs: Path, tmp_path: Path) -> None:
    unet, teacher_lora = make_unets(inputs)
    start = tensors_of(unet)
    run = Overlay(arguments(tmp_path / "path"), unet, teacher_lora)
    train(run, unet, teacher_lora, range(3))
    assert same(tensors_of(unet), start)
    assert [entry.step for entry in DegradationPath.open(tmp_path / "path")] == [1, 3]
    train(run, unet, teacher_lora, range(3, 4))
    assert not same(tensors_of(unet), start)


def test_accumulated_rounds_of_one_step_may_each_begin_it(inputs: Path, tmp_path: Path) -> None:
    run, _, teacher_lora = started(inputs, tmp_path / "path")
    for step in range(NUM_STEPS):
        for _ in range(3):
            run.begin_step(step)
            real_score(run, teacher_lora)
        move(teacher_lora)
        run.end_step(step)
    assert run.metrics(NUM_STEPS - 1)["disback/stage"] == 2


def test_a_resumed_session_walks_on(inputs: Path, tmp_path: Path) -> None:
    run, unet, teacher_lora = started(inputs, tmp_path / "path")
    answers = train(run, unet, teacher_lora, range(4))
    run.save(str(tmp_path / "checkpoint-4"))
    assert [file.name for file in (tmp_path / "checkpoint-4").iterdir()] == ["disback.json"]
    resumed, again, other = started(inputs, tmp_path / "path")
    resumed.load(str(tmp_path / "checkpoint-4"))
    walked = train(resumed, again, other, range(4, NUM_STEPS))
    assert torch.equal(walked[0], answers[3])
    assert torch.equal(walked[1], answer(load(inputs)))


def test_a_checkpoint_made_on_the_way_back_needs_the_flag(inputs: Path, tmp_path: Path) -> None:
    run, unet, teacher_lora = started(inputs, tmp_path / "path")
    train(run, unet, teacher_lora, range(4))
    run.save(str(tmp_path))
    off = Overlay(arguments(None), *make_unets(inputs))
    with pytest.raises(SessionError, match=r"at node 1: resume it with --disback.*disback\.json"):
        off.load(str(tmp_path))


def test_a_checkpoint_made_without_the_flag_starts_with_a_lora_that_can_learn(
    inputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unet, teacher_lora = make_unets(inputs)
    start = tensors_of(teacher_lora)
    run = Overlay(arguments(tmp_path / "path"), unet, teacher_lora)
    move(teacher_lora)  # what such a checkpoint holds
    run.load(str(tmp_path))
    run.begin_step(700)
    assert same(tensors_of(teacher_lora), start)
    assert all(value.any() for name, value in start.items() if ".lora_A." in name)
    assert "made without --disback" in caplog.text
    train(run, unet, teacher_lora, range(700, 703))
    assert len(DegradationPath.open(tmp_path / "path")) == 2


def test_a_plain_checkpoint_of_a_student_that_the_teacher_knows_keeps_its_lora(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = 0.1 * APART, SAMPLES
    monkeypatch.setattr(swiftbrush, "measure_of", lambda *_: lambda _: known)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    bare = parser.parse_args(["--disback", "--disback_path", str(tmp_path / "path")])
    unet, teacher_lora = make_unets(inputs)
    run = Overlay(bare, unet, teacher_lora, Draws(*[None] * 6))  # type: ignore[arg-type]
    move(teacher_lora)  # what such a checkpoint holds
    held = tensors_of(teacher_lora)
    run.load(str(tmp_path))
    run.begin_step(700)
    assert run.update_student
    assert same(tensors_of(teacher_lora), held)
    assert "the teacher knows the student's samples" in caplog.text
    assert "reset" not in caplog.text


def test_only_swiftbrushs_networks_are_attached_to(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host: Any = SwiftBrushHost(*make_unets(inputs))
    attach, off = DisBack.attach, DisBackConfig(arm="fixed")
    with pytest.raises(AdapterError, match=r"attaches to a SwiftBrushHost \(seen: Namespace\)"):
        attach(arguments(None), adapter="swiftbrush", config=off)
    in_place = DisBackConfig(arm="fixed", installation="in-place")
    with pytest.raises(AdapterError, match=r"installs nodes 'lora' only \(asked: 'in-place'\)"):
        attach(host, adapter="swiftbrush", config=in_place)
    monkeypatch.setattr(swiftbrush, "is_sharded", lambda module: True)
    with pytest.raises(AdapterError, match="FSDP has cut up: train SwiftBrush with DDP"):
        attach(host, adapter="swiftbrush", config=off)


def test_arguments_reach_tensorboard_as_plain_values(tmp_path: Path) -> None:
    plain = loggable(vars(arguments(tmp_path)))
    assert plain["disback_record_at"] == "[1, 3]"
    assert plain["disback_record_iters"] == 3
    assert plain["disback"] is True
    assert plain["disback_interval"] == 2
    assert plain["disback_intervals"] is None


def parse(*given: str, **hosts: Any) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    on = ["--disback", "--disback_path", "p", "--disback_record_iters", "5", "--disback_record_at"]
    args = parser.parse_args([*on, *given])
    vars(args).update(hosts)
    check_arguments(parser, args)
    return args


def test_a_schedule_longer_than_the_run_is_told(
    inputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parse("2,5", "--disback_interval", "4", max_train_steps=10)
    parse("2,5", "--disback_interval", "4", max_train_steps=None)  # epochs: not known yet
    assert caplog.text == ""
    parse("2,5", "--disback_interval", "4", max_train_steps=9)
    assert "--max_train_steps 9: the run has 9 steps, but" in caplog.text
    caplog.clear()
    args = arguments(tmp_path / "path")
    args.max_train_steps = 1
    Overlay(args, *make_unets(inputs))
    assert "--max_train_steps 1: the run has 1 step, but" in caplog.text


def test_a_node_after_the_first_step_of_a_warm_up_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    warm = {"lr_scheduler": "cosine", "lr_warmup_steps": 500}
    parse("1,5", lr_scheduler="constant", lr_warmup_steps=500)
    parse("2,5", **warm)
    parse("1,5", resume_from_checkpoint="latest", **warm)
    with pytest.raises(SystemExit):
        parse("1,5", **warm)
    assert (
        "--lr_scheduler cosine --lr_warmup_steps 500 the learning rate" in capsys.readouterr().err
    )
