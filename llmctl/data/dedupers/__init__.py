"""Rows -> kept and dropped, each dropped row with its kept twin."""
