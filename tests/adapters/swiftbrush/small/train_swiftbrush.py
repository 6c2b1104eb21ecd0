"""A small host of our own in SwiftBrush's place: its roles' names, and the places that the patches
look for; written from scratch.
"""

import argparse
import os
import random
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from peft import LoraConfig
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

TEXTS = ["pretrained_model_name_or_path", "train_data_dir", "output_dir", "mixed_precision"]
NUMBERS = {"seed": None, "resolution": None, "train_batch_size": None, "max_train_steps": None}
NUMBERS |= {"lora_rank": 1, "lora_alpha": 1, "checkpointing_steps": 1, "num_validation_images": 1}
NUMBERS |= {"gradient_accumulation_steps": 1}
SWITCHES = ["use_ema", "set_grads_to_none", "gradient_checkpointing"]
NUM_PROMPTS, NUM_TOKENS, CHANNELS = 10, 4, 4


def parse_args():
    parser = argparse.ArgumentParser()
    for name in [*TEXTS, "resume_from_checkpoint"]:
        parser.add_argument("--" + name)
    for name, value in NUMBERS.items():
        parser.add_argument("--" + name, type=int, default=value)
    for name in SWITCHES:
        parser.add_argument("--" + name, action="store_true")
    parser.add_argument("--learning_rate", type=float)
    parser.add_argument("--learning_rate_lora", type=float)
    parser.add_argument("--validation_prompts", nargs="+", default=[None])
    args = parser.parse_args()
    return args  # noqa: RET504


def load(folder, part="unet"):
    return UNet2DConditionModel.from_pretrained(folder, subfolder=part)


def warmed_up(optimizer):
    return LambdaLR(optimizer, lambda done: min(1.0, (done + 4) / 6))


def descend(accelerator, loss, parameters, optimizer, schedule):
    """One update of the LoRA; accelerate leaves it out between accumulated rounds."""
    accelerator.backward(loss)
    if accelerator.sync_gradients:
        accelerator.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()


def predict_original(unet, noise_scheduler, input_noise, prompt_embeds):
    times = torch.full((len(input_noise),), noise_scheduler.config.num_train_timesteps - 1)
    return input_noise - unet(input_noise, times, prompt_embeds).sample


def guided(network, noisy, times, texts):
    """Twice what it predicts of the prompts, less what it predicts of none."""
    with_text, without = (network(noisy, times, text).sample for text in texts)
    return 2 * with_text - without


