"""Tasks, statistics and gates of `eval`."""
