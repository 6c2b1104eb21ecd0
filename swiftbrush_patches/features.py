"""Features: the lines that hand SwiftBrush's training loop to the plugin's overlay."""

from typing import Literal

from disback_plugin.patching import (
    AddToDict,
    Assigns,
    Calls,
    Edit,
    Guard,
    Imports,
    Insert,
    Patch,
    Returns,
)
from disback_plugin.patching.shapes import Shape

FILE, MAIN, PARSE = "train_swiftbrush.py", "main", "parse_args"
UNWRAPPED = "accelerator.unwrap_model()"


def _insert(function: str, where: Literal["before", "after"], shape: Shape, code: str) -> Edit:
    return Insert(file=FILE, function=function, where=where, shape=shape, code=code)


ARGUMENTS = Patch(
    name="arguments",
    kind="feature",
    summary="--disback and its settings; what cannot work is refused before anything is loaded",
    edits=(
        _insert(
            "",
            "after",
            Imports("Accelerator"),
            "import disback_plugin.adapters.swiftbrush.overlay as disback",
        ),
        _insert(PARSE, "after", Assigns("parser"), "disback.add_arguments(parser)"),
        _insert(PARSE, "before", Returns("args"), "disback.check_arguments(parser, args)"),
    ),
)

ATTACH = Patch(
    name="attach",
    kind="feature",
    summary="the session is attached once the networks are wrapped, before a checkpoint loads",
    edits=(
        _insert(
            MAIN,
            "after",
            Calls("accelerator.prepare"),
            "disback_run = disback.Overlay(args, unet, teacher_lora)",
        ),
    ),
)

STEPS = Patch(
    name="steps",
    kind="feature",
    summary="a node is installed before, recorded after an optimizer step; on every rank",
    edits=(
        _insert(MAIN, "before", Assigns("bsz"), "disback_run.begin_step(global_step)"),
        _insert(MAIN, "before", Calls("progress_bar.update"), "disback_run.end_step(global_step)"),
        _insert(MAIN, "before", Calls("accelerator.end_training"), "disback_run.close()"),
    ),
)

REAL_SCORE = Patch(
    name="real-score",
    kind="feature",
    summary="the node answers where the teacher did: between disable_adapters and enable_adapters",
    edits=(
        _insert(
            MAIN,
            "after",
            Calls(f"{UNWRAPPED}.disable_adapters"),
            "disback_run.show_real_score()",
        ),
        _insert(
            MAIN,
            "before",
            Calls(f"{UNWRAPPED}.enable_adapters"),
            "disback_run.hide_real_score()",
        ),
    ),
)

HOLD_STUDENT = Patch(
    name="hold-student",
    kind="feature",
    summary="while recording: no backward, clipping, optimizer, scheduler or EMA step of it",
    edits=tuple(
        Guard(file=FILE, function=MAIN, shape=shape, condition="disback_run.update_student")
        for shape in (
            Calls("accelerator.backward", first="loss_vsd"),
            Calls("accelerator.clip_grad_norm_", first="unet.parameters()"),
            Calls("optimizer.step"),
            Calls("lr_scheduler.step"),
            Calls("ema_unet.step"),
        )
    ),
)

LOGGING = Patch(
    name="logging",
    kind="feature",
    summary="stage, node and distance join the losses in TensorBoard",
    edits=(
        _insert(
            MAIN,
            "before",
            Calls("accelerator.init_trackers"),
            "tracker_config = disback.loggable(tracker_config)",
        ),
        AddToDict(
            file=FILE,
            function=MAIN,
            key="train_loss_vsd",
            code="disback_run.metrics(global_step - 1)",
        ),
    ),
)

CHECKPOINTS = Patch(
    name="checkpoints",
    kind="feature",
    summary="the session's state is a small file in the checkpoints, written before the weights",
    edits=(
        _insert(MAIN, "before", Calls("accelerator.save_state"), "disback_run.save(save_path)"),
        _insert(
            MAIN,
            "after",
            Calls("accelerator.load_state"),
            "disback_run.load(os.path.join(args.output_dir, path))",
        ),
    ),
)

FEATURES = (ARGUMENTS, ATTACH, STEPS, REAL_SCORE, HOLD_STUDENT, LOGGING, CHECKPOINTS)
