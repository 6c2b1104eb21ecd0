"""Do teacher, problem and student fit each other? Found out before anything is written."""

from disback_plugin.errors import RunError
from disback_plugin.files import read_tensors
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.trainer.teacher_files import load_source
from disback_plugin.tensors import load_weights


def check_fit(config: ExperimentConfig) -> None:
    """Build all three once on the CPU; raises ConfigError, CheckpointError or RunError.

    A teacher that is a checkpoint is read once more when it is used: seconds, against a teacher
    trained for hours beside a student that does not fit it.
    """
    if config.teacher.checkpoint is not None:
        teacher, source = load_source(config.teacher)
        problem = config.problem.load(source)
    else:
        problem = config.problem.load()
        teacher = config.teacher.make(problem)
        if config.teacher.file is not None:
            load_weights(
                teacher, read_tensors(config.teacher.file, RunError)[0], str(config.teacher.file)
            )
    config.student.make(teacher, problem.data_shape, seed=0)
