"""What configs of diffusers say beside the weights: used, without effect on D, or refused."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any, cast

import diffusers
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from disback_plugin.errors import CheckpointError
from disback_plugin.foreign_weights import translated
from disback_plugin.reading import shown

_USED = {
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"),
    *("rescale_betas_zero_snr", "prediction_type", "predict_epsilon", "timestep_scaling"),
    "snr_shift_scale",
}
# of the sampler alone: which timesteps it asks at, what it does with D, how it goes on from there
_OF_THE_SAMPLER = {
    *("variance_type", "clip_sample", "clip_sample_range", "set_alpha_to_one", "skip_prk_steps"),
    *("thresholding", "dynamic_thresholding_ratio", "sample_max_value", "steps_offset"),
    *("timestep_spacing", "original_inference_steps", "interpolation_type", "final_sigmas_type"),
    *("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas"),
    *("sigma_min", "sigma_max", "solver_order", "solver_type", "solver_p", "algorithm_type"),
    *("lower_order_final", "euler_at_final", "lambda_min_clipped", "disable_corrector"),
    *("predict_x0", "predictor_order", "corrector_order", "tau_func", "noise_sampler_seed"),
    *("tensor_format", "eta"),
}
# with another value they make another model; None counts as the value
_ONLY: dict[str, tuple[Any, ...]] = {
    "use_flow_sigmas": (False,),
    "flow_shift": (1.0,),
    "use_dynamic_shifting": (False,),
    "time_shift_type": ("exponential",),  # without dynamic shifting it has no effect
    "shift_terminal": (),
    "timestep_type": ("discrete",),
    "timestep_values": (),  # of the first releases
}
MAX_TIMESTEPS = 1 << 20
# a flow's: the network's answer is the velocity whatever they say; `shift` is its range
_FLOW = {"num_train_timesteps", "shift", "invert_sigmas"}
_OF_THE_FLOW_SAMPLER = {
    *("use_dynamic_shifting", "base_shift", "max_shift", "base_image_seq_len", "time_shift_type"),
    *("max_image_seq_len", "shift_terminal", "use_karras_sigmas", "use_exponential_sigmas"),
    *("use_beta_sigmas", "stochastic_sampling"),
}
_CONSISTENCY = {"num_train_timesteps", "sigma_min", "sigma_max", "sigma_data"}
_CONSISTENCY_SAMPLER = {"s_noise", "rho", "clip_denoised"}


def check_model(file: str, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError naming file and key for a setting that the model's class lacks."""
    kind = getattr(diffusers, str(config.get("_class_name")))
    parameters = inspect.signature(kind.__init__).parameters
    _check(file, config, parameters)
    for key, value in config.items():
        due = parameters[key].default if key in parameters else None
        if isinstance(value, str) and isinstance(due, int | float):  # flags among them
            raise CheckpointError(f"{file}: {key} is the text {shown(value)}, not like {due}")


def consistency_levels(file: str, config: Mapping[str, Any]) -> tuple[float, float, float]:
    """(sigma_data, sigma_min, sigma_max) of a consistency model's scheduler."""
    _check(file, config, _CONSISTENCY | _CONSISTENCY_SAMPLER)
    said = {"sigma_data": 0.5, "sigma_min": 0.002, "sigma_max": 80.0, **config}
    levels = said["sigma_data"], said["sigma_min"], said["sigma_max"]
    if any(type(level) not in (int, float) or not 0 < level < 1e9 for level in levels):
        raise CheckpointError(
            f"{file} cannot be opened as a consistency model: sigma_data, sigma_min and sigma_max "
            f"are {shown(levels)}"
        )
    return levels


