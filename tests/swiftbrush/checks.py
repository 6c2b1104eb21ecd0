"""What must hold of SwiftBrush's runs beyond what holds of every host's."""

from contextlib import nullcontext
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from safetensors.torch import load_file

from disback_plugin import DegradationPath
from tests.hosts.checks import AT, INTERVAL, RECORD, Notes
from tests.hosts.digests import digest_tensors
from tests.swiftbrush.hosting import ALPHA, RANK


def node_at(step: int) -> int:
    """The scheduled node; 0 is the teacher."""
    walked = step - RECORD
    return 0 if walked < 0 else max(len(AT) - 1 - walked // INTERVAL, 0)


def base_and_optimizer_stay(notes: Notes, plain: Notes) -> None:
    """The base's bytes, what is saved, trained and optimized: as without DisBack, at every step."""
    for line in notes:
        for key in ("base", "saved", "trained", "optimized"):
            assert line[key] == plain[0][key], f"step {line['step']}: {key}"
    assert all("lora_" in name and ".default." in name for name in plain[0]["trained"])
    assert not any("disback" in name for name in notes[-1]["saved"])


def student_optimizer_waits(notes: Notes) -> None:
    """It makes no step while recording, not one with a zero gradient either."""
    assert not any(line["student_moments"] for line in notes[:RECORD])
    assert all(line["student_moments"] for line in notes[RECORD:])


def ema_waits(notes: Notes) -> None:
    """The EMA's step count, and so its decay, begins where the student's training does."""
    assert [line["ema_steps"] for line in notes] == [
        max(0, line["step"] + 1 - RECORD) for line in notes
    ]


def recorded_from_the_teacher(path: Path) -> None:
    """Nodes drift away from B = 0, and are small: A and B of the adapted layers only."""
    recorded = DegradationPath.open(path)
    distances = [entry.distance for entry in recorded]
    assert distances == sorted(distances)
    assert distances[0] > 0
    names = recorded.read(1)
    assert {name.rsplit(".", 2)[1] for name in names} == {"lora_A", "lora_B"}


def outputs_are_the_nodes(notes: Notes, calls: Path, path: Path, inputs: Path, bf16: bool) -> None:
    """Each answer of the real score is, bit for bit, that of a network built from the node alone.

    The teacher's are those of the plain network, without any adapter in it.
    """
    tensors, recorded = load_file(calls), DegradationPath.open(path)
    teacher = UNet2DConditionModel.from_pretrained(inputs / "sd15", subfolder="unet")
    node = UNet2DConditionModel.from_pretrained(inputs / "sd15", subfolder="unet")
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["to_q", "to_v"])
    node.add_adapter(config)
    assert digest_tensors(teacher.state_dict()) == notes[0]["generator"], "no common start"
    answers = set()
    for line in notes:
        index, number = node_at(line["step"]), 0
        for name, value in recorded.read(index).items() if index else ():
            with torch.no_grad():
                node.get_parameter(name.replace(".weight", ".default.weight")).copy_(value)
        while (prefix := f"{line['step']}/{number}") + "/sample" in tensors:
            # clones: tensors of a file lie unaligned in memory, which changes a product's last bit
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
