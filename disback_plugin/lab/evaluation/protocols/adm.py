"""The numbers of ADM and the consistency models (openai/consistency_models: evaluations/).

The reference is one of their batches: `arr_0`, 10,000 images for precision and recall, with the
statistics of the whole data set (mu, sigma, and mu_s, sigma_s of spatial features). The paper's CD
rows of ImageNet 64 and LSUN follow it.
"""

from disback_plugin.lab.evaluation.protocol import Pixels, Protocol, register_protocol

ADM = register_protocol(
    Protocol(
        name="adm",
        what="50,000 images, not resized, to a reference batch of ADM or the consistency models",
        num_images=50_000,
        pixels=Pixels(resize="inside"),
        numbers=("FID", "sFID", "IS", "precision", "recall"),
        split=5000,
        foreign="adm",
        remarks=("distances of precision and recall are in float32; upstream's are in float16",),
    )
)
