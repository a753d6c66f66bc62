"""From clips of people turning their heads to training pairs: one frame for each canonical yaw."""
