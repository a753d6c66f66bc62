"""How the files that make up a corpus are named."""

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
MANIFESTS = (".parquet", ".jsonl", ".csv")
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
COMPRESSED_MANIFESTS = tuple(f"{kind}{by}" for kind in MANIFESTS for by in (".gz", ".bz2", ".zst"))
