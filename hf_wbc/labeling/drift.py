"""Compare later cells of a laboratory with a baseline: has anything changed since acceptance?

Four statistics are compared: the embedding (energy distance, Szekely & Rizzo 2013), the appearance
(stain, light and sharpness, energy distance), the shares of the predicted classes, and the
rejection rate. Each is compared with what random regroupings of the same cells give, and the
smallest of the four p-values again with the smallest p-values of the regroupings (Westfall & Young
1993), so that false alarms are as rare as the level states, however the statistics depend on each
other.

Cells of one patient resemble each other. A batch of one patient's cells can therefore raise a true
alarm about the patient rather than the laboratory: use cells of several patients.
"""

import json
import math
import tokenize
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hf_wbc.evaluation.selective import Rejection
from hf_wbc.labeling.pool import Floats, Pool
from hf_wbc.records import atomic_replace
from hf_wbc.taxonomy import NUM_CLASSES

__all__ = ["FEWEST", "STATISTICS", "Baseline", "DriftReport", "build_baseline", "drift"]

STATISTICS = ("embedding", "appearance", "class shares", "rejection rate")
MAX_BASELINE = 400
"""Cells of the baseline; more are drawn at random."""
MAX_BATCH = 400
WIDTH = 32
"""Principal components of the embedding that are compared."""
PERMUTATIONS = 999
FEWEST = 10
"""Cells below which a batch is not compared."""
LEVEL = 0.03
"""Rate of false alarms: below 5 %, so that a laboratory that counts them finds fewer than that."""
VERSION = 1
MAX_BYTES = 2**26
"""Largest array of a baseline file; 400 cells of 2048 features take 3 MiB."""
NUM_APPEARANCE = 7


@dataclass(frozen=True, eq=False)
class Baseline:
    """N cells of a laboratory when the model was accepted."""

    name: str
    revision: str
    """The model's revision."""
    features: NDArray[np.float32]
    """Features (N, d)."""
    appearance: Floats
    """Appearance (N, 7)."""
    predicted: NDArray[np.int64]
    """Predicted class ids (N,)."""
    rejected: NDArray[np.bool_]
    """Whether the model rejects each cell (N,)."""

    def save(self, path: Path) -> None:
        """Write the baseline to a .npz file, which replaces an existing one."""
        values = {
            key: value for key, value in vars(self).items() if key not in ("name", "revision")
        }
        facts = json.dumps({"version": VERSION, "name": self.name, "revision": self.revision})
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_replace(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, facts=np.array(facts), **values)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a baseline.

        Raises:
            ValueError: If the file is damaged or too large, or another version of hf_wbc wrote it.
        """
        try:
            _check_sizes(path)
            with np.load(path, allow_pickle=False) as data:
                facts = json.loads(str(data["facts"]))
                values = {key: data[key] for key in data.files if key != "facts"}
            if facts["version"] != VERSION:
                raise ValueError(f"it has version {facts['version']}")
            found = cls(name=str(facts["name"]), revision=str(facts["revision"]), **values)
            found._check()
        except _DAMAGE as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise ValueError(
                f"{path} is not a drift baseline ({error}); write one with `hf-wbc accept`"
            ) from error
        return found

    def _check(self) -> None:
        """Raise ValueError unless the arrays are of N cells, with values that they can have."""
        num = len(self.predicted)
        if (
            self.features.shape != (num, self.features.shape[-1])
            or self.appearance.shape != (num, NUM_APPEARANCE)
            or not self.predicted.shape == self.rejected.shape == (num,)
            or not FEWEST <= num <= MAX_BASELINE
        ):
            raise ValueError("its arrays are not of the same cells")
        arrays = self.features, self.appearance, self.predicted, self.rejected
        if [each.dtype.kind for each in arrays] != ["f", "f", "i", "b"]:
            raise ValueError("its arrays have other types")
        if not (np.isfinite(self.features).all() and not np.isinf(self.appearance).any()):
            raise ValueError("it holds infinite values")
        if not (self.predicted >= 0).all() or not (self.predicted < NUM_CLASSES).all():
            raise ValueError("it holds unknown classes")


_DAMAGE = (
    EOFError, LookupError, NotImplementedError, OSError, OverflowError, RecursionError,
    RuntimeError, SyntaxError, TypeError, ValueError, tokenize.TokenError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise for files that nobody wrote as a baseline."""


