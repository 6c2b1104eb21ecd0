"""Repairs: what keeps DMD2 from starting, saving or resuming on current libraries."""

from disback_plugin.patching import (
    AddKeyword,
    Calls,
    Guard,
    Imports,
    Insert,
    ReplaceCall,
    ReplaceDictValue,
    ReplaceKeyword,
    repair,
)

SD, EDM, UTILS = "main/train_sd.py", "main/edm/train_edm.py", "main/utils.py"
BOTH = (SD, EDM)
GUIDANCE, UNIFIED = "main/sd_guidance.py", "main/sd_unified_model.py"
INIT, TRAIN, SAVE, LOAD = "Trainer.__init__", "Trainer.train", "Trainer.save", "Trainer.load"
ADAPTER = "disback_plugin.adapters.dmd2"
ONE_STEP = Calls("self.train_one_step")
MAKES_FOLDER = Calls("os.makedirs", first="output_path")  # of a checkpoint, in SD
SAVES, LOADED = Calls("self.accelerator.save_state"), Calls("self.accelerator.print")

REPAIRS = (
    repair(
        "dataloader-config",
        "Accelerator takes dispatch_batches inside a DataLoaderConfiguration (TypeError)",
        Insert(
            SD,
            "",
            after=Imports("Accelerator"),
            code="from accelerate import DataLoaderConfiguration",
        ),
        ReplaceKeyword(
            SD,
            INIT,
            "Accelerator",
            "dispatch_batches",
            "False",
            new_keyword="dataloader_config",
            code="DataLoaderConfiguration(dispatch_batches=False)",
        ),
    ),
    repair(
        "matplotlib-canvas",
        "pixels of a figure by buffer_rgba, tostring_rgb is gone (AttributeError)",
        *(
            ReplaceCall(
                UTILS,
                function,
                "canvas.tostring_rgb()",
                code="np.asarray(canvas.buffer_rgba())[..., :3].tobytes()",
            )
            for function in ("draw_probability_histogram", "draw_gradient_norm", "draw_array")
        ),
    ),
    repair(
        "wandb-mode",
        "WANDB_MODE is respected; mode online was fixed (UsageError without an API key)",
        ReplaceDictValue(
            BOTH, INIT, "mode", '"online"', code='os.environ.get("WANDB_MODE", "online")'
        ),
    ),
    repair(
        "checkpoint-files",
        "checkpoints have the names that --ckpt_only_path reads (FileNotFoundError)",
        AddKeyword(BOTH, SAVE, "self.accelerator.save_state", "safe_serialization", code="False"),
    ),
    repair(
        "fsdp-gradients",
        "FSDP's hooks need requires_grad to stay from forward to backward (AssertionError); "
        "the gradients are zeroed before they are used, as before",
        Guard(
            UNIFIED,
            "SDUniModel.forward",
            Calls("self.guidance_model.requires_grad_"),
            condition='type(self.guidance_model).__name__ != "FullyShardedDataParallel"',
            times=2,
        ),
    ),
    repair(
        "autocast-device",
        "--use_fp16 autocasts on the accelerator's own device, not on CUDA only",
        *(
            ReplaceKeyword(
                file,
                f"{name}.__init__",
                "torch.autocast",
                "device_type",
                '"cuda"',
                code="accelerator.device.type",
            )
            for file, name in ((GUIDANCE, "SDGuidance"), (UNIFIED, "SDUniModel"))
        ),
    ),
    repair(
        "exact-resume",
        "--checkpoint_path goes on with the next step, data and random numbers of every rank",
        Insert(
            BOTH,
            "",
            after=Imports("cycle"),
            code=f"import {ADAPTER}.exact_resume as exact_resume\n"
            f"from {ADAPTER}.exact_resume import Cycle as cycle",
        ),
        Insert(BOTH, TRAIN, after=ONE_STEP, code="exact_resume.collect(self)"),
        Insert(SD, SAVE, after=MAKES_FOLDER, code="exact_resume.save(self, output_path)"),
        Insert(EDM, SAVE, before=SAVES, code="exact_resume.save(self, output_path)"),
        Insert(BOTH, LOAD, after=LOADED, code="exact_resume.load(self, checkpoint_path)"),
        Guard(
            SD,
            LOAD,
            Calls("self.accelerator.load_state"),
            condition="not exact_resume.load_sharded(self, checkpoint_path)",
        ),
    ),
)
