"""Person-search datasets: frames with boxes and identities, and queries."""
