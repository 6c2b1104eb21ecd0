"""An experiment's settings in small: the same kinds, stages and order, on stand-ins, in seconds."""

from pathlib import Path
from typing import Any

from disback_plugin.lab.config.experiment import ExperimentConfig, parse_config
from disback_plugin.lab.smoke import standins

STEPS_ON_TEACHER = 2
MOST_NODES = 4
NUM_SAMPLES = 12  # of an evaluation: one batch, and some are left
LORA_RANK = 2
_SONG_UNET = {"channels": 8, "multipliers": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}


def small_settings(config: ExperimentConfig, folder: Path) -> ExperimentConfig:
    """`config` with every size made small; what it names is replaced by stand-ins in `folder`.

    Kept: problem, method, kinds of network, optimizers, precision, accumulation, the number of
    nodes up to four, and the order of the walk, which ends with two steps on the teacher.
    """
    data = config.model_dump(mode="json")
    _shrink_teacher(data["teacher"], folder)
    student = data["student"]
    if student.get("checkpoint") is not None:
        student["checkpoint"], student["options"] = standins.stand_in(
            student["checkpoint"], student["options"], folder / "student"
        )
    if data["lora"] is not None:
        data["lora"] |= {"rank": LORA_RANK, "alpha": LORA_RANK * config.lora_scale}
    _replace_data(data["problem"], folder)
    _shorten(config, data)
    data |= {
        "device": "cpu",
        "compile": False,
        "num_threads": 1,
        "logging": {"every": 1, "progress": False},
    }
    return parse_config(data, f"{config.name} in small")


def _shrink_teacher(teacher: dict[str, Any], folder: Path) -> None:
    if teacher["checkpoint"] is not None:
        teacher["checkpoint"], teacher["options"] = standins.stand_in(
            teacher["checkpoint"], teacher["options"], folder / "teacher"
        )
    if (teacher["network"] or {}).get("kind") == "song-unet":
        teacher["network"] |= _SONG_UNET
    if teacher["training"] is not None:
        teacher["training"] |= {"num_steps": 2, "batch_size": 4}
        teacher["training"]["lr_schedule"]["num_warmup_steps"] = 1
    teacher["num_sampling_steps"] = 2


def _replace_data(problem: dict[str, Any], folder: Path) -> None:
    if problem["kind"] == "prompts":
        own = {"column": None, "split": None, "trust_pickle": False}
        problem |= {"file": str(standins.write_prompts(folder)), **own}
    elif problem["kind"] == "latents":
        problem["lmdb"] = str(standins.write_latents(folder))
    elif problem["kind"] == "images":
        problem["lmdb"] = str(standins.write_images(folder))
        if problem["classifier"] is not None:
            tiny = {"num_epochs": 1, "channels": 4, "batch_size": 16}
            problem["classifier"] |= {**tiny, "file": str(folder / "classifier.safetensors")}


def _shorten(config: ExperimentConfig, data: dict[str, Any]) -> None:
    """One recording step a node, one step a node of the walk."""
    distill, section = data["distill"], data["disback"]
    num = min(len(config.disback.record.node_steps), MOST_NODES)
    section["record"] = {"num_steps": num, "every": 1}
    walk = {"fixed": "interval", "adaptive": "cap", "per-node": "intervals"}
    schedule = section["schedule"]
    for name in {walk[schedule["name"]]} & schedule.keys():
        schedule[name] = [1] * (num - 1) if name == "intervals" else 1
    parts = distill["num_accumulation_steps"]
    num_steps = num + num - 1 + STEPS_ON_TEACHER
    fake_updates = min(distill["num_fake_updates"], 2)
    distill |= {"num_steps": num_steps, "batch_size": 2 * parts, "num_fake_updates": fake_updates}
    if distill["record_batch_size"] is not None:
        distill["record_batch_size"] = parts
    for role in ("student", "fake"):
        distill[f"{role}_lr_schedule"]["num_warmup_steps"] = 1
    data["evaluation"] |= {
        "every": num_steps,
        "num_samples": NUM_SAMPLES,
        "num_saved": 4,
        "num_probed": min(data["evaluation"]["num_probed"], 4),
        "batch_size": 8,
    }
    kept = num_steps // 2 if config.checkpoint.keep_students else None
    data["checkpoint"] = {"every": num_steps, "keep": 1, "keep_students": kept}
