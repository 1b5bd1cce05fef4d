"""Adapters of core events and clocks to the outside."""
