"""The protocols of the papers, one file each; importing this registers them."""

from disback_plugin.lab.evaluation.protocols import (
    adm,
    coco_256,
    coco_512,
    coco_lcm,
    dmd2_imagenet,
    edm,
)
