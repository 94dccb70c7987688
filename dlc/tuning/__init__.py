"""Measured search over the choices that cost models make: `dlc tune`."""
