"""Features: the lines that hand SwiftBrush's training loop to the plugin's overlay."""

from disback_plugin.patching import (
    AddToDict,
    Assigns,
    Calls,
    Guard,
    Imports,
    Insert,
    Returns,
    feature,
)
from swiftbrush_patches.repairs import ADAPTER, LOADS, MAIN, SAVES, SCRIPT, WRAPS

PARSE = "parse_args"
DRAWN = "predict_original, noise_scheduler, train_dataset, weight_dtype, "
DRAWN += "args.resolution, args.train_batch_size"
DISABLE, ENABLE = (f"accelerator.unwrap_model().{turn}_adapters" for turn in ("disable", "enable"))

FEATURES = (
    feature(
        "arguments",
        "--disback and its settings; what cannot work is refused before anything is loaded",
        Insert(
            SCRIPT, "", after=Imports("Accelerator"), code=f"import {ADAPTER}.overlay as disback"
        ),
        Insert(SCRIPT, PARSE, after=Assigns("parser"), code="disback.add_arguments(parser)"),
        Insert(SCRIPT, PARSE, before=Returns("args"), code="disback.check_arguments(parser, args)"),
    ),
    feature(
        "attach",
        "the session is attached once the networks are wrapped, before a checkpoint loads",
        Insert(
            SCRIPT,
            MAIN,
            after=WRAPS,
            code=f"disback_draws = disback.Draws({DRAWN})\n"
            "disback_run = disback.Overlay(args, unet, teacher_lora, disback_draws)",
        ),
    ),
    feature(
        "steps",
        "a node is installed before, recorded after an optimizer step; on every rank",
        Insert(SCRIPT, MAIN, before=Assigns("bsz"), code="disback_run.begin_step(global_step)"),
        Insert(
            SCRIPT,
            MAIN,
            before=Calls("progress_bar.update"),
            code="disback_run.end_step(global_step)",
        ),
        Insert(SCRIPT, MAIN, before=Calls("accelerator.end_training"), code="disback_run.close()"),
    ),
    feature(
        "real-score",
        "the node answers where the teacher did: between disable_adapters and enable_adapters",
        Insert(SCRIPT, MAIN, after=Calls(DISABLE), code="disback_run.show_real_score()"),
        Insert(SCRIPT, MAIN, before=Calls(ENABLE), code="disback_run.hide_real_score()"),
    ),
    feature(
        "hold-student",
        "while recording: no backward, clipping, optimizer, scheduler or EMA step of it",
        *(
            Guard(SCRIPT, MAIN, place, condition="disback_run.update_student")
            for place in (
                Calls("accelerator.backward", first="loss_vsd"),
                Calls("accelerator.clip_grad_norm_", first="unet.parameters()"),
                Calls("optimizer.step"),
                Calls("lr_scheduler.step"),
                Calls("ema_unet.step"),
            )
        ),
    ),
    feature(
        "logging",
        "stage, node and distance join the losses in TensorBoard",
        Insert(
            SCRIPT,
            MAIN,
            before=Calls("accelerator.init_trackers"),
            code="tracker_config = disback.loggable(tracker_config)",
        ),
        AddToDict(SCRIPT, MAIN, "train_loss_vsd", code="disback_run.metrics(global_step - 1)"),
    ),
    feature(
        "checkpoints",
        "the session's state is a small file in the checkpoints, written before the weights",
        Insert(SCRIPT, MAIN, before=SAVES, code="disback_run.save(save_path)"),
        Insert(
            SCRIPT, MAIN, after=LOADS, code="disback_run.load(os.path.join(args.output_dir, path))"
        ),
    ),
)
