"""`python -m dlc`: the same as the command `dlc`."""

from dlc.cli import main

main()
