"""Makes the helper modules beside it importable, which importlib mode does not."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)  # tiny models only lose by more
