from tests.lab.trainer.conftest import fresh_accelerate, no_fsync

__all__ = ["fresh_accelerate", "no_fsync"]
