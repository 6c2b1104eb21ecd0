"""The small host's settings, under FastGen's names."""

from types import SimpleNamespace


def create_config() -> SimpleNamespace:
    """For `train.py --config`."""
    return SimpleNamespace(
        trainer=SimpleNamespace(max_iter=10, save_ckpt_iter=100, ddp=False, callbacks={}),
        model=SimpleNamespace(student_update_freq=2, guidance_scale=None),
        log_config=SimpleNamespace(name="debug", save_path=""),
    )
