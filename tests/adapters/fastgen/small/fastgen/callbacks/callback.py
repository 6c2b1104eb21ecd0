"""Callbacks: objects that the trainer calls by name, each with a place in the checkpoint."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


class Callback:
    """Does nothing at any hook; the trainer sets `config` and `trainer`."""

    config: Any
    trainer: Any

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


class CallbackDict:
    """All callbacks of a run, made from `{name: {_target_: module.Class, **arguments}}`."""

    def __init__(self, config: Any, trainer: Any) -> None:
        self._callbacks: dict[str, Callback] = {}
        for name, settings in config.trainer.callbacks.items():
            arguments = dict(settings)
            module, _, kind = arguments.pop("_target_").rpartition(".")
            callback = getattr(import_module(module), kind)(**arguments)
            callback.config, callback.trainer = config, trainer
            self._callbacks[name] = callback

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*args: Any, **kwargs: Any) -> None:
            for callback in self._callbacks.values():
                getattr(callback, name)(*args, **kwargs)

        return call

    def state_dict(self) -> dict[str, Any]:
        return {name: callback.state_dict() for name, callback in self._callbacks.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, callback in self._callbacks.items():
            if name in state:
                callback.load_state_dict(state[name])
