"""The mesh engine: a portrait lifted onto a textured head and rendered at any yaw, on a CPU.

It stands in for FLUX where there is no GPU, in demos and in tests, and it is the source of exact
yaw: what it renders is turned by just the angle that was asked for, so estimators and models can be
measured against the truth. Its people look rendered, not photographed.

Read `engine`, then `studio`, which leads through the rest: `portrait` (landmarks and masks), `fit`
(the shape), `texture`, `hair`, `head`, `light`, `render`. `anatomy` and `geometry` lie below.
"""
