"""Teachers and text encoders from folders of the diffusers format."""
