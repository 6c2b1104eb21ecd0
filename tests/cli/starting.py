"""What a command of ours imports, in a fork of a process that has imported nothing of ours."""

import sys

HEAVY = ("torch", "diffusers", "transformers", "matplotlib", "accelerate", "peft", "datasets")


def start(*words: str) -> tuple[int, list[str]]:
    """The exit code of `disback WORDS`, and which heavy packages are imported at its end."""
    from disback_plugin.cli import main

    try:
        code = main(list(words))
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, [name for name in HEAVY if name in sys.modules]
