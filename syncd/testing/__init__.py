"""What third parties and our own tests use: a clock that never sleeps, the connectors' suite."""
