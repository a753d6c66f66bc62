"""The commands a user runs or submits to a cluster; thin."""
