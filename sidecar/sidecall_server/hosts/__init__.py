"""Applications that attach and run calls of their own tools."""
