"""What a call, a plan and an outcome are: standard library only, no I/O, no clock of its own."""
