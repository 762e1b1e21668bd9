"""The course of a run: when snapshots are taken, what they cost, and where they go, whatever the training loop."""
