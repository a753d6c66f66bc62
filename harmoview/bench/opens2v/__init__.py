"""OpenS2V-Eval's metrics that need weights of one's own; none is ever fetched."""
