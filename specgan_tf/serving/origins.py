"""Which pages in a browser may use the server: its own, and those of --cors.

Any page that its user looks at can send requests to 127.0.0.1. The same-origin policy
keeps their answers from it, and not the requests from the server, which would compute.
"""

from urllib.parse import urlsplit

from .protocol import Refused, brief


def refuse_foreign_page(request, allowed):
    """Browsers say which site a request comes from; pages cannot change that.

    Args:
      allowed: origins, such as http://localhost:3000, or "*" for all.

    Raises:
      Refused: it comes from a page of another origin that is not allowed.
    """
    headers = request.headers
    origin = headers.get("origin") or origin_of(headers.get("referer", ""))
    if "*" in allowed or origin in allowed:
        return
    site = headers.get("sec-fetch-site")
    if site in ("same-origin", "none"):  # none: its user typed the address
        return
    if site is None:  # no browser, or an old one
        own = f"{request.url.scheme}://{headers.get('host')}"
        if headers.get("origin", own) == own:
            return
    elif request.method == "GET" and headers.get("sec-fetch-dest") == "document":
        return  # a link that its user follows
    page = brief(origin) if origin else "another site"
    raise Refused(403, f"pages of {page} may not use this server (--cors ORIGIN)")


def origin_of(url):
    """The origin of a URL, or None."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else None
