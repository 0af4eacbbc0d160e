"""Classifiers of all backbone families under one interface: load, freeze, group, save."""

from hf_wbc.models.backbones import BACKBONES, BackboneSpec, backbone_names, find_backbone
from hf_wbc.models.classifier import Bottleneck, Classifier, Output
from hf_wbc.models.exposure import Exposure
from hf_wbc.models.freeze import Lora, freeze, merge_lora
from hf_wbc.models.load import PretrainedModel, load_classifier, load_trained
from hf_wbc.models.param_groups import param_groups
from hf_wbc.models.processor import Preprocessing, make_processor
from hf_wbc.models.save import LogitAffine, export_classifier, save_classifier

__all__ = [
    "BACKBONES",
    "BackboneSpec",
    "Bottleneck",
    "Classifier",
    "Exposure",
    "LogitAffine",
    "Lora",
    "Output",
    "Preprocessing",
    "PretrainedModel",
    "backbone_names",
    "export_classifier",
    "find_backbone",
    "freeze",
    "load_classifier",
    "load_trained",
    "make_processor",
    "merge_lora",
    "param_groups",
    "save_classifier",
]
