"""What each stage does: one `run(recipe, artifact)` per file."""
