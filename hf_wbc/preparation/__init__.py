"""Preparation of datasets: from a downloaded archive to a folder that `datasets` loads."""
