"""What can be built, and with which weights: search spaces, blocks, counts; torch only in `networks`, `training`, `export`."""
