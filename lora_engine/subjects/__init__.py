"""Virtual subjects: invented people who turn their heads, with the exact pose of every frame.

They stand in for head-rotation clips of real people where there are none, and they are the source
of exact yaw: the mesh engine renders them, so the yaw, pitch, roll and landmarks of every frame are
known and need not be estimated.
"""
