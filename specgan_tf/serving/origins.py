"""Which web pages may use the server: its own, and those of --cors.

Any web page that is open on this machine can send requests to 127.0.0.1. Browsers hide
the answers from the page, but the server would still compute them.
"""

from urllib.parse import urlsplit

from starlette.requests import Request

from .protocol import Refused, brief


def refuse_foreign_page(request: Request, allowed: list[str]) -> None:
    """Refuse requests from other sites' pages, by headers that pages cannot change.

    Args:
      allowed: origins, such as http://localhost:3000, or "*" for all.

    Raises:
      Refused: the request comes from a page of another origin that is not allowed.
    """
    headers = request.headers
    origin = headers.get("origin") or origin_of(headers.get("referer", ""))
    if "*" in allowed or origin in allowed:
        return
    site = headers.get("sec-fetch-site")
    if site in ("same-origin", "none"):  # none: the user typed the address
        return
    if site is None:  # not a browser, or an old one
        own = f"{request.url.scheme}://{headers.get('host')}"
        if headers.get("origin", own) == own:
            return
    elif request.method == "GET" and headers.get("sec-fetch-dest") == "document":
        return  # the user follows a link
    page = brief(origin) if origin else "another site"
    raise Refused(403, f"pages of {page} may not use this server (--cors ORIGIN)")


def origin_of(url: str) -> str | None:
    """The origin of a URL, or None."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else None
