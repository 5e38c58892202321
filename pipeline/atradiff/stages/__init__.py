"""The offline stages, one file each: what dvc.yaml runs, in its order."""
