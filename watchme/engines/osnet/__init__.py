"""OSNet person re-identification models, trained by an explicit loop over torchreid's models."""
