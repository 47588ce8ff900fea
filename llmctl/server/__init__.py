"""The HTTP application in front of every engine."""
