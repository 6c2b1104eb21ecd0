"""What only SwiftBrush has: a LoRA in its teacher, an EMA, answers that can be computed again."""

from contextlib import nullcontext

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from safetensors.torch import load_file

from disback_plugin import DegradationPath
from tests.adapters import checks
from tests.adapters.cases import cases
from tests.adapters.checks import AT, RECORD
from tests.adapters.digests import digest_tensors
from tests.adapters.runs import Runs
from tests.adapters.swiftbrush.host import ALPHA, RANK


@cases("swiftbrush")
def test_base_and_optimizer_stay(runs: Runs) -> None:
    """The base's bytes, what is saved, trained and optimized: as without DisBack, at every step."""
    for rank in runs.ranks:
        plain, *_ = runs.notes("plain", rank)
        on = runs.notes("on", rank)
        for line in on:
            for key in ("base", "saved", "trained", "optimized"):
                assert line[key] == plain[key], f"step {line['step']}: {key}"
        assert all("lora_" in name and ".default." in name for name in plain["trained"])
        assert not any("disback" in name for name in on[-1]["saved"])


@cases("swiftbrush")
def test_the_students_optimizer_waits(runs: Runs) -> None:
    """It makes no step while recording, not one with a zero gradient either."""
    for rank in runs.ranks:
        on = runs.notes("on", rank)
        assert not any(line["student_moments"] for line in on[:RECORD])
        assert all(line["student_moments"] for line in on[RECORD:])


@cases("swiftbrush")
def test_the_ema_waits(runs: Runs) -> None:
    """Its step count, and so its decay, begins where the student's training does."""
    for rank in runs.ranks:
        on = runs.notes("on", rank)
        trained = [max(0, line["step"] + 1 - RECORD) for line in on]
        assert [line["ema_steps"] for line in on] == [
            steps if "--use_ema" in runs.case.options else 0 for steps in trained
        ]


@cases("swiftbrush")
def test_the_stage_is_logged_at_every_step(runs: Runs) -> None:
    for rank in runs.ranks:
        on = runs.notes("on", rank)
        stages = [checks.stage_at(line["step"]) for line in on]
        assert [line["logged"]["disback/stage"] for line in on] == stages


@cases("swiftbrush")
def test_nodes_are_small_and_drift_away_from_the_teacher(runs: Runs) -> None:
    """A and B of the adapted layers only; the teacher is B = 0."""
    recorded = DegradationPath.open(runs.folder / "path")
    distances = [entry.distance for entry in recorded]
    assert distances == sorted(distances)
    assert distances[0] > 0
    names = recorded.read(1)
    assert {name.rsplit(".", 2)[1] for name in names} == {"lora_A", "lora_B"}


@cases("swiftbrush")
def test_outputs_are_the_nodes(runs: Runs) -> None:
    """Each answer of the real score is, bit for bit, that of a network built from the node alone.

    The teacher's are those of the plain network, without any adapter in it.
    """
    recorded = DegradationPath.open(runs.folder / "path")
    sd15 = runs.host.inputs / "sd15"
    teacher = UNet2DConditionModel.from_pretrained(sd15, subfolder="unet")
    node = UNet2DConditionModel.from_pretrained(sd15, subfolder="unet")
    node.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["to_q", "to_v"]))
    bf16 = "bf16" in runs.case.options
    for rank in runs.ranks:
        on, answers = runs.notes("on", rank), set()
        tensors = load_file(runs.folder / "on" / f"notes.{rank}.safetensors")
        assert digest_tensors(teacher.state_dict()) == on[0]["generator"], "no common start"
        for line in on:
            index, number = checks.node_at(line["step"]), 0
            for name, value in recorded.read(index).items() if index else ():
                with torch.no_grad():
                    node.get_parameter(name.replace(".weight", ".default.weight")).copy_(value)
            while (prefix := f"{line['step']}/{number}") + "/sample" in tensors:
                # clones: a file's tensors lie unaligned in memory, which changes a last bit
                given = [
                    tensors[f"{prefix}/{name}"].clone() for name in ("sample", "timestep", "embeds")
                ]
                mode = torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()
                with torch.no_grad(), mode:
                    expected = (node if index else teacher)(*given).sample.float()
                assert torch.equal(tensors[f"{prefix}/output"], expected), prefix
                answers.add(index)
                number += 1
            assert number >= 2
        assert answers == {0, *range(1, len(AT))}
