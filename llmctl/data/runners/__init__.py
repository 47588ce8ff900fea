"""Where the heavy parts of a data stage run: in this process, or on a cluster."""
