"""Dataset formats on disk: readers that need the standard library only."""
