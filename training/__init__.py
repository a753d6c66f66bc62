"""What both trainers share: devices, processes, metrics."""
