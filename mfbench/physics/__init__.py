"""Physical checks: what a model does that test errors do not show."""
