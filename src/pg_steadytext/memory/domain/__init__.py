"""What the service means, without a driver, a framework or a clock of its own."""
