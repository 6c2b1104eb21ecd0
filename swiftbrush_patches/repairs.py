"""Repairs: what keeps SwiftBrush from resuming, or from running without prompts or without CUDA."""

from disback_plugin.patching import Assigns, Calls, Imports, Insert, NarrowIf, ReplaceCall, repair

SCRIPT, PREPARE, INFER = "train_swiftbrush.py", "prepare.py", "infer.py"
MAIN = "main"
ADAPTER = "disback_plugin.adapters.swiftbrush"
HAS_CUDA = "torch.cuda.is_available()"
WRAPS = Calls("accelerator.prepare")
SAVES, LOADS = Calls("accelerator.save_state"), Calls("accelerator.load_state")

REPAIRS = (
    repair(
        "student-checkpoints",
        "checkpoints hold the student in unet/ and the LoRA in teacher_lora/; both went to "
        "unet/, the teacher's won, a resume failed (RuntimeError)",
        Insert(
            SCRIPT,
            "",
            after=Imports("Accelerator"),
            code=f"import {ADAPTER}.checkpoints as both_networks",
        ),
        *(
            ReplaceCall(
                SCRIPT,
                MAIN,
                f"accelerator.{register}({hook})",
                code=f"accelerator.{register}(both_networks.{wrap}({hook}, unet, teacher_lora))",
            )
            for register, wrap, hook in (
                ("register_save_state_pre_hook", "saving", "save_model_hook"),
                ("register_load_state_pre_hook", "loading", "load_model_hook"),
            )
        ),
    ),
    repair(
        "exact-resume",
        "--resume_from_checkpoint goes on in the epoch's middle, with every rank's random "
        "numbers; the data started a new epoch",
        Insert(
            SCRIPT, "", after=Imports("Accelerator"), code=f"from {ADAPTER}.resume import Epochs"
        ),
        Insert(SCRIPT, MAIN, after=WRAPS, code="train_dataloader = Epochs(train_dataloader)"),
        Insert(
            SCRIPT,
            MAIN,
            after=Calls("accelerator.log"),
            code="train_dataloader.collect(global_step, args)",
        ),
        Insert(SCRIPT, MAIN, before=SAVES, code="train_dataloader.save(save_path)"),
        Insert(
            SCRIPT,
            MAIN,
            after=LOADS,
            code="train_dataloader.load(os.path.join(args.output_dir, path))",
        ),
    ),
    repair(
        "no-validation",
        "trains without --validation_prompts (IndexError)",
        Insert(
            SCRIPT,
            MAIN,
            before=Assigns("null_dict"),
            code="args.validation_prompts = [p for p in args.validation_prompts if p is not None]",
        ),
        NarrowIf(SCRIPT, MAIN, "args.num_validation_images", condition="args.validation_prompts"),
    ),
    repair(
        "fp16-on-cpu",
        "--mixed_precision fp16 on the CPU is refused at the start (RuntimeError: Half and "
        "Float, once training)",
        Insert(
            SCRIPT,
            MAIN,
            after=Assigns("accelerator"),
            code='if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":\n'
            '    raise ValueError("--mixed_precision fp16 needs a GPU: bf16 works on the CPU")',
        ),
    ),
    repair(
        "prepare-device",
        "prepare.py runs where there is no CUDA (RuntimeError)",
        ReplaceCall(
            PREPARE,
            MAIN,
            'text_encoder.to("cuda", dtype=torch.float32)',
            code=f'text_encoder.to("cuda" if {HAS_CUDA} else "cpu", dtype=torch.float32)',
        ),
    ),
    repair(
        "infer-device",
        "infer.py runs where there is no CUDA, in float32 (RuntimeError)",
        Insert(
            INFER,
            MAIN,
            after=Assigns("device"),
            code=f'device, dtype = (device, dtype) if {HAS_CUDA} else ("cpu", torch.float32)',
        ),
    ),
)
