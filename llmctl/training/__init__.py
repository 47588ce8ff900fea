"""The glue between recipes and TRL, PEFT and transformers; imported by a stage when it runs."""

from llmctl.training.quiet import hush

hush()  # before peft brings bitsandbytes, which warns that it could fetch kernels from a hub
