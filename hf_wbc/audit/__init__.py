"""The audit of prepared datasets: what is in them that a score would not show.

`read` decodes every frame once; the other files each answer one question about what was read, and
`findings` says which answers are news: not declared by the dataset's source.
"""
