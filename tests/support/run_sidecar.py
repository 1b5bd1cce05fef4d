"""Serves with the settings of the environment, as the command line does."""

import logging

import uvloop

from sidecall_server import app, config

if __name__ == "__main__":
    settings = config.load({})
    logging.basicConfig(
        level=settings.log_level, format="%(levelname)s %(name)s %(message)s", force=True
    )
    uvloop.run(app.serve(settings))
