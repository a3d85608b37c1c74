"""Command lines: each reads its arguments, calls one function of the library and prints the result."""
