"""Recognise files that are not audio."""

import os
import re
from typing import BinaryIO

MAGIC = {  # first bytes -> what it is
    b"%PDF": "a PDF document",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"version https://git-lfs": "a Git LFS pointer: git lfs pull",
}
WEB_PAGE = re.compile(
    rb"\s*(<!--.*?-->\s*)*<(!doctype html|html|head|body)\b", re.I | re.S
)


def look(f: BinaryIO) -> str | None:
    """Return what an open file looks like ("a web page"), or None.

    The position in the file stays.
    """
    head = f.read(4096)
    f.seek(-len(head), os.SEEK_CUR)
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    text = head.removeprefix(b"\xef\xbb\xbf")
    if WEB_PAGE.match(text):
        return "a web page"
    if not head:
        return "an empty file"
    if b"\0" not in head and _is_text(text):
        return "text"
    return None


def _is_text(content):
    try:
        found = content.decode()
    except UnicodeDecodeError as e:
        if e.start < len(content) - 3:  # else the last character is incomplete
            return False
        found = content[: e.start].decode()
    return all(c.isprintable() or c.isspace() for c in found)
