"""One run of an experiment, an arm with a seed: from the initial student to the trained one."""

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from disback_plugin.config import Arm
from disback_plugin.distributed import is_main, on_main
from disback_plugin.errors import RunError
from disback_plugin.files import write_tensors
from disback_plugin.lab.trainer.batches import (
    choose_metrics,
    draw_samples,
    evaluation_noise,
    save_samples,
)
from disback_plugin.lab.trainer.checkpoint import Checkpoint, CheckpointFolder
from disback_plugin.lab.trainer.diagnostics import ScoreProbe, has_probe
from disback_plugin.lab.trainer.driver import Driver, Line, Rhythm
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.interrupt import Interrupt
from disback_plugin.lab.trainer.loop import Distillation, Networks, StepResult
from disback_plugin.lab.trainer.network import Tensors
from disback_plugin.lab.trainer.progress import Progress
from disback_plugin.lab.trainer.residuals import Residuals
from disback_plugin.lab.trainer.roles import attach, make_accelerator, make_networks, make_sampler
from disback_plugin.lab.trainer.run_folder import (
    STUDENT,
    STUDENTS,
    check_ours,
    clear_run,
    clear_temps,
    is_complete,
    locked,
    run_folder,
    run_name,
    write_run,
)
from disback_plugin.lab.trainer.sharding import gathered
from disback_plugin.lab.trainer.trackers import finish_trackers, start_trackers, track_samples
from disback_plugin.path import NodeEntry
from disback_plugin.path.pending import PendingNode

_OF_NODE = ("index", "distance", "bf16_distance", "bf16_survives", "bytes")
_UNSAVED = ("path", "checkpoints", "samples", STUDENTS, "metrics.jsonl", STUDENT, "run.json")


def run_arm(
    experiment: Experiment, arm: Arm, seed: int, interrupt: Interrupt, progress: Progress
) -> None:
    """Run, or resume, one arm with one seed on a finished teacher, unless it is complete.

    A run that was killed before its first checkpoint starts again. Raises RunError where another
    process writes it, RunInterrupted when asked to stop.
    """
    folder = run_folder(experiment.out, arm, seed)
    with locked(folder):
        if is_complete(folder):
            return
        config, accelerator = experiment.config, make_accelerator(experiment.config)
        checkpoint = CheckpointFolder(folder / "checkpoints").latest()
        accelerator.wait_for_everyone()
        places = (folder, folder / "samples", folder / STUDENTS)
        on_main(lambda: clear_temps(*places), f"clearing {folder}")
        if checkpoint is None:
            on_main(lambda: _clear(folder), f"clearing {folder}")
        on_main(lambda: write_run(config, folder, arm, seed), "writing run.json")
        job = DistillJob(experiment, arm, seed, folder, accelerator)
        rhythm = Rhythm(
            config.logging.every,
            config.evaluation.every,
            config.checkpoint,
            config.checkpoint.keep_students,
        )
        names, step = (config.name, run_name(arm, seed)), checkpoint.step if checkpoint else 0
        start_trackers(accelerator, config.logging, folder, *names, step)
        try:
            Driver(job, folder, rhythm, accelerator, interrupt, progress).run(checkpoint)
            disback = job.loop.disback
            if disback is not None and (checkpoint is None or checkpoint.step < job.num_steps):
                disback.close()
            student = student_tensors(job.loop.networks)
            on_main(lambda: write_tensors(folder / STUDENT, student), f"writing {folder / STUDENT}")
            results = (STUDENT, "metrics.jsonl")
            on_main(lambda: write_run(config, folder, arm, seed, *results), "writing run.json")
        finally:
            finish_trackers(accelerator)
            accelerator.free_memory()


def _clear(folder: Path) -> None:
    check_ours(folder, _UNSAVED)
    clear_run(folder, _UNSAVED)


