"""One-step distillation with NVIDIA Model Optimizer and DisBack, on scikit-learn's digits.

The teacher is a small SD3 transformer that learns flow matching here, kept in OUT/teacher. Stopped
at any time, the same command goes on from the last checkpoint. Lines marked `DisBack` are all that
the plugin adds to a loop around Model Optimizer's losses.
"""

import argparse
from pathlib import Path

import modelopt.torch.fastgen as mtf
import torch
from diffusers import SD3Transformer2DModel
from sklearn.datasets import load_digits
from torch import Tensor, nn

from disback_plugin import DisBack, DisBackConfig, RecordConfig
from disback_plugin.lab.metrics.distances import frechet_distance

BATCH, NUM_CLASSES, SIDE = 64, 10, 8
DMD = mtf.DMDConfig(
    num_train_timesteps=1000,
    student_update_freq=2,
    sample_t_cfg=mtf.SampleTimestepConfig(time_dist_type="logitnormal"),
    ema=mtf.EMAConfig(decay=0.95),
)


def read_digits() -> tuple[Tensor, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, SIDE, SIDE)
    return images / 8 - 1, torch.tensor(labels)


def conditions(labels: Tensor) -> dict[str, Tensor]:
    """In the place of encoded prompts: one token that says which digit."""
    rows = nn.functional.one_hot(labels, NUM_CLASSES).float()
    return {"encoder_hidden_states": rows[:, None], "pooled_projections": rows}


def draw(images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    rows = torch.randint(len(images), (BATCH,))
    latents = images[rows]
    return {"latents": latents, "noise": torch.randn_like(latents), **conditions(labels[rows])}


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def make_teacher(folder: Path, num_steps: int, data: tuple[Tensor, Tensor]) -> None:
    """Flow matching: v = eps - x0 at x_t = (1 - t) x0 + t eps."""
    heads = {"num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 4}
    text = {"joint_attention_dim": NUM_CLASSES, "pooled_projection_dim": NUM_CLASSES}
    size = {"sample_size": SIDE, "pos_embed_max_size": SIDE, "caption_projection_dim": 64}
    teacher = SD3Transformer2DModel(in_channels=1, out_channels=1, **heads, **text, **size)
    optimizer = torch.optim.Adam(teacher.parameters())
    for step in range(num_steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / num_steps)
        batch = draw(*data)
        x0, eps, t = batch.pop("latents"), batch.pop("noise"), torch.randn(BATCH).sigmoid()
        x_t = torch.lerp(x0, eps, t[:, None, None, None])
        v = teacher(hidden_states=x_t, timestep=1000 * t, **batch).sample
        descend((v - (eps - x0)).square().mean(), optimizer)
    teacher.save_pretrained(folder.with_suffix(".part"))
    folder.with_suffix(".part").rename(folder)


@torch.no_grad()
def distance_to_data(student: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Frechet distance, in pixels, of one-step samples."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    t = DMD.sample_t_cfg.max_t
    when = torch.full((len(noise),), 1000 * t)
    v = student(hidden_states=t * noise, timestep=when, **conditions(labels)).sample
    return frechet_distance(t * noise - t * v, images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/modelopt_dmd"))
    parser.add_argument("--teacher-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    torch.manual_seed(0)
    data, checkpoint = read_digits(), args.out / "checkpoint.pt"
    if not (args.out / "teacher").exists():
        make_teacher(args.out / "teacher", args.teacher_steps, data)
    teacher, student = (SD3Transformer2DModel.from_pretrained(args.out / "teacher") for _ in "ts")
    pipeline = mtf.DMDPipeline(student.train(), teacher, mtf.create_fake_score(teacher), DMD)
    optimizer = torch.optim.Adam(student.parameters(), lr=5e-4)
    fake_optimizer = torch.optim.Adam(pipeline.fake_score.parameters(), lr=5e-4)
    kept = {"student": student, "fake_score": pipeline.fake_score, "average": pipeline.ema}
    kept |= {"optimizer": optimizer, "fake_optimizer": fake_optimizer}

    record = RecordConfig(num_steps=8, at=(1, 2, 4, 8))
    schedule = {"name": "fixed", "interval": 30}
    config = DisBackConfig(path=args.out / "path", record=record, schedule=schedule)  # DisBack
    disback = DisBack.attach(pipeline, adapter="modelopt", config=config)  # DisBack
    first = updates = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        first, updates = state["step"], state["updates"]
        for name in kept if updates else kept.keys() - {"average"}:  # one loaded counts as begun
            kept[name].load_state_dict(state[name])
        torch.set_rng_state(state["random"])
        disback.load_state_dict(state["disback"])  # DisBack
    print(f"step {first}: distance to the data {distance_to_data(student, *data):.2f}", flush=True)
    for step in range(first, args.steps):
        turn, batch = disback.begin_step(step), draw(*data)  # DisBack
        if turn.update_student and step % DMD.student_update_freq == 0:  # DisBack: its turn
            loss = descend(pipeline.compute_student_loss(**batch)["total"], optimizer)
            updates += 1
            pipeline.update_ema(iteration=updates)
        else:
            loss = descend(pipeline.compute_fake_score_loss(**batch)["total"], fake_optimizer)
        disback.end_step(step)  # DisBack
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}: node {turn.node}, loss {loss:.4f}", flush=True)
            state = {name: own.state_dict() for name, own in kept.items()}
            state |= {"step": step + 1, "updates": updates, "random": torch.get_rng_state()}
            torch.save({**state, "disback": disback.state_dict()}, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
    disback.close()  # DisBack
    pipeline.ema.copy_to(student)
    print(f"the averaged student: {distance_to_data(student, *data):.2f}")
    student.save_pretrained(args.out / "student")  # SD3Transformer2DModel.from_pretrained reads it


if __name__ == "__main__":
    main()
