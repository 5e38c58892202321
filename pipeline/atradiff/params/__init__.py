"""params.yaml: its schema, its presets, reading it, writing it, and what to say when it is wrong."""