def _check_sizes(path: Path) -> None:
    """Raise ValueError for arrays that state more bytes than a baseline has, before any is read."""
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with zipfile.ZipFile(path) as archive:
        for each in archive.infolist():
            with archive.open(each) as member:
                shape, _, kind = headers[np.lib.format.read_magic(member)](member)
            if math.prod(shape) * kind.itemsize > MAX_BYTES:
                raise ValueError(f"{each.filename} is too large")


@dataclass(frozen=True)
class DriftReport:
    """The comparison of a batch with a baseline."""

    num_cells: int
    num_baseline: int
    p_values: dict[str, float]
    """Uncorrected p-value of each statistic."""
    p_value: float
    """p-value of all statistics together, corrected for their number."""
    level: float
    sentences: tuple[str, ...]
    """What changed, for people."""

    @property
    def alarm(self) -> bool:
        """Whether the batch differs from the baseline."""
        return self.p_value <= self.level

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "alarm": self.alarm}


def build_baseline(pool: Pool, rejection: Rejection | None, revision: str) -> Baseline:
    """Build the baseline of a laboratory from at most 400 of its cells, drawn at random.

    Raises:
        ValueError: If there are fewer than 10 cells.
    """
    _require_enough(len(pool), pool.name)
    rows = np.random.default_rng(0).permutation(len(pool))[:MAX_BASELINE]
    cells = pool.take(np.sort(rows))
    return Baseline(
        name=pool.name,
        revision=revision,
        features=cells.features,
        appearance=cells.appearance,
        predicted=cells.logits.argmax(1),
        rejected=_rejects(rejection, cells),
    )


