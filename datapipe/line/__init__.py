"""The line: stages run over a corpus on Ray or in one process, and recorded."""
