"""`hf-wbc doctor`: check this machine and its access to the Hub."""

from pathlib import Path


def doctor(work: Path = Path(), to: str | None = None) -> int:
    """Check versions, disk, memory, CPU, GPU, and access to the Hub.

    Example: hf-wbc doctor --to org/wbc-vit

    The exit status is 1 if something needs to be fixed.

    Args:
        work: The folder that will contain prepared data and runs.
        to: Also check whether your token may publish to this repository, org/name.
    """
    from rich.table import Table
    from rich.text import Text

    from hf_wbc.cli.display import plain_console
    from hf_wbc.hub.doctor import examine, examine_hub

    table = Table("", "check", "found", "to do")
    findings = [*examine(work), *examine_hub(to)]
    for finding in findings:
        sign = Text("!", "yellow") if finding.remedy else Text("ok", "green")
        table.add_row(sign, finding.name, finding.value, finding.remedy)
    plain_console().print(table)
    return int(any(finding.remedy for finding in findings))
