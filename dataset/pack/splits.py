"""Packing by person: into splits that share nobody, or into one folder with a cap."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from datapipe.files import Folder
from datapipe.run.info import load_info
from dataset.judged import AppliedRules
from dataset.pack.card import data_card
from dataset.pack.manifest import CARD, NAME, PACKING, REPORT, Manifest, SplitsManifest
from dataset.pack.pack import Limits, Show, explained, pack, put_all
from dataset.pack.resume import begin
from dataset.people.choose import Chosen


def pack_chosen(
    run: Folder,
    out: Folder,
    rules: AppliedRules,
    limits: Limits,
    chosen: Chosen,
    show: Show,
    *,
    skip_damaged: bool = False,
) -> dict[str | None, Manifest]:
    """Pack what was chosen, with the report beside it; the manifests by split.

    Splits go into `out/train` and `out/validation`, each a folder of shards of its own; the
    manifest above them comes last. Raises UserError as `pack` does.
    """
    files = {REPORT: chosen.report}
    if None in chosen.selections:
        selection = replace(chosen.selections[None], files=files)
        manifest = pack(
            run, out, rules, limits, show, skip_damaged=skip_damaged, selection=selection
        )
        return {None: manifest}
    try:
        begin(out, "splits")
        manifests: dict[str | None, Manifest] = {
            split: pack(
                run,
                out.folder(str(split)),
                rules,
                limits,
                show,
                skip_damaged=skip_damaged,
                selection=selection,
            )
            for split, selection in chosen.selections.items()
        }
        hashes = {
            str(split): hashlib.sha256(out.read(f"{split}/{NAME}")).hexdigest()
            for split in manifests
        }
        splits = SplitsManifest(hashes, chosen.described, put_all(out, files))
        out.put(CARD, data_card(load_info(run), manifests).encode())
        splits.write(out)
        for name in (PACKING, *(f"{split}/{PACKING}" for split in manifests)):
            out.delete(name)
    except OSError as wrong:
        raise explained(wrong, out) from wrong
    return manifests
