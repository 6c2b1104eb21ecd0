"""DMD2's FID on ImageNet 64 (tianweiy/DMD2: main/edm): EDM's, of balanced labels from seed 10."""

from disback_plugin.lab.evaluation.protocol import Pixels, Protocol, register_protocol

DMD2_IMAGENET = register_protocol(
    Protocol(
        name="dmd2-imagenet",
        what="50,000 images of balanced labels, not resized, to EDM's statistics",
        num_images=50_000,
        pixels=Pixels(resize="inside"),
        numbers=("FID",),
        foreign="edm",
        balanced=True,
        remarks=(
            "DMD2's own code starts its sums for the covariance at ones instead of zeros, which "
            "made FID about 0.007 larger in a toy test; here they start at zeros",
        ),
    )
)
