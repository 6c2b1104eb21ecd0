#!/usr/bin/env bash
# SD1.5, one step, no GAN loss: DMD2 from scratch.
# DRY_RUN=1 prints the command; further arguments are passed on. See README.md.
source "$(dirname "${BASH_SOURCE[0]}")/../dmd2.sh"
: "${NUM_GPUS:?set NUM_GPUS to the number of GPUs on this node}"
: "${NUM_NODES:?set NUM_NODES to the number of nodes (DMD2 used 8)}"
: "${MASTER_IP:?set MASTER_IP to the address of node 0}"

launch torchrun --nnodes "$NUM_NODES" --nproc_per_node "$NUM_GPUS" --rdzv_id 2345 \
  --rdzv_backend c10d --rdzv_endpoint "$MASTER_IP" main/train_sd.py \
  --model_id runwayml/stable-diffusion-v1-5 --use_fp16 --gradient_checkpointing --initialie_generator \
  --generator_lr 1e-5 --guidance_lr 1e-5 --train_iters 100000000 --seed 10 \
  --batch_size 32 --grid_size 2 --resolution 512 --latent_resolution 64 --max_grad_norm 10.0 \
  --real_guidance_scale 1.75 --fake_guidance_scale 1.0 --dfake_gen_update_ratio 10 \
  --train_prompt_path "$CHECKPOINT_PATH/captions_laion_score6.25.pkl" \
  --real_image_path "$CHECKPOINT_PATH/sd_vae_latents_laion_500k_lmdb/" \
  --output_path "$OUT/checkpoints" --cache_dir "$OUT/cache" --log_path "$OUT/logs" --log_iters 1000 --wandb_iters 50 --log_loss \
  --wandb_entity "$WANDB_ENTITY" --wandb_project "$WANDB_PROJECT" --wandb_name disback_sd15_one_step \
  --disback --disback_path "$DISBACK_PATH" \
  --disback_record_iters 1000 --disback_record_every 100 --disback_interval 1000 \
  "$@"
