"""A domain's images at the size and interpolation of a model's own image processor."""

from hf_wbc.data.crop import Geometry
from hf_wbc.data.dataset import Domain
from hf_wbc.data.pixel_cache import harmonise
from hf_wbc.data.table import Table
from hf_wbc.models import Loaded


def geometry_of(loaded: Loaded) -> Geometry:
    """How the model's processor resizes a 25 um crop."""
    return Geometry(size=loaded.preprocessing.size, resample=loaded.preprocessing.resample)


def load_images(loaded: Loaded, domain: Domain) -> Table:
    """The domain's pixels as the model takes them in, from datasets' cache when they are there."""
    return harmonise(domain, geometry_of(loaded))
