"""What came of a pack, in sentences."""

from __future__ import annotations

from dataset.pack.manifest import Manifest


def print_packed(manifest: Manifest, where: str) -> None:
    """Print how much was packed, and what was left out."""
    totals = manifest.totals
    print(
        f"packed {totals.samples:,} of {totals.candidates:,} candidates into {where}: "
        f"identities {totals.identities:,}, views {sum(totals.views.values()):,}, "
        f"shards {len(manifest.shards):,}, {totals.bytes / 1e6:,.1f} MB"
    )
    if totals.over_cap:
        print(f"left out as too many of a person: {totals.over_cap:,}")
    if totals.skipped:
        skipped = (f"{count:,} for their {what}" for what, count in totals.skipped.items())
        print(f"skipped: {', '.join(skipped)}")


def print_people(manifest: Manifest, where: str) -> None:
    """Print who is in several videos."""
    found = manifest.selection
    print(
        f"of {found['identities']:,} identities, {found['people_in_several_videos']:,} people are "
        f"in several videos ({found['videos_of_these']:,} videos; cosine "
        f"{found['same_person']:g} by {found['recogniser']}): {where}/identities.jsonl"
    )
