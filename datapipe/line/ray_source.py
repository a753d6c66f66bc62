"""The corpus as a Ray Data source: one task lists it, one block per sample, as it goes."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from datapipe.errors import UserError
from datapipe.record import Sample


class CorpusSource(Datasource):  # type: ignore[misc]  # Ray ships no types
    """Streams a listing, so that work starts with the first sample and nothing holds them all."""

    def __init__(self, listing: Callable[[], Iterable[Sample]]) -> None:
        self._listing = listing

    def get_name(self) -> str:
        return "Corpus"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        listing = self._listing

        def read() -> Iterator[pa.Table]:
            try:
                for sample in listing():
                    yield _block("", pickle.dumps(sample))
            except UserError as wrong:
                yield _block(str(wrong))
            except Exception:  # noqa: BLE001 - Ray would drop the rest of the corpus without a word
                yield _block(
                    f"the corpus could not be listed to its end:\n{traceback.format_exc()}"
                    "What came before it is recorded; run the same command again: it continues"
                )

        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(read, unknown)]


def _block(failure: str, sample: bytes = b"") -> pa.Table:
    """One row as the line's workers take it: a sample, or what ends the run."""
    return pa.table({"failure": [failure], "sample": [sample]})
