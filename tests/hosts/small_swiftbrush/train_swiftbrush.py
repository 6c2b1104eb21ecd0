"""Small host of our own with SwiftBrush's role names and the places that the patches look for."""

import argparse
import math
import os
import random

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import UNet2DConditionModel
from diffusers.training_utils import EMAModel
from peft import LoraConfig
from torch.nn import functional as F
from tqdm.auto import tqdm


def parse_args():
    parser = argparse.ArgumentParser()
    for name in (
        "pretrained_model_name_or_path",
        "train_data_dir",
        "output_dir",
        "mixed_precision",
    ):
        parser.add_argument(f"--{name}")
    parser.add_argument("--resume_from_checkpoint")
    parser.add_argument("--validation_prompts", nargs="+")
    for name in ("seed", "resolution", "train_batch_size", "max_train_steps"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("lora_rank", "lora_alpha", "checkpointing_steps", "num_validation_images"):
        parser.add_argument(f"--{name}", type=int, default=1)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    for name in ("learning_rate", "learning_rate_lora"):
        parser.add_argument(f"--{name}", type=float)
    for name in ("use_ema", "set_grads_to_none", "gradient_checkpointing"):
        parser.add_argument(f"--{name}", action="store_true")
    args = parser.parse_args()
    return args  # noqa: RET504


def student_sample(unet, noise, embeds):
    last = torch.full((len(noise),), 999)
    return noise - unet(noise, last, embeds).sample


def main(args):
    accelerator = Accelerator(
        mixed_precision=args.mixed_precision,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        log_with="tensorboard",
        project_dir=args.output_dir,
    )
    set_seed(args.seed)

    def load_unet(folder):
        return UNet2DConditionModel.from_pretrained(folder, subfolder="unet")

    teacher_lora = load_unet(args.pretrained_model_name_or_path)
    config = LoraConfig(
        r=args.lora_rank, lora_alpha=args.lora_alpha, target_modules=["to_q", "to_v"]
    )
    teacher_lora.add_adapter(config)
    unet = load_unet(args.pretrained_model_name_or_path)
    for network in (unet, teacher_lora):
        network.train()
        if args.gradient_checkpointing:
            network.enable_gradient_checkpointing()
    if args.use_ema:
        copy = load_unet(args.pretrained_model_name_or_path)
        ema_unet = EMAModel(
            copy.parameters(), model_cls=UNet2DConditionModel, model_config=copy.config
        )

    def save_model_hook(models, weights, output_dir):
        if args.use_ema:
            ema_unet.save_pretrained(os.path.join(output_dir, "unet_ema"))
        for model in models:
            model.save_pretrained(os.path.join(output_dir, "unet"))
            weights.pop()

    def load_model_hook(models, input_dir):
        if args.use_ema:
            saved = EMAModel.from_pretrained(
                os.path.join(input_dir, "unet_ema"), UNet2DConditionModel
            )
            ema_unet.load_state_dict(saved.state_dict())
        while models:
            models.pop().load_state_dict(load_unet(input_dir).state_dict())

    accelerator.register_save_state_pre_hook(save_model_hook)
    accelerator.register_load_state_pre_hook(load_model_hook)

    optimizer = torch.optim.Adam(unet.parameters(), lr=args.learning_rate)
    optimizer_lora = torch.optim.Adam(teacher_lora.parameters(), lr=args.learning_rate_lora)
    prompts = args.validation_prompts
    args.validation_prompts = prompts if isinstance(prompts, list) else [prompts]
    null_dict = {"prompt_embeds": torch.zeros(1, 4, teacher_lora.config.cross_attention_dim)}
    assert all(prompt.strip() for prompt in args.validation_prompts)

    embeds = torch.randn(10, 4, teacher_lora.config.cross_attention_dim)
    train_dataloader = torch.utils.data.DataLoader(
        embeds, shuffle=True, batch_size=args.train_batch_size
    )
    lr_scheduler, lr_scheduler_lora = (
        torch.optim.lr_scheduler.LambdaLR(own, lambda done: min(1.0, (done + 4) / 6))
        for own in (optimizer, optimizer_lora)
    )
    unet, teacher_lora, optimizer, optimizer_lora, train_dataloader = accelerator.prepare(
        *(unet, teacher_lora, optimizer, optimizer_lora, train_dataloader)
    )
    accelerator.register_for_checkpointing(lr_scheduler, lr_scheduler_lora)
    num_updates = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
    if accelerator.is_main_process:
        tracker_config = dict(vars(args))
        tracker_config.pop("validation_prompts")
        accelerator.init_trackers("small", config=tracker_config)

    global_step = 0
    if args.resume_from_checkpoint:
        saved = [name for name in os.listdir(args.output_dir) if name.startswith("checkpoint")]
        path = max(saved, key=lambda name: int(name.split("-")[1]))
        accelerator.load_state(os.path.join(args.output_dir, path))
        global_step = int(path.split("-")[1])
    progress_bar = tqdm(range(args.max_train_steps))

    for _ in range(global_step // num_updates, math.ceil(args.max_train_steps / num_updates)):
        for batch in train_dataloader:
            with accelerator.accumulate(unet, teacher_lora):
                bsz = len(batch)
                nothing = null_dict["prompt_embeds"].repeat(bsz, 1, 1)
                side = args.resolution // 8
                sample = student_sample(unet, torch.randn(bsz, 4, side, side), batch)
                timesteps = torch.randint(20, 980, (bsz,))
                noisy = sample + torch.randn_like(sample)
                with torch.no_grad():
                    accelerator.unwrap_model(teacher_lora).disable_adapters()
                    teacher_pred_cond = teacher_lora(noisy, timesteps, batch).sample
                    teacher_pred_uncond = teacher_lora(noisy, timesteps, nothing).sample
                    accelerator.unwrap_model(teacher_lora).enable_adapters()
                    fake_cond = teacher_lora(noisy, timesteps, batch).sample
                    fake_uncond = teacher_lora(noisy, timesteps, nothing).sample
                    real = 2 * teacher_pred_cond - teacher_pred_uncond
                    direction = real - (2 * fake_cond - fake_uncond)
                loss_vsd = F.mse_loss(sample, (sample - direction).detach())
                accelerator.backward(loss_vsd)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(unet.parameters(), 1.0)
                optimizer.step()
                if accelerator.sync_gradients:
                    lr_scheduler.step()
                optimizer.zero_grad(set_to_none=args.set_grads_to_none)

                noise = torch.randn_like(sample)
                given = nothing if random.random() < 0.5 else batch
                fake = teacher_lora(sample.detach() + noise, timesteps, given).sample
                loss_lora = F.mse_loss(fake, noise)
                accelerator.backward(loss_lora)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(teacher_lora.parameters(), 1.0)
                optimizer_lora.step()
                if accelerator.sync_gradients:
                    lr_scheduler_lora.step()
                optimizer_lora.zero_grad(set_to_none=args.set_grads_to_none)

            if accelerator.sync_gradients:
                if args.use_ema:
                    ema_unet.step(unet.parameters())
                progress_bar.update(1)
                global_step += 1
                accelerator.log({"train_loss_vsd": loss_vsd.item()}, step=global_step)
                due = global_step % args.checkpointing_steps == 0
                if accelerator.is_main_process and (due or global_step == args.max_train_steps):
                    save_path = os.path.join(args.output_dir, f"checkpoint-{global_step}")
                    accelerator.save_state(save_path)
                if args.validation_prompts is not None and args.num_validation_images > 0:
                    accelerator.print("\n".join(args.validation_prompts))
            if global_step >= args.max_train_steps:
                break
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    args = parse_args()
    main(args)
