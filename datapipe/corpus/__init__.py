"""Where videos come from: folders, WebDataset tars and manifests, on a disk or an object store."""

from datapipe.corpus.fetch import local_copy, open_source
from datapipe.corpus.listing import Corpus, corpus

__all__ = ["Corpus", "corpus", "local_copy", "open_source"]
