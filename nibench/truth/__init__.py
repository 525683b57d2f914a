"""Models, grammars and files in which the right answer is known."""
