"""What is recorded for replays, file by file, for who asks from another machine."""

import asyncio
from pathlib import Path
from typing import Any

from msgspec import Struct

from holdfast_collector.context import Context
from holdfast_collector.samples.files import FOLDER, files
from holdfast_collector.web.problem import Problem


class SampleFileShape(Struct, frozen=True, kw_only=True):
    """One file, to be had under its name."""

    name: str
    since: float
    bytes: int


async def samples(context: Context) -> Any:
    """The files there are, the oldest first."""
    found = await asyncio.to_thread(files, _folder(context))
    return {"files": [SampleFileShape(name=path.name, since=at, bytes=size) for at, path, size in found]}


async def sample_file(context: Context, name: str) -> bytes:
    """A file's content. Raises Problem."""
    found = {path.name: path for _, path, _ in await asyncio.to_thread(files, _folder(context))}
    try:
        return await asyncio.to_thread(found[name].read_bytes)
    except (KeyError, FileNotFoundError):
        raise Problem(404, f"no samples {name[:100]!r} are kept, or not any more") from None
    except OSError as error:
        raise Problem(503, f"the samples cannot be read: {error.strerror}") from error


def _folder(context: Context) -> Path:
    return Path(context.config.data_dir) / FOLDER
