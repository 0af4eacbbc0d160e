"""Croissant metadata (https://mlcommons.org/croissant/1.0) of a dataset that lies in a folder.

The Hub makes such metadata itself for the datasets that it serves. A folder that others read gets a
`croissant.json`, which describes the Parquet files, their columns and splits.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from hf_wbc.data.schema import CONFIGS, DEFAULT_CONFIG
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.taxonomy import NAMES

__all__ = ["CROISSANT", "croissant_json"]

CROISSANT = "croissant.json"
_TERMS: dict[str, Any] = {
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "samplingRate": "cr:samplingRate",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""Terms of the format's JSON-LD context."""
COLUMNS = {
    "label": ("sc:Integer", "class id; -1 is unlabeled"),
    "source_label": ("sc:Text", "class code of the archive"),
    "domain": ("sc:Text", "laboratory or archive"),
    "image_id": ("sc:Text", "file name in the archive"),
    "group": ("sc:Text", "patient, slide or session, where known"),
    "um_per_px": ("sc:Float", "scale in um per pixel; empty if the cell fills the frame"),
    "pixel_sha256": ("sc:Text", "SHA-256 of the decoded RGB pixels"),
}
"""Type and meaning of the columns besides the image."""


def croissant_json(source: ArchiveSpec, paths: Iterable[str]) -> bytes:
    """Return the metadata of a prepared dataset.

    Args:
        source: Facts about the archive.
        paths: Files of the dataset, relative to the folder that gets the metadata.
    """
    folders = {path.partition("/")[0] for path in paths}
    configs = [config for config in CONFIGS if config in folders]
    license = source.license if re.fullmatch(r"[\w.-]+", source.license) else "other"
    values: dict[str, Any] = {
        "@context": {"@language": "en", "@vocab": "https://schema.org/", **_TERMS},
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": source.repo,
        "description": f"{source.title}. {source.description}",
        "license": license,
        "url": source.homepage,
        **({"citeAs": source.citation} if source.citation else {}),
        "version": "1.0.0",
        "distribution": [
            {
                "@type": "cr:FileSet",
                "@id": f"{config}-files",
                "encodingFormat": "application/x-parquet",
                "includes": f"{config}/*.parquet",
            }
            for config in configs
        ],
        "recordSet": [_classes(), *(_records(config) for config in configs)],
    }
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode()


def _classes() -> dict[str, Any]:
    fields = [("id", "sc:Integer"), ("name", "sc:Text")]
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/id"},
        "field": [
            {"@type": "cr:Field", "@id": f"classes/{name}", "name": name, "dataType": of}
            for name, of in fields
        ],
        "data": [{"classes/id": number, "classes/name": name} for number, name in enumerate(NAMES)],
    }


def _records(config: str) -> dict[str, Any]:
    """Return the records of one configuration; the image is its encoded bytes."""
    image = {
        "@type": "cr:Field",
        "@id": f"{config}/image",
        "description": "PNG or JPEG of one cell",
        "dataType": "sc:ImageObject",
        "source": {
            "fileSet": {"@id": f"{config}-files"},
            "extract": {"column": "image"},
            "transform": {"jsonPath": "bytes"},
        },
    }
    others = [
        {
            "@type": "cr:Field",
            "@id": f"{config}/{name}",
            "description": meaning,
            "dataType": of,
            "source": {"fileSet": {"@id": f"{config}-files"}, "extract": {"column": name}},
        }
        for name, (of, meaning) in COLUMNS.items()
    ]
    what = "the central 25 um" if config == DEFAULT_CONFIG else "whole frames"
    return {
        "@type": "cr:RecordSet",
        "@id": config,
        "description": f"{what} of one cell in each row; the file's name begins with its split",
        "field": [image, *others],
    }
