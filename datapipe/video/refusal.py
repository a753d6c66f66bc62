"""What a file is that is no video: a web page, a pointer, a picture, an MP4 without index."""

from __future__ import annotations

import codecs
import struct
from pathlib import Path

HEAD = 4096
BEGINNINGS = {
    b"version https://git-lfs": "a Git LFS pointer: the video itself was never fetched "
    "(`git lfs pull` does it)",
    b"GIF8": "a GIF picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"#EXTM3U": "a playlist: it only names other files",
    b"ID3": "sound (MP3)",
    b"fLaC": "sound (FLAC)",
    b"{": "a text in JSON, perhaps a server's error message",
}
BOXES = {b"ftyp", b"mdat", b"moov", b"free", b"wide", b"skip", b"moof", b"styp", b"uuid", b"sidx"}


def what_it_is(path: Path) -> str | None:
    """A sentence's end on a file that cannot be opened; None where nothing is known of it."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:100].lower().startswith((b"<!doctype html", b"<html", b"<head", b"<!--", b"<body")):
        return "a web page, not a video: perhaps a login or an error page was saved instead"
    if text.startswith(b"<?xml"):
        return "a text in XML, not a video: perhaps a server's error message"
    if head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"WAVE"):
        return f"{'a WebP picture' if head[8:12] == b'WEBP' else 'sound (WAVE)'}, not a video"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"heic", b"mif1"):
        return "a HEIF picture, not a video"
    for beginning, name in BEGINNINGS.items():
        if text.startswith(beginning):
            return f"{name}, not a video" if ":" not in name else name
    if head and not head.strip(b"\0"):
        return "nothing but zeros: its copy was cut short, or never written"
    return "a text, not a video" if _is_text(head) else _lost_index(path)


def _is_text(head: bytes) -> bool:
    """Of a file's first bytes, which may end within a letter."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return False
    return bool(text) and all(letter.isprintable() or letter in "\t\r\n\f" for letter in text)


def _lost_index(path: Path) -> str | None:
    """Of an MP4 whose `moov` box, written last or in another file, is not there."""
    found: list[bytes] = []
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 8 <= size and len(found) < 64:
            file.seek(place)
            length, name = struct.unpack(">I4s", file.read(8))
            if name not in BOXES:
                break
            if length == 1:
                (length,) = struct.unpack(">Q", (file.read(8) + bytes(8))[:8])
            found.append(name)
            place += length if length >= 8 else size
    if not found or b"moov" in found or b"mdat" not in found:
        return None
    if b"moof" in found:
        return "a segment of an MP4 (DASH or HLS): what it is lies in another file, its first part"
    return "an MP4 without its index (moov): the recording or the copy ended before it was written"
