"""Repairs: what keeps DMD2 from starting, saving or resuming on current libraries."""

from disback_plugin.patching import (
    AddKeyword,
    Calls,
    Guard,
    Imports,
    Insert,
    Patch,
    ReplaceCall,
    ReplaceDictValue,
    ReplaceKeyword,
)

SD, EDM, UTILS = "main/train_sd.py", "main/edm/train_edm.py", "main/utils.py"
GUIDANCE, UNIFIED = "main/sd_guidance.py", "main/sd_unified_model.py"
INIT, TRAIN, SAVE, LOAD = "Trainer.__init__", "Trainer.train", "Trainer.save", "Trainer.load"

DATALOADER_CONFIG = Patch(
    name="dataloader-config",
    kind="repair",
    summary="Accelerator takes dispatch_batches inside a DataLoaderConfiguration (TypeError)",
    edits=(
        Insert(
            file=SD,
            function="",
            shape=Imports("Accelerator"),
            where="after",
            code="from accelerate import DataLoaderConfiguration",
        ),
        ReplaceKeyword(
            file=SD,
            function=INIT,
            call="Accelerator",
            keyword="dispatch_batches",
            new_keyword="dataloader_config",
            code="DataLoaderConfiguration(dispatch_batches=False)",
        ),
    ),
)

MATPLOTLIB_CANVAS = Patch(
    name="matplotlib-canvas",
    kind="repair",
    summary="pixels of a figure by buffer_rgba, tostring_rgb is gone (AttributeError)",
    edits=tuple(
        ReplaceCall(
            file=UTILS,
            function=function,
            call="canvas.tostring_rgb",
            code="np.asarray(canvas.buffer_rgba())[..., :3].tobytes()",
        )
        for function in ("draw_probability_histogram", "draw_gradient_norm", "draw_array")
    ),
)

WANDB_MODE = Patch(
    name="wandb-mode",
    kind="repair",
    summary="WANDB_MODE is respected; mode online was fixed (UsageError without an API key)",
    edits=tuple(
        ReplaceDictValue(
            file=file,
            function=INIT,
            key="mode",
            code='os.environ.get("WANDB_MODE", "online")',
        )
        for file in (SD, EDM)
    ),
)

CHECKPOINT_FILES = Patch(
    name="checkpoint-files",
    kind="repair",
    summary="checkpoints have the names that --ckpt_only_path reads (FileNotFoundError)",
    edits=tuple(
        AddKeyword(
            file=file,
            function=SAVE,
            call="self.accelerator.save_state",
            keyword="safe_serialization",
            code="False",
        )
        for file in (SD, EDM)
    ),
)

FSDP_GRADIENTS = Patch(
    name="fsdp-gradients",
    kind="repair",
    summary="FSDP's hooks need requires_grad to stay from forward to backward (AssertionError); "
    "the gradients are zeroed before they are used, as before",
    edits=(
        Guard(
            file=UNIFIED,
            function="SDUniModel.forward",
            shape=Calls("self.guidance_model.requires_grad_"),
            condition='type(self.guidance_model).__name__ != "FullyShardedDataParallel"',
            times=2,
        ),
    ),
)

AUTOCAST_DEVICE = Patch(
    name="autocast-device",
    kind="repair",
    summary="--use_fp16 autocasts on the accelerator's own device, not on CUDA only",
    edits=tuple(
        ReplaceKeyword(
            file=file,
            function=f"{name}.__init__",
            call="torch.autocast",
            keyword="device_type",
            code="accelerator.device.type",
        )
        for file, name in ((GUIDANCE, "SDGuidance"), (UNIFIED, "SDUniModel"))
    ),
)


def _exact_resume(file: str, saved: Insert) -> tuple[Insert, ...]:
    return (
        Insert(
            file=file,
            function="",
            shape=Imports("cycle"),
            where="after",
            code="import disback_plugin.adapters.dmd2.exact_resume as exact_resume\n"
            "from disback_plugin.adapters.dmd2.exact_resume import Cycle as cycle",
        ),
        Insert(
            file=file,
            function=TRAIN,
            shape=Calls("self.train_one_step"),
            where="after",
            code="exact_resume.collect(self)",
        ),
        saved,
        Insert(
            file=file,
            function=LOAD,
            shape=Calls("self.accelerator.print"),
            where="after",
            code="exact_resume.load(self, checkpoint_path)",
        ),
    )


EXACT_RESUME = Patch(
    name="exact-resume",
    kind="repair",
    summary="--checkpoint_path goes on with the next step, data and random numbers of every rank",
    edits=(
        *_exact_resume(
            SD,
            Insert(
                file=SD,
                function=SAVE,
                shape=Calls("os.makedirs", first="output_path"),
                where="after",
                code="exact_resume.save(self, output_path)",
            ),
        ),
        Guard(
            file=SD,
            function=LOAD,
            shape=Calls("self.accelerator.load_state"),
            condition="not exact_resume.load_sharded(self, checkpoint_path)",
        ),
        *_exact_resume(
            EDM,
            Insert(
                file=EDM,
                function=SAVE,
                shape=Calls("self.accelerator.save_state"),
                where="before",
                code="exact_resume.save(self, output_path)",
            ),
        ),
    ),
)

REPAIRS = (
    DATALOADER_CONFIG,
    MATPLOTLIB_CANVAS,
    WANDB_MODE,
    CHECKPOINT_FILES,
    FSDP_GRADIENTS,
    AUTOCAST_DEVICE,
    EXACT_RESUME,
)
