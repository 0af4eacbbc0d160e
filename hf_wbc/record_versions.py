"""The version of a run's record, and how older records are read: with today's keys."""

from collections.abc import Mapping
from typing import Any

RECORD_VERSION = 2
"""Version of the format of `record.json`; older versions are read too (`upgrade_record`)."""
_RENAMED_KEYS = {
    "misfit": "label_shift_ks",
    "misfit_limit": "label_shift_ks_limit",
    "num_unlabelled": "num_unlabeled",
}
"""Keys of numbers in records of version 1 -> today's keys."""


def upgrade_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record in today's format.

    The configuration is left as it was recorded: `TrainConfig.from_record` reads every form of it.

    Raises:
        ValueError: If a newer hf_wbc wrote the record, or if it has no valid version; the message
            starts with "has version".
    """
    version = record.get("version")
    if not isinstance(version, int) or not 1 <= version <= RECORD_VERSION:
        is_newer = isinstance(version, int) and version > RECORD_VERSION
        remedy = "update hf_wbc" if is_newer else "use the hf_wbc that wrote it"
        raise ValueError(
            f"has version {version!r}, but this hf_wbc reads 1 to {RECORD_VERSION}; {remedy}"
        )
    if version == RECORD_VERSION:
        return dict(record)
    found: dict[str, Any] = {**_rename_keys(record), "version": RECORD_VERSION}
    selection = found.get("selection")
    if isinstance(selection, dict) and selection.get("sees") == "unlabelled target":
        selection["sees"] = "unlabeled target"
    if isinstance(history := found.get("history"), list):
        found["history"] = [upgrade_history_row(row) for row in history]
    return found


def upgrade_history_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return one evaluation of a run with today's keys."""
    return {"unlabeled" if name == "unlabelled" else name: value for name, value in row.items()}


def _rename_keys(value: Any) -> Any:
    """Return JSON values in which the keys of numbers have today's names, at any depth."""
    if isinstance(value, list):
        return [_rename_keys(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    return {
        name if isinstance(each, Mapping) else _RENAMED_KEYS.get(name, name): _rename_keys(each)
        for name, each in value.items()
    }