def read_schedule(file: str, config: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """alphas_cumprod (T,) as the scheduler's own class has it, and the config that it took.

    In the config `prediction_type` is always there: releases before 0.10 said `predict_epsilon`.
    Raises CheckpointError for no discrete VP diffusion, and for a key that could change what the
    network's answer means and is not understood.
    """
    name = config.get("_class_name")
    kind = getattr(diffusers, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, SchedulerMixin)):
        raise CheckpointError(f"{file}: diffusers has no scheduler {name!r}")
    if "beta_schedule" not in inspect.signature(kind.__init__).parameters:
        raise CheckpointError(
            f"{file}: the {name} of this model has no alphas_cumprod: it is no discrete "
            "variance-preserving diffusion"
        )
    _check(file, config, _USED | _OF_THE_SAMPLER, _ONLY)
    num = config.get("num_train_timesteps", 1)
    if type(num) is not int or not 0 < num <= MAX_TIMESTEPS:
        raise CheckpointError(
            f"{file}: num_train_timesteps is {shown(num)}, no whole number from 1 to "
            f"{MAX_TIMESTEPS:,}"
        )
    settings = {**config, "prediction_type": _prediction_type(file, config)}
    with translated(f"{file} does not make a {name}"):
        settings.pop("predict_epsilon", None)
        scheduler = cast(Any, kind).from_config(settings)
    num, there = scheduler.config.num_train_timesteps, len(scheduler.alphas_cumprod)
    if there != num:
        raise CheckpointError(
            f"{file} contradicts itself: num_train_timesteps is {num}, and it has {there} betas"
        )
    return scheduler.alphas_cumprod, dict(scheduler.config)


def read_flow(file: str, config: Mapping[str, Any]) -> tuple[int, float]:
    """(num_timesteps, shift) of a rectified flow's scheduler; a shift by resolution counts as 1.

    FlowMatchEulerDiscreteScheduler, or one that says use_flow_sigmas, as Wan's do. Raises
    CheckpointError for another, and for a key that is not understood.
    """
    if config.get("_class_name") == "FlowMatchEulerDiscreteScheduler":
        _check(file, config, _FLOW | _OF_THE_FLOW_SAMPLER, {"invert_sigmas": (False,)})
        said = 1.0 if config.get("use_dynamic_shifting") else config.get("shift", 1.0)
    else:
        flow = {"use_flow_sigmas": (True,), "prediction_type": ("flow_prediction",)}
        if any(config.get(key) not in values for key, values in flow.items()):
            raise CheckpointError(
                f"{file}: its class is {shown(config.get('_class_name'))}, without use_flow_sigmas "
                "and flow_prediction: of these transformers only rectified flows are known"
            )
        known = (_USED | _OF_THE_SAMPLER | _OF_THE_FLOW_SAMPLER | {"flow_shift"}) - {
            "rescale_betas_zero_snr"
        }
        others = {key: values for key, values in _ONLY.items() if key not in (*flow, "flow_shift")}
        _check(file, config, known, {**others, **flow, "rescale_betas_zero_snr": (False,)})
        said = config.get("flow_shift", 1.0)
    number = config.get("num_train_timesteps", 1000)
    if type(number) is not int or type(said) not in (int, float) or not (number > 2 and said > 0):
        raise CheckpointError(
            f"{file}: num_train_timesteps and shift are {shown(number)} and {shown(said)}: no flow"
        )
    return number, float(said)


def _prediction_type(file: str, config: Mapping[str, Any]) -> str:
    epsilon, kind = config.get("predict_epsilon"), config.get("prediction_type")
    if "prediction_type" in config.get("_use_default_values", ()):
        kind = None
    if epsilon is None:
        return "epsilon" if kind is None else kind
    if type(epsilon) is not bool or (kind is not None and (kind == "epsilon") != epsilon):
        said = f"predict_epsilon is {shown(epsilon)}, prediction_type {shown(kind)}"
        raise CheckpointError(f"{file} contradicts itself: {said}")
    return kind or ("epsilon" if epsilon else "sample")


def _check(
    file: str,
    config: Mapping[str, Any],
    known: Collection[str],
    only: Mapping[str, tuple[Any, ...]] = {},
) -> None:
    for key, value in config.items():
        if key in only and value is not None and value not in only[key]:
            due = shown(only[key][0]) if only[key] else "null"
            raise CheckpointError(
                f"{file}: {key} is {shown(value)}, which makes a model of another kind; only {due} "
                "is supported"
            )
        if not (key.startswith("_") or key in known or key in only or value is None):
            raise CheckpointError(
                f"{file}: the key {shown(key)} is not known, and it could change what the network "
                f"computes (its value: {shown(value)})"
            )
