"""Data: manifests, files, structures, splits and labels; never torch."""
