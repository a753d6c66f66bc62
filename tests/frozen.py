"""Imported when all else has been: what is there now is left out of every collection of garbage.

With torch imported a full collection takes half a second otherwise, and the tests make hundreds.
"""

import gc

gc.collect()
gc.freeze()
