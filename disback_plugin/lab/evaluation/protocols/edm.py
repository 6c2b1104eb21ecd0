"""EDM's FID (NVlabs/edm: fid.py, README): the paper's Table 1 for FFHQ, AFHQv2 and ImageNet 64.

Image i is made from seed i. EDM draws three times 50,000 images and reports the smallest FID; the
mean and the spread of the three say what that choice is worth.
"""

from disback_plugin.lab.evaluation.protocol import Pixels, Protocol, register_protocol

EDM = register_protocol(
    Protocol(
        name="edm",
        what="50,000 images of each seed range, not resized, to EDM's statistics",
        num_images=50_000,
        pixels=Pixels(resize="inside"),
        numbers=("FID",),
        seed_ranges=((0, 50_000), (50_000, 100_000), (100_000, 150_000)),
        foreign="edm",
        remarks=("EDM's papers report the smallest FID of the three seed ranges",),
    )
)
