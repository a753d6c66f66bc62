"""What fails while a run's tables are read is told as such, wherever it fails."""

import pytest

from datapipe.errors import UserError
from datapipe.run.tables import next_rows, tables
from tests.datapipe.runs import TinyRun


@pytest.fixture
def tiny(tmp_path):
    run = TinyRun(tmp_path)
    run.add("a")
    run.save()
    return run


def read_through(tiny, query):
    """All rows of a query that is streamed."""
    with tables(tiny.folder, tiny.info) as connection:
        reader = connection.sql(query).to_arrow_reader(5000)
        while next_rows(reader) is not None:
            pass


def test_what_fails_in_the_middle_of_a_table_is_told_as_at_its_beginning(tiny):
    """It is no OSError, which pack would take for one of writing."""
    late = "SELECT CASE WHEN i = 5000000 THEN error('{}') ELSE i END FROM range(9000000) r(i)"
    with pytest.raises(UserError, match=r"cannot be read: .*boom"):
        read_through(tiny, late.format("boom"))


def overfill(tiny):
    """A table larger than all that duckdb may use."""
    with tables(tiny.folder, tiny.info) as connection:
        connection.execute("SET memory_limit = '10MB'; SET max_temp_directory_size = '1MB'")
        connection.execute("CREATE TABLE large AS SELECT md5(i::VARCHAR) FROM range(1000000) r(i)")


def test_too_little_memory_is_not_called_a_damaged_table(tiny):
    """The message says what was full and what to do, without duckdb's advice, nobody's to take."""
    with pytest.raises(UserError, match=r"not enough for the tables of .*; point TMPDIR") as told:
        overfill(tiny)
    assert "\n" not in str(told.value)
