"""`hf-wbc doctor`: what this machine has, and what to do about what it lacks."""

from pathlib import Path


def doctor(work: Path = Path(), to: str | None = None) -> int:
    """Look at versions, disk, memory, cores, CPU and GPU, and the Hub: endpoint, token, rights.

    The exit status is 1 when something has to be done.

    Args:
        work: The folder in which prepared data and runs will lie.
        to: Where you mean to publish, org/name: whether your token may, and whether by xet.
    """
    from rich.console import Console
    from rich.table import Table

    from hf_wbc.hub.doctor import examine, examine_hub

    table = Table("", "what", "found", "what to do")
    findings = [*examine(work), *examine_hub(to)]
    for finding in findings:
        sign = "[yellow]![/]" if finding.remedy else "[green]ok[/]"
        table.add_row(sign, finding.name, finding.value, finding.remedy)
    Console().print(table)
    return int(any(finding.remedy for finding in findings))
