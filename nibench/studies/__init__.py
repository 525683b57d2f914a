"""Studies: the suite's own questions, answered from records."""
