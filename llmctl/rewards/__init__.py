"""What an answer is worth: one file per kind of reward of `llmctl dpo`'s online objectives."""
