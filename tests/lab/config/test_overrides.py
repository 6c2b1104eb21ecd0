import pytest

from disback_plugin.lab.config.experiment import apply_overrides


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("distill.student_lr=1e-4", ("distill", "student_lr"), 1e-4),
        ("distill.student_lr=2.5E-3", ("distill", "student_lr"), 2.5e-3),
        ("distill.clip_grad_norm=null", ("distill", "clip_grad_norm"), None),
        ("disback.record.at=[2, 4]", ("disback", "record", "at"), [2, 4]),
        ("logging.wandb.mode=offline", ("logging", "wandb", "mode"), "offline"),
        ("name=a=b", ("name",), "a=b"),
    ],
)
def test_overrides_are_yaml_values_at_dotted_keys(
    override: str, path: tuple[str, ...], value: object
) -> None:
    data = {"logging": {"wandb": None}, "distill": {"batch_size": 3}}
    result = apply_overrides(data, [override])
    for key in path:
        result = result[key]
    assert result == value
    assert data == {"logging": {"wandb": None}, "distill": {"batch_size": 3}}
