"""Proximal policy optimisation in small pieces: TRL has no PPO any more."""
