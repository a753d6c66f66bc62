"""Finding, describing and comparing faces, behind one interface with two backends."""
