"""The version, alone in a file so that building the package imports nothing else."""

version = "0.1.0"
