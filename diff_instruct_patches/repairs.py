"""Repairs: what keeps Diff-Instruct from running on current libraries or without CUDA, one each."""

from disback_plugin.patching import (
    Assigns,
    Calls,
    Decorate,
    Guard,
    Imports,
    Insert,
    Patch,
    ReplaceCall,
    ReplaceKeyword,
)

SCRIPT, LOOP, LOSS = "di_train.py", "training/di_training_loop.py", "training/di_loss.py"
DISTRIBUTED, MISC = "torch_utils/distributed.py", "torch_utils/misc.py"
HAS_CUDA = "torch.cuda.is_available()"

SAMPLER = Patch(
    name="sampler",
    kind="repair",
    summary="torch's Sampler takes no data set any more (TypeError on any machine)",
    edits=(
        ReplaceCall(
            file=MISC,
            function="InfiniteSampler.__init__",
            call="super().__init__",
            code="super().__init__()",
        ),
    ),
)

PROCESS_GROUP = Patch(
    name="process-group",
    kind="repair",
    summary="without CUDA: gloo, no CUDA device set, statistics gathered on the CPU",
    edits=(
        Insert(
            file=DISTRIBUTED,
            function="init",
            shape=Assigns("backend"),
            where="after",
            code=f'backend = backend if {HAS_CUDA} else "gloo"',
        ),
        Guard(
            file=DISTRIBUTED,
            function="init",
            shape=Calls("torch.cuda.set_device"),
            condition=HAS_CUDA,
        ),
        Insert(
            file=DISTRIBUTED,
            function="init",
            shape=Assigns("sync_device"),
            where="after",
            code=f'sync_device = sync_device and torch.device("cuda" if {HAS_CUDA} else "cpu")',
        ),
    ),
)

DEVICE = Patch(
    name="device",
    kind="repair",
    summary="without CUDA: networks, DDP and memory statistics on the CPU",
    edits=(
        Insert(
            file=LOOP,
            function="training_loop",
            shape=Assigns("start_time"),
            where="before",
            code=f'device = device if {HAS_CUDA} else torch.device("cpu")',
        ),
        ReplaceKeyword(
            file=LOOP,
            function="training_loop",
            call="torch.nn.parallel.DistributedDataParallel",
            keyword="device_ids",
            code='[device] if device.type == "cuda" else None',
            times=2,
        ),
        Guard(
            file=LOOP,
            function="training_loop",
            shape=Calls("torch.cuda.reset_peak_memory_stats"),
            condition=HAS_CUDA,
        ),
    ),
)

LOSS_RNG = Patch(
    name="loss-rng",
    kind="repair",
    summary="without CUDA: both scores see the same dropout by the CPU's random state",
    edits=tuple(
        ReplaceCall(
            file=LOSS,
            function="DI_EDMLoss.gloss",
            call=f"torch.cuda.{name}",
            code=f"(torch.cuda if images.is_cuda else torch).{name}({argument})",
        )
        for name, argument in (("get_rng_state", ""), ("set_rng_state", "cuda_rng_state"))
    ),
)

SEED = Patch(
    name="seed",
    kind="repair",
    summary="without CUDA and without --seed: the random seed is drawn on the CPU",
    edits=(
        ReplaceKeyword(
            file=SCRIPT,
            function="main",
            call="torch.randint",
            keyword="device",
            code=f'"cuda" if {HAS_CUDA} else "cpu"',
            times=2,
        ),
    ),
)

METRICS = Patch(
    name="metrics",
    kind="repair",
    summary="no --metrics means none (TypeError at the first snapshot)",
    edits=(
        Insert(
            file=SCRIPT,
            function="main",
            shape=Assigns("c.metrics"),
            where="after",
            code="c.metrics = c.metrics or []",
        ),
    ),
)

TEACHER_FILE = Patch(
    name="teacher-file",
    kind="repair",
    summary="--edm_file FILE: a local teacher; only two of seven --edm_model have one (KeyError)",
    edits=(
        Insert(
            file=SCRIPT,
            function="",
            shape=Imports("training_loop"),
            where="after",
            code="import disback_plugin.adapters.diff_instruct.teacher as teacher_file",
        ),
        Decorate(file=SCRIPT, function="main", code="teacher_file.option"),
        Insert(
            file=SCRIPT,
            function="main",
            shape=Assigns("resume_specs"),
            where="after",
            code="resume_specs = teacher_file.choose(resume_specs, opts.edm_model, opts.edm_file)",
        ),
    ),
)

TEACHER_NAMES = Patch(
    name="teacher-names",
    kind="repair",
    summary="a pickle of another architecture is refused; it loaded nothing, silently",
    edits=(
        Insert(
            file=LOOP,
            function="",
            shape=Imports("misc"),
            where="after",
            code="import disback_plugin.adapters.diff_instruct.teacher as teacher_file",
        ),
        Insert(
            file=LOOP,
            function="training_loop",
            shape=Calls("pickle.load"),
            where="after",
            code='teacher_file.check(data["ema"], net)',
            times=2,
        ),
    ),
)

REPAIRS = (
    SAMPLER,
    PROCESS_GROUP,
    DEVICE,
    LOSS_RNG,
    SEED,
    METRICS,
    TEACHER_FILE,
    TEACHER_NAMES,
)
