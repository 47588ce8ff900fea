"""The glue between recipes and TRL, PEFT and transformers; imported by a stage when it runs."""
