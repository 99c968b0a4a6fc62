"""What every stage stands on: files, locks, devices, messages, provenance."""
