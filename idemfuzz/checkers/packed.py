"""Bytes that hold something else: text, gzip, zlib, zip, pickle. Read to look inside, and never run."""

from __future__ import annotations

import base64
import binascii
import io
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

_LENGTH_MAX = 1 << 16
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/_-]{4})+(?:[A-Za-z0-9+/_-]{2}==|[A-Za-z0-9+/_-]{3}=)?\Z")
_PICKLE_LAYOUT = frozenset({"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"})


def unpacked(content: bytes) -> Any:
    """What bytes say, as a plain value; None if they say nothing that is known, or too much."""
    if len(content) > _LENGTH_MAX:
        return None
    if content[:2] == b"\x1f\x8b" or (content[:1] == b"\x78" and content[1:2] in b"\x01\x5e\x9c\xda"):
        return _inflated(content)
    if content[:4] == b"PK\x03\x04":
        return _zipped(content)
    if content[:1] == b"\x80" and content[-1:] == b".":
        return _pickled(content)
    return text_of(content)


def unpacked_text(text: str) -> Any:
    """What base64 says, if it is a JSON document or a packed one; None for any other text."""
    if len(text) > _LENGTH_MAX or not _BASE64.match(text):
        return None
    try:
        content = base64.b64decode(text, altchars=b"-_" if re.search("[-_]", text) else None, validate=True)
    except binascii.Error:
        return None
    said = unpacked(content)
    return None if isinstance(said, str) and not (said[:1] in "[{" and said[-1:] in "]}") else said


def text_of(content: bytes) -> str | None:
    """Bytes as the text that they are, if they are one."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text


def _inflated(content: bytes) -> Any:
    """All members, one after the other: what is appended to a gzip file is one more."""
    parts, size = [], 0
    while content:
        stream = zlib.decompressobj(wbits=47)
        try:
            part = stream.decompress(content, _LENGTH_MAX)
        except zlib.error:
            return None
        size += len(part)
        if not stream.eof or size > _LENGTH_MAX:
            return None
        parts.append(part)
        content = stream.unused_data
    whole = b"".join(parts)
    return {"packed": text_of(whole) or whole}


def _zipped(content: bytes) -> Any:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > _LENGTH_MAX:
                return None
            return [(member.filename, archive.read(member)) for member in members]
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, ValueError, EOFError, OSError):
        # Encrypted, packed by a method that is not here, or no archive at all.
        return None


def _pickled(content: bytes) -> Any:
    """The instructions of a pickle with what they load; none of them is carried out."""
    try:
        # By number, so that each has its own place: what is made up at one is none of the others' business.
        return {f"at{number}": what for number, what in enumerate(_instructions(content))}
    except (ValueError, IndexError, UnicodeDecodeError):
        return None


def _instructions(content: bytes) -> Iterator[Any]:
    for code, argument, _ in pickletools.genops(content):
        if code.name in _PICKLE_LAYOUT:
            continue
        yield code.name if argument is None else argument
