"""Repairs: what keeps Diff-Instruct from running on current libraries or without CUDA, one each."""

from disback_plugin.patching import (
    Assigns,
    Calls,
    Decorate,
    Guard,
    Imports,
    Insert,
    ReplaceCall,
    ReplaceKeyword,
    repair,
)

SCRIPT, LOOP, LOSS = "di_train.py", "training/di_training_loop.py", "training/di_loss.py"
DISTRIBUTED, MISC = "torch_utils/distributed.py", "torch_utils/misc.py"
MAIN, TRAIN, STUDENT_LOSS = "main", "training_loop", "DI_EDMLoss.gloss"
HAS_CUDA = "torch.cuda.is_available()"
ADAPTER = "disback_plugin.adapters.diff_instruct"

REPAIRS = (
    repair(
        "sampler",
        "torch's Sampler takes no data set any more (TypeError on any machine)",
        ReplaceCall(
            MISC, "InfiniteSampler.__init__", "super().__init__(dataset)", code="super().__init__()"
        ),
    ),
    repair(
        "process-group",
        "without CUDA: gloo, no CUDA device set, statistics gathered on the CPU",
        Insert(
            DISTRIBUTED,
            "init",
            after=Assigns("backend"),
            code=f'backend = backend if {HAS_CUDA} else "gloo"',
        ),
        Guard(DISTRIBUTED, "init", Calls("torch.cuda.set_device"), condition=HAS_CUDA),
        Insert(
            DISTRIBUTED,
            "init",
            after=Assigns("sync_device"),
            code=f'sync_device = sync_device and torch.device("cuda" if {HAS_CUDA} else "cpu")',
        ),
    ),
    repair(
        "device",
        "without CUDA: networks, DDP and memory statistics on the CPU",
        Insert(
            LOOP,
            TRAIN,
            before=Assigns("start_time"),
            code=f'device = device if {HAS_CUDA} else torch.device("cpu")',
        ),
        ReplaceKeyword(
            LOOP,
            TRAIN,
            "torch.nn.parallel.DistributedDataParallel",
            "device_ids",
            "[device]",
            code='[device] if device.type == "cuda" else None',
            times=2,
        ),
        Guard(LOOP, TRAIN, Calls("torch.cuda.reset_peak_memory_stats"), condition=HAS_CUDA),
    ),
    repair(
        "loss-rng",
        "without CUDA: both scores see the same dropout by the CPU's random state",
        *(
            ReplaceCall(
                LOSS,
                STUDENT_LOSS,
                f"torch.cuda.{name}({argument})",
                code=f"(torch.cuda if images.is_cuda else torch).{name}({argument})",
            )
            for name, argument in (("get_rng_state", ""), ("set_rng_state", "cuda_rng_state"))
        ),
    ),
    repair(
        "seed",
        "without CUDA and without --seed: the random seed is drawn on the CPU",
        ReplaceKeyword(
            SCRIPT,
            MAIN,
            "torch.randint",
            "device",
            'torch.device("cuda")',
            code=f'"cuda" if {HAS_CUDA} else "cpu"',
            times=2,
        ),
    ),
    repair(
        "metrics",
        "no --metrics means none (TypeError at the first snapshot)",
        Insert(SCRIPT, MAIN, after=Assigns("c.metrics"), code="c.metrics = c.metrics or []"),
    ),
    repair(
        "teacher-file",
        "--edm_file FILE: a local teacher; only two of seven --edm_model have one (KeyError)",
        Insert(
            SCRIPT,
            "",
            after=Imports("training_loop"),
            code=f"import {ADAPTER}.teacher as teacher_file",
        ),
        Decorate(SCRIPT, MAIN, code="teacher_file.option"),
        Insert(
            SCRIPT,
            MAIN,
            after=Assigns("resume_specs"),
            code="resume_specs = teacher_file.choose(resume_specs, opts.edm_model, opts.edm_file)",
        ),
    ),
    repair(
        "teacher-names",
        "a pickle of another architecture is refused; it loaded nothing, silently",
        Insert(LOOP, "", after=Imports("misc"), code=f"import {ADAPTER}.teacher as teacher_file"),
        Insert(
            LOOP,
            TRAIN,
            after=Calls("pickle.load"),
            code='teacher_file.check(data["ema"], net)',
            times=2,
        ),
    ),
)
