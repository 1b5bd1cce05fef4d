"""The demonstration's tools, to serve and to try out.

    sidecall serve --tools examples/city_tools.py
    sidecall call get_weather '{"location": "Tokyo"}'

They are defined in sidecar/sidecall_server/demo/city_tools.py, so that `sidecall demo` finds
them in an installed package too. Tools that a file imports are served like its own.
"""

from sidecall_server.demo.city_tools import (
    find_contact,
    get_news,
    get_time,
    get_weather,
    send_postcard,
)

__all__ = ["find_contact", "get_news", "get_time", "get_weather", "send_postcard"]
