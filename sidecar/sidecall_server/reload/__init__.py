"""Tools and their policies are replaced while the sidecar serves."""
