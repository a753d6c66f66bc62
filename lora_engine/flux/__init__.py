"""The FLUX.1 Kontext engine: LoRA training on head-rotation pairs, and synthesis of seven views."""
