"""Audit of prepared datasets: properties that a score does not reveal.

`measure` decodes every frame once. `leaks` and `confounds` derive findings from these measurements,
`composition` and `embedding` describe the data, `run` combines them and `report` writes the result.
"""