def main(args):
    rounds, precision = args.gradient_accumulation_steps, args.mixed_precision
    accelerator = Accelerator(
        gradient_accumulation_steps=rounds,
        mixed_precision=precision,
        project_dir=args.output_dir,
        log_with="tensorboard",
    )
    set_seed(args.seed)
    unet, teacher_lora, averaged = (load(args.pretrained_model_name_or_path) for _ in range(3))
    size = {"r": args.lora_rank, "lora_alpha": args.lora_alpha}
    teacher_lora.add_adapter(LoraConfig(target_modules=["to_q", "to_v"], **size))
    ema_unet = EMAModel(averaged.parameters(), model_cls=type(unet), model_config=averaged.config)
    for trained in (unet, teacher_lora):
        trained.train()
        if args.gradient_checkpointing:
            trained.enable_gradient_checkpointing()

    def save_model_hook(models, weights, output_dir):
        for network in models:
            network.save_pretrained(Path(output_dir, "unet"))
        weights.clear()
        if args.use_ema:
            ema_unet.save_pretrained(Path(output_dir, "average"))

    def load_model_hook(models, input_dir):
        for network in models:
            network.load_state_dict(load(input_dir).state_dict())
        models.clear()
        if args.use_ema:
            found = EMAModel.from_pretrained(Path(input_dir, "average"), type(unet))
            ema_unet.load_state_dict(found.state_dict())

    accelerator.register_load_state_pre_hook(load_model_hook)
    accelerator.register_save_state_pre_hook(save_model_hook)

    width = unet.config.cross_attention_dim
    null_dict = {"prompt_embeds": torch.zeros(1, NUM_TOKENS, width)}
    if any(not prompt.strip() for prompt in args.validation_prompts):
        raise ValueError("an empty prompt")
    prompts = torch.randn(NUM_PROMPTS, NUM_TOKENS, width)
    train_dataset = [{"prompt_embeds": prompt} for prompt in prompts]
    train_dataloader = DataLoader(train_dataset, args.train_batch_size, shuffle=True)
    noise_scheduler, weight_dtype = DDPMScheduler(), torch.float32
    optimizer = torch.optim.Adam(unet.parameters(), args.learning_rate)
    optimizer_lora = torch.optim.Adam(teacher_lora.parameters(), args.learning_rate_lora)
    lr_scheduler, schedule_lora = warmed_up(optimizer), warmed_up(optimizer_lora)
    prepared = (unet, teacher_lora, optimizer, optimizer_lora, train_dataloader)
    unet, teacher_lora, optimizer, optimizer_lora, train_dataloader = accelerator.prepare(*prepared)
    accelerator.register_for_checkpointing(schedule_lora, lr_scheduler)
    if accelerator.is_main_process:
        tracker_config = {name: own for name, own in vars(args).items() if type(own) is not list}
        accelerator.init_trackers("small-host", tracker_config)

    global_step = 0
    if args.resume_from_checkpoint:
        counts = [int(folder.name[11:]) for folder in Path(args.output_dir).glob("checkpoint-*")]
        global_step = max(counts)
        path = f"checkpoint-{global_step}"
        accelerator.load_state(os.path.join(args.output_dir, path))

    progress_bar = tqdm(total=args.max_train_steps, initial=global_step)
    while global_step < args.max_train_steps:
        for batch in train_dataloader:
            with accelerator.accumulate(unet, teacher_lora):
                text = batch["prompt_embeds"].to(weight_dtype)
                bsz = len(text)
                texts = (text, null_dict["prompt_embeds"].expand_as(text))
                start = torch.randn(bsz, CHANNELS, args.resolution // 8, args.resolution // 8)
                sample = predict_original(unet, noise_scheduler, start, text)
                times, noise = torch.randint(20, 981, (bsz,)), torch.randn_like(start)
                noisy = noise_scheduler.add_noise(sample, noise, times)
                with torch.no_grad():
                    accelerator.unwrap_model(teacher_lora).disable_adapters()
                    real = guided(teacher_lora, noisy, times, texts)
                    accelerator.unwrap_model(teacher_lora).enable_adapters()
                    fake = guided(teacher_lora, noisy, times, texts)
                loss_vsd = (sample * (real - fake)).mean()
                accelerator.backward(loss_vsd)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(unet.parameters(), max_norm=1.0)
                    optimizer.step()
                    lr_scheduler.step()
                optimizer.zero_grad(args.set_grads_to_none)

                noise = torch.randn_like(start)
                noisy = noise_scheduler.add_noise(sample.detach(), noise, times)
                seen = teacher_lora(noisy, times, random.choice(texts)).sample
                loss = (seen - noise).square().mean()
                descend(accelerator, loss, teacher_lora.parameters(), optimizer_lora, schedule_lora)
            if not accelerator.sync_gradients:
                continue

            if args.use_ema:
                ema_unet.step(unet.parameters())
            progress_bar.update()
            global_step += 1
            accelerator.log({"train_loss_vsd": loss_vsd.item()}, step=global_step)
            is_over = global_step == args.max_train_steps
            is_due = is_over or global_step % args.checkpointing_steps == 0
            if is_due and accelerator.is_main_process:
                save_path = f"{args.output_dir}/checkpoint-{global_step}"
                accelerator.save_state(save_path)
            if args.num_validation_images and args.validation_prompts is not None:
                print(*args.validation_prompts)
            if is_over:
                break
    accelerator.end_training()


if __name__ == "__main__":
    main(parse_args())
