"""dlc: describe a neural network and its training in one short text file, compile it, run it."""
