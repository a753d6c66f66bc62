"""Making views: three rooms of code that renders or learns, and the pairs that lie between them.

`mesh` renders people: a portrait lifted onto a textured head. It stands in for FLUX where there is
no GPU, and `subjects`, virtual people who turn their heads, are made with it, so that the exact yaw
of every frame is known.

`acquire` finds the frames at the canonical yaws in clips of people who turn their heads, and makes
training pairs of them (`pairs.py`).

`flux` trains the view-synthesis LoRA of FLUX.1 Kontext on such pairs, and makes views with it.
"""
