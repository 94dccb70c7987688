"""Compiler: from a dlspec text to compiled kernels and the plan that runs them."""
