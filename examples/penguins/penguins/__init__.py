"""The helpers of the penguin pipeline."""
