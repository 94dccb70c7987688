"""The commands of the command line, one module each: a `command`, imported when it is called for."""
