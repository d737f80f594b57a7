"""Person search: a detector and a re-ID model together, measured on frames with identities."""
