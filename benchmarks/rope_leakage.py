"""Jump-RoPE's gaps: how far apart identities and video must lie, computed and plotted.

    python benchmarks/rope_leakage.py [--plot leakage.png]

Needs no weights: it looks at the rotations alone. `agreement` is the mean over the 22 temporal
frequencies of Wan's heads of cos(offset x frequency), averaged over all pairs of two bands. The
share of attention is that of a query of identity 0 under the worst confusion: every token holds the
same content at the same place, so that nothing but the temporal rotation tells them apart.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harmoview.model.layout import IDENTITY_GAP, VIDEO_GAP, ReferenceLayout
from harmoview.model.rope import agreement

HEAD, TEMPORAL = 128, 44
SINKS = (88, 132, 201)
"""Offsets at which agreement peaks again; 132 and 201 are reported as frames of sink collapse."""


@dataclass(frozen=True)
class Bands:
    """The agreement of every pair of bands in a layout of two identities."""

    identities: float
    near_video: float
    far_video: float
    lowest: int

    @property
    def worst(self) -> float:
        return max(self.identities, self.near_video, self.far_video)


def measure(identity_gap: int, video_gap: int, frames: int) -> Bands:
    layout = ReferenceLayout(identity_gap=identity_gap, video_gap=video_gap)
    places = layout.positions([7, 7])
    near, far, video = places[:7], places[7:], range(frames)
    return Bands(
        agreement(near, far, TEMPORAL),
        agreement(near, video, TEMPORAL),
        agreement(far, video, TEMPORAL),
        min(far),
    )


def foreign(identity_gap: int, video_gap: int, frames: int) -> float:
    """Share of an identity 0 query's attention that goes to identity 1's slots.

    Queries and keys have unit mean square, as Wan's q and k norms leave them.
    """
    layout = ReferenceLayout(identity_gap=identity_gap, video_gap=video_gap)
    places = layout.positions([7, 7])
    near, far, video = places[:7], places[7:], range(frames)

    def mass(query: int, keys: Sequence[int]) -> float:
        spatial = 1 - TEMPORAL / HEAD
        logits = (_single(query - key) * TEMPORAL / HEAD + spatial for key in keys)
        return sum(math.exp(math.sqrt(HEAD) * logit) for logit in logits)

    shares = []
    for query in near:
        parts = [mass(query, keys) for keys in (near, far, video)]
        shares.append(parts[1] / sum(parts))
    return sum(shares) / len(shares)


@cache
def _single(offset: int) -> float:
    return agreement([0], [offset], TEMPORAL)


def closest(limit: float, frames: int, largest: int) -> tuple[int, int]:
    """The gaps of smallest sum with all bands' agreement at most `limit`; ties by the worst."""
    for total in range(2 * largest):
        fits = [
            (bands.worst, gap)
            for gap in range(total + 1)
            if (bands := measure(gap, total - gap, frames)).worst <= limit
        ]
        if fits:
            gap = min(fits)[1]
            return gap, total - gap
    raise SystemExit(f"no gaps up to {largest} bring every band under {limit}")


def plot(path: Path, frames: int, largest: int) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    gaps = range(largest + 1)
    by_gap = [measure(gap, VIDEO_GAP, frames) for gap in gaps]
    by_video = [measure(IDENTITY_GAP, gap, frames) for gap in gaps]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    left.plot(gaps, [b.identities for b in by_gap], label="identity 0 and identity 1")
    left.plot(
        gaps,
        [foreign(gap, VIDEO_GAP, frames) for gap in gaps],
        "--",
        label="attention to the other identity",
    )
    left.set(xlabel="identity gap (positions)", title=f"between identities (video gap {VIDEO_GAP})")
    left.axvline(IDENTITY_GAP, color="grey", lw=1)
    right.plot(gaps, [b.near_video for b in by_video], label="identity 0 and video")
    right.plot(gaps, [b.far_video for b in by_video], label="identity 1 and video")
    right.set(xlabel="video gap (positions)", title=f"to the video (identity gap {IDENTITY_GAP})")
    right.axvline(VIDEO_GAP, color="grey", lw=1)
    for axes in (left, right):
        axes.axhline(0.5, color="grey", lw=1, ls=":")
        axes.set(ylabel="phase agreement", ylim=(0, 1))
        axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=21, help="latent frames of the video")
    parser.add_argument("--limit", type=float, default=0.5, help="largest agreement of two bands")
    parser.add_argument("--largest", type=int, default=100, help="largest gap to look at")
    parser.add_argument("--plot", type=Path, help="write a picture (needs matplotlib)")
    options = parser.parse_args()
    chosen = closest(options.limit, options.frames, options.largest)
    rows = [(0, 0), (4, 8), (20, 30), chosen, (50, 50), (70, 70), (167, 100)]
    print("identity gap  video gap  id0-id1  id0-video  id1-video  to other id  lowest t")
    for gap, video in rows:
        b = measure(gap, video, options.frames)
        mark = f"  <- closest with all at most {options.limit}" if (gap, video) == chosen else ""
        print(
            f"{gap:>12}  {video:>9}  {b.identities:7.3f}  {b.near_video:9.3f}  "
            f"{b.far_video:9.3f}  {foreign(gap, video, options.frames):11.3f}  {b.lowest:>8}{mark}"
        )
    peaks = ", ".join(f"{sink}: {agreement([0], [sink], TEMPORAL):.2f}" for sink in SINKS)
    print(f"agreement of single offsets that gaps should not make common: {peaks}")
    if options.plot:
        plot(options.plot, options.frames, options.largest)


if __name__ == "__main__":
    main()
