"""COCO at 512 x 512 (tianweiy/DMD2: main/coco_eval), as for SDXL: the nearest to Table 3.

The paper says "COCO 2014" for its 18.96 and no more; DMD2, on which its SDXL code is built, takes
the 10,000 prompts of coco10k. Patch FID sees the centre 299 x 299 pixels at full size.
"""

from disback_plugin.lab.evaluation.protocol import Pixels, Protocol, register_protocol

COCO_512 = register_protocol(
    Protocol(
        name="coco-512",
        what="10,000 prompts of COCO 2014 (coco10k), 512 x 512, clean-fid's resize, patch FID",
        num_images=10_000,
        pixels=Pixels(resize="clean", crop="square", size=512),
        numbers=("FID", "patch FID", "CLIP score"),
        patch=Pixels(resize="clean", crop="patch", size=299),
        remarks=("the paper does not say how it measured COCO for SDXL; this is DMD2's way",),
    )
)
