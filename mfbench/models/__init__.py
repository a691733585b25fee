"""Models: what gives energies and forces of a block of structures."""
