"""Making views: the mesh engine, virtual subjects, and the FLUX.1 Kontext LoRA."""
