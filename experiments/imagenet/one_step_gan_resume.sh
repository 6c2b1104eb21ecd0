#!/usr/bin/env bash
# ImageNet-64, one step, GAN loss: from the weights of a DMD2 run without --disback.
# DRY_RUN=1 prints the command; further arguments are passed on. See README.md.
source "$(dirname "${BASH_SOURCE[0]}")/../dmd2.sh"
: "${NUM_GPUS:?set NUM_GPUS to the number of GPUs on this node}"
: "${START_FROM:?set START_FROM to the checkpoint folder to start from (checkpoint_model_405500)}"
absolute START_FROM

launch torchrun --nnodes 1 --nproc_per_node "$NUM_GPUS" main/edm/train_edm.py \
  --model_id "$CHECKPOINT_PATH/edm-imagenet-64x64-cond-adm.pkl" --dataset_name imagenet --use_fp16 \
  --generator_lr 5e-7 --guidance_lr 5e-7 --train_iters 10000000 --seed 10 --initialie_generator \
  --batch_size 40 --resolution 64 --label_dim 1000 --dfake_gen_update_ratio 5 \
  --real_image_path "$CHECKPOINT_PATH/imagenet-64x64_lmdb" \
  --output_path "$OUT/checkpoints" --log_iters 500 --wandb_iters 100 --delete_ckpts --max_checkpoint 200 \
  --wandb_entity "$WANDB_ENTITY" --wandb_project "$WANDB_PROJECT" --wandb_name disback_imagenet_one_step_gan_resume \
  --gan_classifier --cls_loss_weight 1e-2 --gen_cls_loss_weight 3e-3 \
  --diffusion_gan --diffusion_gan_max_timestep 1000 --ckpt_only_path "$START_FROM" \
  --disback --disback_path "$DISBACK_PATH" \
  --disback_record_iters 200 --disback_record_every 50 \
  --disback_schedule per-node --disback_intervals 1000,1000,10000 \
  "$@"
