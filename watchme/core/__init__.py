"""What every part shares: errors, the interfaces and registry of engines, metric names, devices."""
