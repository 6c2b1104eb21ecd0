"""EDM denoisers from files: the published pickles, and what `disback convert` makes of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

from disback_plugin.errors import CheckpointError
from disback_plugin.pretrained.edm.build import build_edm
from disback_plugin.pretrained.edm.checkpoint import EDMCheckpoint, read_edm_safetensors
from disback_plugin.pretrained.edm.pickle_reader import read_edm_pickle
from disback_plugin.pretrained.edm.preconditioning import Precond
from disback_plugin.tensors import misfit


def load_edm_pickle(file: str | Path, key: str = "ema") -> Precond:
    """The denoiser under `key` of an NVlabs/edm `.pkl`; nothing of the file is run."""
    return denoiser_of(read_edm_pickle(file, key), file)


def load_edm_safetensors(file: str | Path) -> Precond:
    """The denoiser of a file that `disback convert edm-pkl` wrote."""
    return denoiser_of(read_edm_safetensors(file), file)


# of torch.nn.init, and what its functions call
_FILLING = ("kaiming_uniform_", "uniform_", "normal_", "constant_", "fill_", "zero_")


class _Unfilled(TorchFunctionMode):
    """Leaves new parameters as they are: untouched memory costs neither time nor RAM.

    The meta device would do the same, but it imports torch._dynamo, which takes seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        target = args[0] if args else given.get("tensor")  # as torch.nn.init names it
        if getattr(func, "__name__", "") in _FILLING and isinstance(target, nn.Parameter):
            return target
        return func(*args, **given)


def denoiser_of(checkpoint: EDMCheckpoint, file: str | Path) -> Precond:
    """Build, then take over the checkpoint's tensors, strictly, in float32.

    Raises CheckpointError naming `file` and the argument or the tensor that does not fit.
    """
    try:
        with _Unfilled():
            denoiser = build_edm(checkpoint.class_name, checkpoint.init_kwargs)
    except (ValueError, RuntimeError) as error:  # arguments that torch's layers do not take
        raise CheckpointError(f"{file}: {error}") from None
    due = denoiser.state_dict()
    if problem := misfit(due, checkpoint.tensors):
        raise CheckpointError(f"{file}: does not fit a {checkpoint.class_name}: {problem}")
    tensors = {name: checkpoint.tensors[name].to(value.dtype) for name, value in due.items()}
    denoiser.load_state_dict(tensors, strict=True, assign=True)
    return denoiser
