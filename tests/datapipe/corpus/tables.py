"""Tables of rows, written in every form that a manifest may have."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def write_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_tsv(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


WRITERS = {
    ".parquet": write_parquet, ".jsonl": write_jsonl, ".csv": write_csv, ".tsv": write_tsv,
}  # fmt: skip


every_form = pytest.mark.parametrize("suffix", WRITERS)
