"""The settings of an experiment: teacher, student, distillation, evaluation."""
