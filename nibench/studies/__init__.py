"""Studies: the questions that the suite asks of itself."""
