"""The typed run config: schema and validation. No torch."""
