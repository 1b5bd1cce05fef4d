"""Runs batches: registry, admission, scheduler."""
