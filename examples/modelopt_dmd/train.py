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
from digits import descend, distance_to_data, draw, make_teacher, read_digits

from disback_plugin import DisBack, DisBackConfig

DMD = mtf.DMDConfig(
    num_train_timesteps=1000,
    student_update_freq=2,
    sample_t_cfg=mtf.SampleTimestepConfig(time_dist_type="logitnormal"),
    ema=mtf.EMAConfig(decay=0.95),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/modelopt_dmd"))
    parser.add_argument("--teacher-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--save-every", type=int, default=50)
    args = parser.parse_args()
    data, checkpoint = read_digits(), args.out / "checkpoint.pt"
    if not (args.out / "teacher").exists():
        make_teacher(args.out / "teacher", args.teacher_steps, data)
    torch.manual_seed(0)
    teacher, student = (SD3Transformer2DModel.from_pretrained(args.out / "teacher") for _ in "ts")
    pipeline = mtf.DMDPipeline(student.train(), teacher, mtf.create_fake_score(teacher), DMD)
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-4, betas=(0.0, 0.99))
    fake_optimizer = torch.optim.Adam(pipeline.fake_score.parameters(), lr=1e-3, betas=(0.0, 0.99))
    kept = {"student": student, "fake_score": pipeline.fake_score, "average": pipeline.ema}
    kept |= {"optimizer": optimizer, "fake_optimizer": fake_optimizer}
    record, schedule = {"num_steps": 8, "at": [1, 2, 4, 8]}, {"name": "fixed", "interval": 30}
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
            descend(pipeline.compute_student_loss(**batch)["total"], optimizer)
            updates += 1
            pipeline.update_ema(iteration=updates)
        else:
            descend(pipeline.compute_fake_score_loss(**batch)["total"], fake_optimizer)
        disback.end_step(step)  # DisBack
        if (step + 1) % args.save_every == 0:
            distance = distance_to_data(student, *data)
            print(f"step {step + 1}: node {turn.node}, distance {distance:.2f}", flush=True)
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
