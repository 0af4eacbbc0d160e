"""Compare finished runs: tables, statistics, selection rules, and the HTML report."""
