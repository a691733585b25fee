"""Results: the table of errors and the run folders it is read from; pandas alone, never torch."""
