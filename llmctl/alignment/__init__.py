"""What a model is aligned with: one file per objective of `llmctl dpo`."""
