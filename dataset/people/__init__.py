"""Who is who over a whole run: neighbours, clusters, caps per person, the held-out split."""
