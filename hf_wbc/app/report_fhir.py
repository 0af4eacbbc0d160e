"""A report as FHIR R4 resources, for import into a laboratory's information system.

A Bundle holds one DiagnosticReport and an Observation per class (https://hl7.org/fhir/R4). The
codes are those of the LOINC panel 24318-8, "Manual Differential panel - Blood", and of nucleated
red cells per 100 leukocytes, all without a method, because a model proposes and a person decides.
Codes and names were compared with the members of that panel at https://loinc.org/24318-8 and with
the value set of complete blood counts in HL7's mCODE; LOINC's names end in `/Leukocytes in Blood`
since 2025, and in `/100 leukocytes in Blood` before.
The status is `final` only if a reviewer has signed.
"""

from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from hf_wbc.app.count import CountRow
from hf_wbc.app.sample_report import RESEARCH_USE, ReportRow, SampleReport
from hf_wbc.taxonomy import NAMES

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
_HL7 = "http://terminology.hl7.org/CodeSystem/"
PANEL = ("24318-8", "Manual Differential panel - Blood")
CODES: Mapping[str, tuple[str, str]] = {
    "neutrophil_segmented": ("26505-8", "Segmented neutrophils/Leukocytes in Blood"),
    "neutrophil_banded": ("26508-2", "Band form neutrophils/Leukocytes in Blood"),
    "lymphocyte_typical": ("26478-8", "Lymphocytes/Leukocytes in Blood"),
    "monocyte": ("26485-3", "Monocytes/Leukocytes in Blood"),
    "eosinophil": ("26450-7", "Eosinophils/Leukocytes in Blood"),
    "basophil": ("30180-4", "Basophils/Leukocytes in Blood"),
    "metamyelocyte": ("28541-1", "Metamyelocytes/Leukocytes in Blood"),
    "myelocyte": ("26498-6", "Myelocytes/Leukocytes in Blood"),
    "promyelocyte": ("26524-9", "Promyelocytes/Leukocytes in Blood"),
    "myeloblast": ("26446-5", "Blasts/Leukocytes in Blood"),
    "erythroblast": ("19048-8", "Nucleated erythrocytes/Leukocytes [Ratio] in Blood"),
}
"""LOINC code and display of each class."""
MARKS = {"high": ("H", "High"), "low": ("L", "Low"), "": ("N", "Normal")}


def fhir_bundle(report: SampleReport) -> dict[str, Any]:
    """Return the report as a FHIR R4 Bundle, as JSON values.

    Raises:
        ValueError: If no white cell is counted.
    """
    if report.count is None:
        raise ValueError("no white cell is counted, so there is nothing to export; name the cells")
    seed = f"{report.facts.sample} {report.made.isoformat()}"
    rows = [*report.rows, ReportRow(report.count.nrbc, None)]
    observations = [
        (_urn(seed, NAMES[each.row.label]), _observation(report, each)) for each in rows
    ]
    head = {
        "resourceType": "DiagnosticReport",
        **_shared(report),
        "category": _category("v2-0074", "HM", "Hematology"),
        "specimen": [{"display": report.facts.sample}],
        "code": _code(*PANEL),
        "result": [{"reference": urn} for urn, _ in observations],
        "conclusion": " ".join([*report.count.flags, RESEARCH_USE]),
    }
    if report.facts.reviewer:
        head["resultsInterpreter"] = [{"display": report.facts.reviewer}]
    entries = [(_urn(seed, "report"), head), *observations]
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": report.made.isoformat(timespec="seconds"),
        "entry": [{"fullUrl": urn, "resource": resource} for urn, resource in entries],
    }


def _observation(report: SampleReport, each: ReportRow) -> dict[str, Any]:
    row, is_red = each.row, NAMES[each.row.label] == "erythroblast"
    unit = "/100{WBCs}" if is_red else "%"
    found = {
        "resourceType": "Observation",
        **_shared(report),
        "category": _category("observation-category", "laboratory", "Laboratory"),
        "specimen": {"display": report.facts.sample},
        "code": _code(*CODES[NAMES[row.label]]),
        "valueQuantity": _quantity(100 * row.fraction, unit),
        "method": {"text": f"Image classifier {report.model}; {report.reviewed}"},
        "note": [{"text": _note(row)}],
    }
    if each.range is not None:
        found["referenceRange"] = [
            {
                "low": _quantity(each.range.low, unit),
                "high": _quantity(each.range.high, unit),
                "text": each.range.source,
            }
        ]
        code, display = MARKS[each.mark]
        found["interpretation"] = _category("v3-ObservationInterpretation", code, display)
    return found


def _shared(report: SampleReport) -> dict[str, Any]:
    """The elements that the report and its observations share."""
    return {
        "status": "preliminary" if report.facts.signed is None else "final",
        "issued": (report.facts.signed or report.made).isoformat(timespec="seconds"),
    }


def _note(row: CountRow) -> str:
    text = f"{row.counted} cells, {row.named} of them named by a person."
    if row.estimate is not None:
        bounds = f"{100 * row.estimate.low:.1f} to {100 * row.estimate.high:.1f}"
        text += f" Estimated {100 * row.estimate.fraction:.1f} (95 % interval {bounds})."
    return text


def _category(system: str, code: str, display: str) -> list[dict[str, Any]]:
    return [{"coding": [{"system": f"{_HL7}{system}", "code": code, "display": display}]}]


def _code(code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": LOINC, "code": code, "display": display}], "text": display}


def _quantity(value: float, unit: str) -> dict[str, Any]:
    return {"value": round(value, 1), "unit": unit, "system": UCUM, "code": unit}


def _urn(seed: str, name: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_URL, f'{seed} {name}')}"
