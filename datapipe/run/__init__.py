"""The run folder: settings, candidates, ledger, and the lock that keeps one writer."""
