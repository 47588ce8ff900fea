"""What may be asked of each stage: pydantic classes only, no work."""
