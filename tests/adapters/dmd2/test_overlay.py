"""What the patched scripts call, in one process, on two linear layers in DMD2's places."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from disback_plugin import DegradationPath, DisBack, DisBackConfig, RecordConfig
from disback_plugin.adapters.dmd2 import DMD2Host, remember_teacher
from disback_plugin.adapters.dmd2.overlay import Overlay, add_arguments
from disback_plugin.errors import (
    AdapterError,
    ConfigError,
    InstallError,
    PathError,
    SessionError,
)
from tests.adapters.dmd2.linear_host import arguments, make_model, network, started, train
from tests.session.measured import APART, SAMPLES
from tests.toy import same, tensors_of


def test_off_it_does_nothing(tmp_path: Path) -> None:
    model = make_model()
    overlay = Overlay(arguments(Path()), model, "dmd2-sd")
    before = tensors_of(model)
    overlay.attach(model)
    overlay.begin_step(0)
    overlay.end_step(0)
    overlay.save(str(tmp_path))
    overlay.close()
    assert overlay.update_student is True
    assert overlay.metrics(0) == {}
    assert same(before, tensors_of(model))
    assert list(tmp_path.iterdir()) == []


def test_a_16_bit_teacher_comes_back_to_the_byte_and_nodes_are_measured_without_its_rounding(
    tmp_path: Path,
) -> None:
    overlay, model = started(tmp_path / "path", half=True)
    before = tensors_of(model.guidance_model.real_unet)
    train(overlay, model, range(3))
    path = DegradationPath.open(tmp_path / "path")
    # one step of 1e-3 on every weight; bfloat16 rounding of the teacher would add about as much
    size = torch.cat([value.flatten() for value in network().state_dict().values()]).norm()
    expected = 1e-3 * 84**0.5 / size.item()
    assert path.nodes[0].distance == pytest.approx(expected, rel=1e-3)
    train(overlay, model, range(3, 5))
    assert not same(before, tensors_of(model.guidance_model.real_unet))
    train(overlay, model, range(5, 6))
    assert same(before, tensors_of(model.guidance_model.real_unet))


def test_nodes_take_no_memory_beside_the_hosts(tmp_path: Path) -> None:
    overlay, model = started(tmp_path / "path")
    train(overlay, model, range(3))
    places = {name: value.data_ptr() for name, value in model.named_parameters()}
    train(overlay, model, range(3, 6))
    assert {name: value.data_ptr() for name, value in model.named_parameters()} == places


def test_the_teacher_survives_a_checkpoint_that_holds_a_node(tmp_path: Path) -> None:
    model: Any = make_model()
    teacher = tensors_of(model.guidance_model.real_unet)
    overlay = Overlay(arguments(tmp_path / "path"), model, "dmd2-sd")
    overlay.attach(model)
    train(overlay, model, range(4))
    overlay.save(str(tmp_path))
    held = tensors_of(model)

    resumed: Any = make_model()
    again = Overlay(
        arguments(tmp_path / "path", "--ckpt_only_path", str(tmp_path)), resumed, "dmd2-sd"
    )
    resumed.load_state_dict(held)  # as the host does: a node in the teacher's place
    assert not same(teacher, tensors_of(resumed.guidance_model.real_unet))
    again.attach(resumed)
    train(again, resumed, range(4, 6))
    assert same(teacher, tensors_of(resumed.guidance_model.real_unet))


def test_a_checkpoint_with_a_node_is_not_trained_on_without_the_flag(tmp_path: Path) -> None:
    overlay, model = started(tmp_path / "path")
    train(overlay, model, range(4))
    overlay.save(str(tmp_path))
    off = Overlay(arguments(Path(), "--ckpt_only_path", str(tmp_path)), model, "dmd2-sd")
    with pytest.raises(SessionError, match=r"its real_unet holds node 1.*Resume it with --disback"):
        off.attach(model)


def test_a_recording_is_not_gone_on_with_without_the_flag(tmp_path: Path) -> None:
    model = make_model()
    overlay = Overlay(arguments(tmp_path / "path"), model, "dmd2-sd")
    overlay.attach(model)
    train(overlay, model, range(1))
    overlay.save(str(tmp_path))
    off = Overlay(arguments(Path(), "--ckpt_only_path", str(tmp_path)), model, "dmd2-sd")
    with pytest.raises(SessionError, match=r"saved while recording.*Resume it with --disback"):
        off.attach(model)


def test_a_checkpoint_made_without_the_flag_starts_a_session(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model: Any = make_model()
    teacher = tensors_of(model.guidance_model.real_unet)
    args = arguments(tmp_path / "path", "--ckpt_only_path", str(tmp_path))
    overlay = Overlay(args, model, "dmd2-sd")
    with torch.no_grad():  # the host loads a fake score that was trained before
        for value in model.guidance_model.fake_unet.parameters():
            value += 1
    overlay.attach(model)
    overlay.begin_step(700)
    assert "made without --disback" in caplog.text
    assert "its optimizer state, where the checkpoint holds one, is not reset" in caplog.text
    assert same(teacher, tensors_of(model.guidance_model.fake_unet))
    train(overlay, model, range(700, 704))
    assert len(DegradationPath.open(tmp_path / "path")) == 2


@pytest.mark.parametrize("half", [False, True])
def test_a_node_without_its_side_file_is_refused(tmp_path: Path, half: bool) -> None:
    model: Any = make_model(half)
    args = arguments(tmp_path / "path", "--ckpt_only_path", str(tmp_path))
    overlay = Overlay(args, model, "dmd2-sd")
    with torch.no_grad():  # the host loads one tensor that is not the teacher's
        model.guidance_model.real_unet[1].bias += 1
    with pytest.raises(SessionError, match=r"no disback\.json.*not the teacher.*1 of 4 tensors"):
        overlay.attach(model)


def test_a_save_makes_its_folder_for_the_host_has_not_yet(tmp_path: Path) -> None:
    overlay, model = started(tmp_path / "path", "dmd2-edm")
    train(overlay, model, range(1))
    overlay.save(str(tmp_path / "time_1" / "checkpoint_model_000000"))
    saved = tmp_path / "time_1" / "checkpoint_model_000000"
    assert [file.name for file in saved.iterdir()] == ["disback.json"]


def test_with_both_checkpoints_the_whole_ones_side_file_counts(tmp_path: Path) -> None:
    overlay, model = started(tmp_path / "path")
    train(overlay, model, range(2))
    overlay.save(str(tmp_path / "whole"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "disback.json").write_text("never read")
    both = ("--ckpt_only_path", str(tmp_path / "weights"))
    both += ("--checkpoint_path", str(tmp_path / "whole"))
    again = Overlay(arguments(tmp_path / "path", *both), model, "dmd2-sd")
    again.attach(model)
    again.load(str(tmp_path / "whole"))  # as Trainer.load does
    train(again, model, range(2, 4))
    assert again.metrics(3)["disback/node"] == 1


def test_a_resume_with_no_step_left_does_not_warn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overlay, model = started(tmp_path / "path")
    train(overlay, model, range(6))
    overlay.save(str(tmp_path))
    again, _ = started(tmp_path / "path")
    again.load(str(tmp_path))
    again.close()
    assert "never installed a node" not in caplog.text
    stopped, model = started(tmp_path / "other")
    train(stopped, model, range(2))
    stopped.close()
    assert "never installed a node" in caplog.text


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "disback.json").write_text("{")
    args = arguments(Path(), "--ckpt_only_path", str(tmp_path))
    with pytest.raises(SessionError, match=r"disback\.json is damaged"):
        Overlay(args, make_model(), "dmd2-sd").attach(make_model())


def test_without_a_real_score_it_does_not_attach(tmp_path: Path) -> None:
    model: Any = make_model()
    host = DMD2Host(model, remember_teacher(model))
    del model.guidance_model.real_unet
    with pytest.raises(AdapterError, match="no real_unet: --gan_alone deletes it"):
        DisBack.attach(host, adapter="dmd2-sd", config=DisBackConfig(arm="fixed"))


@pytest.mark.parametrize("prefix", ["fake_unet.", "module.fake_unet."])
def test_the_published_key_layout_is_refused_never_loaded_as_a_no_op(
    tmp_path: Path, prefix: str
) -> None:
    """The published DisBack loads its nodes under these keys non-strictly: nothing matches."""
    overlay, model = started(tmp_path / "path")
    train(overlay, model, range(3))
    host = DMD2Host(model, remember_teacher(make_model()))
    config = DisBackConfig(path=tmp_path / "path")
    installation = DisBack.attach(host, adapter="dmd2-sd", config=config).installation
    node = {f"{prefix}{name}": value + 1 for name, value in network().state_dict().items()}
    before = tensors_of(model)
    with pytest.raises(InstallError, match=rf"missing \['0\.bias.*unexpected \['{prefix}0\.bias"):
        installation.install(1, node)
    with pytest.raises(PathError, match="tensors do not match: missing"):
        DegradationPath.create(tmp_path / "other", host.teacher).append(node, 1)
    assert same(before, tensors_of(model))


def bare(path: Path, *more: str) -> argparse.Namespace:
    """Nothing but the folder is said."""
    parser = argparse.ArgumentParser()
    for name in ("ckpt_only_path", "checkpoint_path"):
        parser.add_argument(f"--{name}")
    add_arguments(parser)
    return parser.parse_args(["--disback", "--disback_path", str(path), *more])


def test_a_resumed_run_goes_on_as_it_was_saved_where_no_flag_says(tmp_path: Path) -> None:
    """Also where that was by another default: a listed recording, the schedule `fixed`."""
    overlay, model = started(tmp_path / "path")
    train(overlay, model, range(4))
    overlay.save(str(tmp_path))
    resumed: Any = make_model()
    teacher = tensors_of(resumed.guidance_model.real_unet)
    again = Overlay(bare(tmp_path / "path"), resumed, "dmd2-sd")
    assert again.config is not None
    assert (again.config.record, again.config.schedule.num_steps(2)) == (None, 1000)
    resumed.load_state_dict(tensors_of(model))  # as the host does: a node in the teacher's place
    again.attach(resumed)
    again.load(str(tmp_path))
    assert again.config.record == RecordConfig(num_steps=3, at=(1, 3))
    train(again, resumed, range(4, 6))
    assert again.metrics(5)["disback/stage"] == 2  # after 2 steps on node 1, not 1,000
    assert same(teacher, tensors_of(resumed.guidance_model.real_unet))
    other_model = make_model()
    other = Overlay(bare(tmp_path / "path", "--disback_interval", "9"), other_model, "dmd2-sd")
    other.attach(other_model)
    with pytest.raises(SessionError, match="made with other settings"):
        other.load(str(tmp_path))


def test_a_script_that_gives_no_measure_is_told_to_be_patched_again(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Apply them again.*or say what to record"):
        Overlay(bare(tmp_path / "path"), make_model(), "dmd2-sd").attach(make_model())


def test_a_plain_checkpoint_of_a_student_that_the_teacher_knows_is_resumed_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its fake score is not reset: no path is recorded, and the host's run goes on."""
    monkeypatch.setattr(
        "disback_plugin.adapters.dmd2.sd_measure", lambda *_: lambda _: (0.1 * APART, SAMPLES)
    )
    models: list[Any] = [make_model(), make_model()]
    resume = ("--ckpt_only_path", str(tmp_path))
    args = arguments(Path(), *resume), bare(tmp_path / "path", *resume)
    for model, given in zip(models, args, strict=True):
        overlay = Overlay(given, model, "dmd2-sd")
        with torch.no_grad():  # the host loads a fake score that was trained before
            for value in model.guidance_model.fake_unet.parameters():
                value += 1
        overlay.attach(model)
        train(overlay, model, range(700, 703))
    assert same(*(tensors_of(model) for model in models))
    assert "the teacher knows the student's samples" in caplog.text
    assert "reset" not in caplog.text
