"""Learning: what trains a potential, on which labels."""
