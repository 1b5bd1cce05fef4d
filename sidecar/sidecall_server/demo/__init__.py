"""Tools and a scripted conversation for `sidecall demo`. They work from an installed package."""
