"""Appendix A's FID of LCM-LoRA on COCO 2014 at 512 x 512: 30,000 images against 50,000 real ones.

The paper does not say how images become the network's 299 x 299: clean-fid's way is our choice.
"""

from disback_plugin.lab.evaluation.protocol import Pixels, Protocol, register_protocol

COCO_LCM = register_protocol(
    Protocol(
        name="coco-lcm",
        what="30,000 prompts of COCO 2014, one image each, against 50,000 real images at 512 x 512",
        num_images=30_000,
        num_real=50_000,
        pixels=Pixels(resize="clean", crop="square", size=512),
        numbers=("FID",),
        remarks=("the paper does not say how it resized images; here it is clean-fid's way",),
    )
)
