"""Rules about calls: admission policies and layers, one per file, ordered in `build`."""
