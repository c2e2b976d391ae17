"""The rows of threats.md that need a world of their own: a life each, named `test_threat_NN_<fact>` after its row.

`table` knows all 85 rows; `sharefs` is a file server that misbehaves when told to; `share` mounts it.
"""
