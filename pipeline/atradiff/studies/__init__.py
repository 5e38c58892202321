"""Studies: grids of online runs that answer one question each, resumable, measured and drawn in the same way."""
