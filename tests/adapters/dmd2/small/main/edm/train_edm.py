"""Small host: the second script differs where DMD2's does (pictures, saving on one rank)."""

import os
import shutil
import time

import torch
import wandb
from accelerate import Accelerator
from accelerate.utils import set_seed
from main.common import (
    load_weights,
    make_dataset,
    make_loader,
    make_parser,
    name_folders,
    step_of,
)
from main.edm.edm_unified_model import EDMUniModel
from main.utils import cycle, draw_array

SMALL_HOST = True


class Trainer:
    def __init__(self, args):
        self.args, self.step, self.previous_time = args, 0, None
        self.wandb_iters = args.wandb_iters
        accelerator = Accelerator(mixed_precision="no")
        set_seed(args.seed + accelerator.process_index)
        if accelerator.is_main_process:
            name_folders(self, args)
        self.model = EDMUniModel(args, accelerator)
        if args.ckpt_only_path is not None:
            self.step = load_weights(self.model, args.ckpt_only_path)
        if args.generator_ckpt_path is not None:
            weights = torch.load(os.path.join(args.generator_ckpt_path, "pytorch_model.bin"))
            self.model.feedforward_model.load_state_dict(weights)
        self.real_image_dataloader = cycle(accelerator.prepare(make_loader(make_dataset())))
        trained = [value for value in self.model.guidance_model.parameters() if value.requires_grad]
        optimizers = (
            torch.optim.AdamW(self.model.feedforward_model.parameters(), lr=args.generator_lr),
            torch.optim.AdamW(trained, lr=args.guidance_lr),
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizers[0], lambda done: (done + 1) / 100)
        networks = (self.model.feedforward_model, self.model.guidance_model)
        prepared = accelerator.prepare(*networks, *optimizers, schedule)
        self.model.feedforward_model, self.model.guidance_model = prepared[:2]
        self.optimizer_generator, self.optimizer_guidance, self.scheduler_generator = prepared[2:]
        self.accelerator = accelerator
        if args.checkpoint_path is not None:
            self.load(args.checkpoint_path)
        if accelerator.is_main_process:
            wandb.init(config=vars(args), dir=self.output_path, **{"mode": "online"})

    def load(self, checkpoint_path):
        self.step = step_of(checkpoint_path)
        self.accelerator.load_state(checkpoint_path)
        self.accelerator.print(f"Resumed at step {self.step}")

    def save(self):
        name = f"checkpoint_model_{self.step:06d}"
        output_path = os.path.join(self.output_path, name)
        self.accelerator.save_state(output_path)
        shutil.copytree(output_path, os.path.join(self.cache_dir, name))

    def train_one_step(self):
        numbers = next(self.real_image_dataloader)["text_input_ids_one"].flatten() % 3
        labels = torch.nn.functional.one_hot(numbers, 3).float()
        noise = self.args.conditioning_sigma * torch.randn(len(labels), 3, 1, 1)
        sigma = torch.full((len(labels),), self.args.conditioning_sigma)
        COMPUTE_GENERATOR_GRADIENT = self.step % self.args.dfake_gen_update_ratio == 0  # noqa: N806
        loss, log = self.model(
            noise,
            sigma,
            labels,
            compute_generator_gradient=COMPUTE_GENERATOR_GRADIENT,
            generator_turn=True,
        )
        made = log["guidance_data_dict"]
        if COMPUTE_GENERATOR_GRADIENT:
            self.accelerator.backward(loss)
            self.optimizer_generator.step()
            self.model.zero_grad()  # both roles'
        self.scheduler_generator.step()
        fake_loss, _ = self.model(noise, sigma, labels, made=made)
        self.accelerator.backward(fake_loss)
        self.optimizer_guidance.step()
        self.optimizer_guidance.zero_grad()
        if self.step % self.wandb_iters == 0:
            sample = self.accelerator.gather(made["image"])
            student_loss = self.accelerator.gather(loss.detach()).mean()
        if self.accelerator.is_main_process and self.step % self.wandb_iters == 0:
            picture = draw_array(sample.cpu().numpy())
            data_dict = {"loss_dm": student_loss.item(), "sample": wandb.Image(picture)}
            wandb.log(data_dict, step=self.step)

    def train(self):
        for _ in range(self.step, self.args.train_iters):
            self.train_one_step()
            if self.accelerator.is_main_process:
                if self.step % self.args.log_iters == 0:
                    self.save()
                now = time.time()
                if self.previous_time is not None:
                    spent = now - self.previous_time
                    wandb.log({"per iteration time": spent}, step=self.step)
                self.previous_time = now
            self.step += 1
            self.accelerator.wait_for_everyone()


def parse_args():
    parser = make_parser("use_fp16", "no_save")
    args = parser.parse_args()
    return args  # noqa: RET504
