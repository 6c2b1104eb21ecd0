#!/usr/bin/env bash
# SDXL, four steps, the generator as a LoRA: DMD2 under FSDP.
# DRY_RUN=1 prints the command; further arguments are passed on. See README.md.
source "$(dirname "${BASH_SOURCE[0]}")/../dmd2.sh"
: "${FSDP_CONFIG:?set FSDP_CONFIG to the accelerate config of this node (see README.md)}"
absolute FSDP_CONFIG

# a LoRA beside frozen weights needs the original parameters, which DMD2's own configs switch off
launch accelerate launch --config_file "$FSDP_CONFIG" --fsdp_use_orig_params true main/train_sd.py \
  --model_id stabilityai/stable-diffusion-xl-base-1.0 --sdxl --fsdp --use_fp16 --initialie_generator \
  --generator_lr 5e-5 --guidance_lr 5e-5 --train_iters 100000000 --seed 10 \
  --batch_size 2 --grid_size 2 --resolution 1024 --latent_resolution 128 --max_grad_norm 10.0 \
  --real_guidance_scale 8 --fake_guidance_scale 1.0 --max_step_percent 0.98 --dfake_gen_update_ratio 5 \
  --cls_on_clean_image --gen_cls_loss --gen_cls_loss_weight 5e-3 --guidance_cls_loss_weight 1e-2 \
  --diffusion_gan --diffusion_gan_max_timestep 1000 \
  --train_prompt_path "$CHECKPOINT_PATH/captions_laion_score6.25.pkl" \
  --real_image_path "$CHECKPOINT_PATH/sdxl_vae_latents_laion_500k_lmdb/" \
  --output_path "$OUT/checkpoints" --cache_dir "$OUT/cache" --log_path "$OUT/logs" --log_iters 1000 --wandb_iters 100 --log_loss \
  --wandb_entity "$WANDB_ENTITY" --wandb_project "$WANDB_PROJECT" --wandb_name disback_sdxl_four_step_lora \
  --denoising --num_denoising_step 4 --denoising_timestep 1000 --backward_simulation --generator_lora \
  --disback --disback_path "$DISBACK_PATH" \
  --disback_record_iters 1000 --disback_record_every 100 --disback_interval 1000 \
  "$@"
