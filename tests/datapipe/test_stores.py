"""What a store's errors mean, where no server of that store can be had."""

import pytest

from datapipe.stores import denied, with_retries


def forbidden():
    """As `gcsfs.retry.validate_response` has it for a status of 403."""
    raise OSError("Forbidden: bucket/v.mp4\nme@x does not have storage.objects.get access")


def test_a_refusal_by_google_is_about_the_object_as_one_by_amazon_is():
    """So it is one sample's error, and ends no run; in one line."""
    with pytest.raises(PermissionError, match=r"Forbidden: bucket/v\.mp4: me@x does") as refused:
        with_retries("gs://bucket/v.mp4", forbidden)
    assert "Check the address" in str(denied("gs://bucket/v.mp4", refused.value))