class DistillJob:
    """A distillation run, as a job for the driver; the evaluator is the main process's alone."""

    def __init__(
        self, experiment: Experiment, arm: Arm, seed: int, folder: Path, accelerator: Accelerator
    ) -> None:
        config, problem = experiment.config, experiment.problem
        teacher = copy.deepcopy(experiment.teacher)
        networks = make_networks(config, teacher, problem, seed, accelerator)
        sampler = make_sampler(config, problem, seed, accelerator)
        residuals = Residuals(networks.student, sampler, config.distill, accelerator)
        session = attach(config, arm, networks, folder / "path", residuals)
        self.name = run_name(arm, seed)
        self.loop = Distillation(networks, config, sampler, accelerator, session)
        self.num_steps, self.batch_size = config.distill.num_steps, config.distill.batch_size
        self.passes: float = 0
        self.config, self.problem, self.folder = config, problem, folder
        self.accelerator, self.residuals, self._measured = accelerator, residuals, 0.0
        self._probe = (
            ScoreProbe(config, problem, sampler, accelerator)
            if has_probe(config, problem) and not config.sharding  # the main process asks alone
            else None
        )
        num, cache = config.evaluation.num_samples, experiment.teacher_folder
        self._z = evaluation_noise(seed, num, sampler.latent_shape)
        self._evaluator = problem.evaluator(num, cache, accelerator.device) if is_main() else None
        self._last: StepResult | None = None
        self._being_written: tuple[Line, NodeEntry | PendingNode] | None = None
        self._node_line: Line | None = None

    def train_step(self, step: int) -> list[Line]:
        result = self._last = self.loop.train_step(step)
        self.passes += result.passes
        self.passes += self.residuals.passes - self._measured
        self._measured = self.residuals.passes
        recording = result.turn is not None and result.turn.stage == "record"
        known = result.entry is not None or not recording  # so the node before is written by now
        lines: list[Line] = self._take_node_line() if known else []
        if result.turn is not None and result.turn.switch is not None:
            lines.append({"kind": "switch", **asdict(result.turn.switch)})
        if result.entry is not None and is_main():
            common = {"kind": "node", "step": step + 1, "passes": self.passes}
            self._being_written = common, result.entry
            if isinstance(result.entry, NodeEntry):  # the last one
                lines += self._take_node_line()
        return lines

    def _take_node_line(self) -> list[Line]:
        line, self._node_line = self._know_node_line(), None
        return [] if line is None else [line]

    def _know_node_line(self) -> Line | None:
        """Of the node that was kept last, if it is not told yet; waits until it is written."""
        if self._being_written is not None:
            (common, entry), self._being_written = self._being_written, None
            self._node_line = {**common, **{name: getattr(entry, name) for name in _OF_NODE}}
        return self._node_line

    @property
    def _node(self) -> int:
        """The node that answered at the last step; 0 is the teacher."""
        assert self._last is not None
        return 0 if self._last.turn is None else self._last.turn.node

    def diagnose(self, step: int) -> list[Line]:
        """Of the network that answered at the last step; with the floor at first."""
        if self._probe is None:
            return []
        fake_score, student = self.loop.networks.fake_score.raw, self.loop.networks.student.raw
        with self.loop.real_score() as network:
            line = self._probe(network, fake_score, student, self._teacher_beside(network))
            if step == 1 and self._node == 0:
                line["disback/mismatch_floor"] = self._probe.floor(network)
        return [{"kind": "mismatch", **line}]

    def _teacher_beside(self, real_score: nn.Module) -> nn.Module | None:
        """While a node is installed in the teacher's place: a copy of it that is the teacher."""
        if self._node == 0:
            return None
        assert self.loop.disback is not None
        teacher = copy.deepcopy(real_score)
        teacher.load_state_dict(self.loop.disback.installation.reference.tensors)
        return teacher

    def status(self) -> Line:
        last = self._last
        assert last is not None
        return {
            "stage": "teacher" if last.turn is None else last.turn.stage,
            "node": self._node,
            "fake_loss": self._mean(last.fake_loss),
            "student_loss": self._mean(last.student_loss),
            "student_lr": last.student_lr,
            "fake_grad_norm": self._mean(last.fake_grad_norm),
            "grad_norm": self._mean(last.student_grad_norm),
        }

    def evaluate(self, step: int) -> dict[str, float]:
        student = self.loop.networks.student.averaged()
        return on_main(lambda: self._evaluate(student, step), f"evaluating step {step}")

    def _evaluate(self, student: nn.Module, step: int) -> dict[str, float]:
        assert self._evaluator is not None
        chosen, device = self.config.evaluation, self.accelerator.device
        samples = draw_samples(student, self._z, self.problem, device, chosen.batch_size)
        file = self.folder / "samples" / f"step_{step:06d}.safetensors"
        save_samples(file, samples, chosen.num_saved)
        track_samples(self.accelerator, samples, step)
        return choose_metrics(self._evaluator(samples), chosen.metrics)

    def keep_student(self, step: int, seconds: float) -> None:
        cost = {"step": str(step), "seconds": repr(seconds), "passes": repr(self.passes)}
        file = self.folder / STUDENTS / f"step_{step:06d}.safetensors"
        tensors = student_tensors(self.loop.networks)

        def write() -> None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(file, tensors, cost, seal=True)

        on_main(write, f"keeping step {step}")

    def state(self) -> tuple[dict[str, Any], Tensors]:
        disback = self.loop.disback
        plain: dict[str, Any] = {
            "run": self.name,
            "disback": disback and disback.state_dict(),
            "has_samples": self.residuals.has_samples,
            "node_line": self._know_node_line(),
        }
        groups: Tensors = {}
        for trained in (self.loop.networks.student, self.loop.networks.fake_score):
            more, tensors = trained.state()
            plain.update(more)
            groups.update(tensors)
        return plain, groups

    def restore(self, checkpoint: Checkpoint) -> None:
        disback, saved = self.loop.disback, checkpoint.state["disback"]
        whose = checkpoint.state.get("run", self.name)
        if whose != self.name or (disback is None) != (saved is None):
            raise RunError(
                f"the checkpoint of step {checkpoint.step} in {self.folder} was saved by"
                f" {'another arm' if whose == self.name else whose}, not by {self.name}: put this"
                " run's own checkpoints back, or start it again in another folder"
            )
        self.loop.networks.student.restore(checkpoint)
        self.loop.networks.fake_score.restore(checkpoint)
        self._node_line = checkpoint.state.get("node_line")
        if checkpoint.state.get("has_samples"):
            self.residuals.draw_samples()
        if disback is not None:
            disback.load_state_dict(saved)
            # The node of the step before is installed again here: that is no switch of this run.
            disback.begin_step(checkpoint.step - 1)

    def _mean(self, value: Tensor | None) -> float | None:
        """Of the global batch: the mean over processes. None while the student is held still."""
        return None if value is None else float(self.accelerator.reduce(value, reduction="mean"))


def student_tensors(networks: Networks) -> dict[str, Tensor]:
    """What `student.safetensors` holds: the averaged weights as `ema.*`, the last as `raw.*`.

    Called on every process; whole on the main one.
    """
    student = networks.student
    assert student.ema is not None
    ema = {f"ema.{name}": value for name, value in student.ema.module.state_dict().items()}
    raw = {f"raw.{name}": value for name, value in student.raw.state_dict().items()}
    return gathered(ema | raw)
