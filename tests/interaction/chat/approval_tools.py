"""Tools on which humans decide."""

from sidecall import tool


@tool(effects="read_only")
async def quote(item: str) -> dict[str, object]:
    """Says what an item costs."""
    return {"item": item, "price": 7}


@tool(approval="required")
async def pay(price: int, currency: str = "EUR") -> str:
    """Pays."""
    return f"paid {price} {currency}"


@tool(approval="required")
async def ship(item: str) -> str:
    """Ships."""
    return f"shipped {item}"
