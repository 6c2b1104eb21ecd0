"""Repairs: what keeps SwiftBrush from resuming, or from running without prompts or without CUDA."""

from disback_plugin.patching import (
    Assigns,
    Calls,
    Imports,
    Insert,
    NarrowIf,
    Patch,
    ReplaceCall,
)

TRAIN, PREPARE, INFER = "train_swiftbrush.py", "prepare.py", "infer.py"
MAIN = "main"

STUDENT_CHECKPOINTS = Patch(
    name="student-checkpoints",
    kind="repair",
    summary="checkpoints hold the student in unet/ and the LoRA in teacher_lora/; both went to "
    "unet/, the teacher's won, a resume failed (RuntimeError)",
    edits=(
        Insert(
            file=TRAIN,
            function="",
            shape=Imports("Accelerator"),
            where="after",
            code="import disback_plugin.adapters.swiftbrush.checkpoints as both_networks",
        ),
        *(
            ReplaceCall(
                file=TRAIN,
                function=MAIN,
                call=f"accelerator.{register}",
                code=f"accelerator.{register}(both_networks.{wrap}({hook}, unet, teacher_lora))",
            )
            for register, wrap, hook in (
                ("register_save_state_pre_hook", "saving", "save_model_hook"),
                ("register_load_state_pre_hook", "loading", "load_model_hook"),
            )
        ),
    ),
)

EXACT_RESUME = Patch(
    name="exact-resume",
    kind="repair",
    summary="--resume_from_checkpoint goes on in the epoch's middle, with every rank's random "
    "numbers; the data started a new epoch",
    edits=(
        Insert(
            file=TRAIN,
            function="",
            shape=Imports("Accelerator"),
            where="after",
            code="from disback_plugin.adapters.swiftbrush.resume import Epochs",
        ),
        Insert(
            file=TRAIN,
            function=MAIN,
            shape=Calls("accelerator.prepare"),
            where="after",
            code="train_dataloader = Epochs(train_dataloader)",
        ),
        Insert(
            file=TRAIN,
            function=MAIN,
            shape=Calls("accelerator.log"),
            where="after",
            code="train_dataloader.collect(global_step, args)",
        ),
        Insert(
            file=TRAIN,
            function=MAIN,
            shape=Calls("accelerator.save_state"),
            where="before",
            code="train_dataloader.save(save_path)",
        ),
        Insert(
            file=TRAIN,
            function=MAIN,
            shape=Calls("accelerator.load_state"),
            where="after",
            code="train_dataloader.load(os.path.join(args.output_dir, path))",
        ),
    ),
)

NO_VALIDATION = Patch(
    name="no-validation",
    kind="repair",
    summary="trains without --validation_prompts (IndexError)",
    edits=(
        Insert(
            file=TRAIN,
            function=MAIN,
            shape=Assigns("null_dict"),
            where="before",
            code="args.validation_prompts = [p for p in args.validation_prompts if p is not None]",
        ),
        NarrowIf(
            file=TRAIN,
            function=MAIN,
            name="args.num_validation_images",
            condition="args.validation_prompts",
        ),
    ),
)

FP16_ON_CPU = Patch(
    name="fp16-on-cpu",
    kind="repair",
    summary="--mixed_precision fp16 on the CPU is refused at the start (RuntimeError: Half and "
    "Float, once training)",
    edits=(
        Insert(
            file=TRAIN,
            function=MAIN,
            shape=Assigns("accelerator"),
            where="after",
            code='if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":\n'
            '    raise ValueError("--mixed_precision fp16 needs a GPU: bf16 works on the CPU")',
        ),
    ),
)

PREPARE_DEVICE = Patch(
    name="prepare-device",
    kind="repair",
    summary="prepare.py runs where there is no CUDA (RuntimeError)",
    edits=(
        ReplaceCall(
            file=PREPARE,
            function=MAIN,
            call="text_encoder.to",
            code='text_encoder.to("cuda" if torch.cuda.is_available() else "cpu",'
            " dtype=torch.float32)",
        ),
    ),
)

INFER_DEVICE = Patch(
    name="infer-device",
    kind="repair",
    summary="infer.py runs where there is no CUDA, in float32 (RuntimeError)",
    edits=(
        Insert(
            file=INFER,
            function=MAIN,
            shape=Assigns("device"),
            where="after",
            code="device, dtype = "
            '(device, dtype) if torch.cuda.is_available() else ("cpu", torch.float32)',
        ),
    ),
)

REPAIRS = (
    STUDENT_CHECKPOINTS,
    EXACT_RESUME,
    NO_VALIDATION,
    FP16_ON_CPU,
    PREPARE_DEVICE,
    INFER_DEVICE,
)
