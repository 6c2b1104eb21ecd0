from tests.lab.run_folders import make_experiment

__all__ = ["make_experiment"]
