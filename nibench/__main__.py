"""``python -m nibench`` is the command line."""

from nibench.cli import main

main()
