"""Networks as papers show them: tables of their stages and pictures of their blocks, both from the structure of the spec."""