def check_comparable(baseline: Baseline, revision: str, level: float) -> None:
    """Raise ValueError for a baseline of another model, or an impossible level."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    if baseline.revision != revision:
        raise ValueError(
            f"the baseline of {baseline.name} was made with another model ({baseline.revision}), "
            f"and this one is {revision}; write a new one with `hf-wbc accept`"
        )


def drift(
    baseline: Baseline,
    pool: Pool,
    rejection: Rejection | None,
    revision: str,
    *,
    level: float = LEVEL,
    seed: int = 0,
) -> DriftReport:
    """Compare the cells of a pool with a baseline.

    Args:
        baseline: The cells when the model was accepted.
        pool: Later cells.
        rejection: The model's reject option.
        revision: The model's revision.
        level: Rate of false alarms.
        seed: Seed of the permutations.

    Raises:
        ValueError: For fewer than 10 cells, a baseline of another model, or an impossible level.
    """
    check_comparable(baseline, revision, level)
    if baseline.features.shape[1] != pool.features.shape[1]:
        raise ValueError(
            f"the baseline of {baseline.name} has {baseline.features.shape[1]} features, and the "
            f"model {pool.features.shape[1]}; write a new one with `hf-wbc accept`"
        )
    _require_enough(len(pool), pool.name)
    rng = np.random.default_rng(seed)
    cells = pool.take(np.sort(rng.permutation(len(pool))[:MAX_BATCH]))
    predicted, rejected = cells.logits.argmax(1), _rejects(rejection, cells)
    first = len(baseline.features)
    is_new = np.zeros(first + len(cells), bool)
    is_new[first:] = True
    groupings = np.array([is_new, *(rng.permutation(is_new) for _ in range(PERMUTATIONS))])
    # Measured on all cells: a projection fitted to the baseline alone would set it apart.
    projected = _projected(np.concatenate([baseline.features, cells.features]))
    looks = _standardized(np.concatenate([baseline.appearance, cells.appearance]))
    classes = np.concatenate([baseline.predicted, predicted])
    statistics = np.array([
        _energies(projected, groupings),
        _energies(looks, groupings),
        _share_gaps(np.eye(NUM_CLASSES)[classes], groupings),
        _share_gaps(np.concatenate([baseline.rejected, rejected])[:, None], groupings),
    ])  # fmt: skip
    p_values = _p_values(statistics)
    together = float((p_values.min(0) <= p_values[:, 0].min() + 1e-12).mean())
    own = {name: float(p_values[row, 0]) for row, name in enumerate(STATISTICS)}
    return DriftReport(
        len(cells), first, own, together, level,
        _sentences(baseline, cells, predicted, rejected, own, together <= level, level),
    )  # fmt: skip


def _require_enough(num: int, name: str) -> None:
    if num < FEWEST:
        raise ValueError(f"{name} has {num} cells; at least {FEWEST} are needed to compare")


def _rejects(rejection: Rejection | None, pool: Pool) -> NDArray[np.bool_]:
    if rejection is None:
        return np.zeros(len(pool), bool)
    return np.asarray(rejection.rejects(pool.logits), bool)


def _standardized(values: Floats) -> Floats:
    """Return values (N, k) with mean 0 and unit variance; unknown ones become the mean."""
    known = ~np.isnan(values)
    counts = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0).sum(0) / counts
    gaps = np.where(known, values - mean, 0)
    scaled: Floats = gaps / (np.sqrt((gaps**2).sum(0) / counts) + 1e-9)
    return scaled


def _projected(features: NDArray[np.float32]) -> Floats:
    """Return the principal components (N, k) of features (N, d), with unit variance."""
    left, singular, _ = np.linalg.svd(_standardized(features.astype(float)), full_matrices=False)
    width = min(WIDTH, max(1, int((singular > singular[0] * 1e-6).sum())))
    found: Floats = left[:, :width] * np.sqrt(len(features))
    return found


def _energies(points: Floats, groupings: NDArray[np.bool_]) -> Floats:
    """Return the energy distance of the two groups of points (N, k), for each grouping (P, N)."""
    squares = (points**2).sum(1)
    gaps = np.sqrt(np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0))
    new = groupings.astype(np.float64)
    old = 1 - new
    num_new, num_old = new.sum(1), old.sum(1)
    to_new = new @ gaps
    between = (to_new * old).sum(1) / (num_new * num_old)
    within_new = (to_new * new).sum(1) / num_new**2
    within_old = ((gaps.sum(0) - to_new) * old).sum(1) / num_old**2
    energies: Floats = 2 * between - within_new - within_old
    return energies


def _share_gaps(flags: NDArray[Any], groupings: NDArray[np.bool_]) -> Floats:
    """Return the chi-squared distance of the columns' shares (N, K), for each grouping (P, N)."""
    flags, new = flags.astype(np.float64), groupings.astype(np.float64)
    share_new = new @ flags / new.sum(1, keepdims=True)
    share_old = (1 - new) @ flags / (1 - new).sum(1, keepdims=True)
    overall = flags.mean(0)
    gaps: Floats = ((share_new - share_old) ** 2 / np.maximum(overall, 1 / len(flags))).sum(1)
    return gaps


def _p_values(statistics: Floats) -> Floats:
    """Return the p-value of each grouping among all groupings (S, P); ties count against it."""
    p_values = np.empty_like(statistics)
    for row, values in enumerate(statistics):
        ordered = np.sort(values)
        place = np.searchsorted(ordered, values - 1e-12, side="left")
        p_values[row] = (len(values) - place) / len(values)
    return p_values


def _sentences(
    baseline: Baseline,
    cells: Pool,
    predicted: NDArray[np.int64],
    rejected: NDArray[np.bool_],
    own: dict[str, float],
    alarm: bool,
    level: float,
) -> tuple[str, ...]:
    verdict = "differ from" if alarm else "do not differ measurably from"
    found = [
        f"The {len(cells)} cells of {cells.name} {verdict} the {len(baseline.predicted)} of "
        f"{baseline.name} at acceptance."
    ]
    if alarm:
        changed = [name for name in STATISTICS if own[name] <= level]
        found.append(
            f"Changed: {', '.join(changed)}." if changed else "No single cause stands out."
        )
        found.append(
            "Check stain, microscope and camera, then label 50 cells of the new batch and repeat "
            "`hf-wbc accept`."
        )
    old, new = baseline.rejected.mean(), rejected.mean()
    found.append(f"Rejected cells: {new:.0%}, at acceptance {old:.0%}.")
    return tuple(found)
