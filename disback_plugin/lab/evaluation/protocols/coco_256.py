"""COCO at 256 x 256 (tianweiy/DMD2: main/coco_eval), as for Stable Diffusion 1.5."""

from disback_plugin.lab.evaluation.protocol import Pixels, Protocol, register_protocol

COCO_256 = register_protocol(
    Protocol(
        name="coco-256",
        what="30,000 prompts of COCO 2014's validation set, 256 x 256, clean-fid's resize",
        num_images=30_000,
        pixels=Pixels(resize="clean", crop="square", size=256),
        numbers=("FID", "CLIP score"),
        remarks=("the reference is your own, of COCO's images: --make-reference",),
    )
)
