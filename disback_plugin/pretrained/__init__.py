"""Teachers and students from published checkpoints: `load_denoiser(spec)`."""
